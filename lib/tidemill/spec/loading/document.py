"""YAML text → nodes that keep file and line: no tags, no duplicate keys, bounded size, depth and aliases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from tidemill.errors import Fault, UsageError

Scalar = None | bool | int | float | str
Key = str | int

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {text: text.lower() == "true" for text in ("true", "True", "TRUE", "false", "False", "FALSE")}
_WHOLE = (  # bounded: Python refuses to read very long ones
    (re.compile(r"[-+]?[0-9]{1,1000}"), 10),
    (re.compile(r"0o[0-7]{1,1000}"), 8),
    (re.compile(r"0x[0-9a-fA-F]{1,1000}"), 16),
)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = frozenset({".nan", ".NaN", ".NAN"})


def parse_scalar(text: str) -> Scalar:
    """Parse a plain scalar by YAML 1.2's core schema: null, true, false, numbers; everything else is text.

    ``on``, ``off``, ``yes``, ``no`` and dates are text, unlike in YAML 1.1.
    Source: YAML 1.2.2, section 10.3.2.
    """
    if text in _NULL:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    for pattern, base in _WHOLE:
        if pattern.fullmatch(text):
            return int(text, base)
    if _INFINITE.fullmatch(text) or text in _NAN:
        return float(text.replace(".", "", 1))
    return float(text) if _FLOAT.fullmatch(text) else text


@dataclass(frozen=True)
class Node:
    """One value: a scalar, a mapping of nodes or a list of nodes.

    ``line`` is the line of the key or of the list item. ``text`` is a scalar as it was
    written. ``origin`` is the text before variables were substituted; ``is_open`` marks a value with an unknown variable.
    """

    value: Scalar | dict[str, Node] | list[Node]
    file: str
    line: int | None = None
    text: str | None = None
    origin: str | None = None
    is_open: bool = False

    @property
    def mapping(self) -> dict[str, Node]:
        """The entries of a mapping; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The items of a list; empty for anything else."""
        return self.value if isinstance(self.value, list) else []

    @property
    def string(self) -> str | None:
        """The value if it is text without unknown variables, else None."""
        return self.value if isinstance(self.value, str) and not self.is_open else None

    @property
    def strings(self) -> list[str]:
        """The items that are text."""
        return [item.string for item in self.items if item.string is not None]

    def at(self, *path: Key) -> Node | None:
        """Return the node below ``path``, or None."""
        node: Node | None = self
        for key in path:
            if node is None:
                return None
            node = node.child(key)
        return node

    def string_at(self, *path: Key) -> str | None:
        """Return the text below ``path``, or None."""
        node = self.at(*path)
        return node.string if node else None

    def entries_at(self, *path: Key) -> dict[str, Node]:
        """Return the entries of the mapping below ``path``; none where there is no such thing."""
        node = self.at(*path)
        return node.mapping if node else {}

    def child(self, key: Key) -> Node | None:
        """Return the entry or item called ``key``, or None."""
        if isinstance(key, str):
            return self.mapping.get(key)
        items = self.items
        return items[key] if 0 <= key < len(items) else None

    def nearest(self, key: str) -> Node:
        """Return the node of a dotted key, or the innermost block around it; a part may be a dotted name itself."""
        node, parts = self, key.split(".") if key else []
        while parts:
            part = next((part for size in range(1, len(parts) + 1) if (part := ".".join(parts[:size])) in node.mapping), parts[0])
            child = node.child(int(part) if isinstance(node.value, list) and part.isdecimal() else part)
            if child is None:
                break
            node, parts = child, parts[part.count(".") + 1 :]
        return node

    def plain(self) -> object:
        """Return the value as plain Python."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def walk(self, path: tuple[Key, ...] = ()) -> Iterator[tuple[tuple[Key, ...], Node]]:
        """Yield every node with its path, this one first."""
        yield path, self
        for key, node in self.mapping.items():
            yield from node.walk((*path, key))
        for index, node in enumerate(self.items):
            yield from node.walk((*path, index))

    def put(self, path: tuple[Key, ...], node: Node) -> Node:
        """Return a copy with ``node`` at ``path``; missing mappings on the way are created."""
        if not path:
            return node
        key, rest = path[0], path[1:]
        below = self.child(key) or Node({}, node.file, node.line)
        if isinstance(key, int):
            items = list(self.items)
            items[key] = below.put(rest, node)
            return replace(self, value=items)
        return replace(self, value={**self.mapping, key: below.put(rest, node)}, text=None)

    def fault_place(self) -> tuple[str, int | None]:
        """Return file and line for a fault."""
        return self.file, self.line


def dotted_key(path: tuple[Key, ...]) -> str:
    """Return ``("sources", "flights", "path")`` as ``sources.flights.path``."""
    return ".".join(str(part) for part in path)


MAX_BYTES = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 40
MAX_FAULTS = 100
"""The most faults of one kind that are reported."""


def read_small(file: Path) -> bytes:
    """Return the bytes of a spec, or of a file of SQL or of a schema beside it.

    Raises:
        OSError: it cannot be read.
        UsageError: it is no regular file, or too large.
    """
    if file.exists() and not file.is_file():
        raise UsageError(f"{file} is not a regular file; give the path of a text file")
    with file.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UsageError(f"{file} has {file.stat().st_size:,} bytes, and at most {MAX_BYTES:,} are read; put data into files of its own")
    return data


class _DocumentError(Exception):
    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def read_document(data: bytes, file: str) -> tuple[Node | None, list[Fault]]:
    """Return the root node and all faults; the node is None where nothing could be read.

    Duplicate keys and tags are faults, but the rest is still read, so that all faults are reported.
    """
    if len(data) > MAX_BYTES:
        return None, [Fault(file, None, "", f"{len(data):,} bytes; a spec has at most {MAX_BYTES:,}. Put data into files of its own")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return None, [Fault(file, line, "", f"not UTF-8: byte 0x{data[error.start]:02x}; save the file as UTF-8")]
    composer = _Composer(text, file)
    try:
        root = composer.document()
    except _DocumentError as error:
        return None, [*composer.faults, Fault(file, error.line, "", error.message)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(part for part in (error.context, error.problem) if part)
        written = "".join(text.splitlines()[mark.line : mark.line + 1]) if mark else ""
        hint = "; inside { } and [ ], text that holds ${…} needs quotes" if "${" in written else ""
        return None, [*composer.faults, Fault(file, mark.line + 1 if mark else None, "", f"not valid YAML: {problem}{hint}")]
    except yaml.YAMLError as error:
        return None, [*composer.faults, Fault(file, None, "", f"not valid YAML: {' '.join(str(error).split())}")]
    return root, composer.faults


class _Composer:
    """Builds nodes from PyYAML's events, which include tags and aliases."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)
        self.anchors: dict[str, Node | None] = {}  # None while the node is still being read
        self.count = 0
        self.characters = 0

    def document(self) -> Node | None:
        root: Node | None = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise _DocumentError(_line(event), "a second document; a spec is one YAML document, without `---` in it")
                first = next(self.events)
                root = self.node(first, (), _line(first))
        return root

    def node(self, event: yaml.Event, path: tuple[str, ...], line: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, line, len(path))
        self.check_size(1, line, len(path))
        if not isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            raise _DocumentError(line, "the document ends where a value was expected")
        if event.tag is not None:
            self.fault(_line(event), path, f"the tag {event.tag!r} is not allowed; a spec is plain YAML: remove it")
        anchor = event.anchor
        if anchor is not None:
            self.anchors[anchor] = None
        node = self.content(event, path, line)
        if anchor is not None:
            self.anchors[anchor] = node
        return node

    def content(self, event: yaml.Event, path: tuple[str, ...], line: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            self.check_size(0, line, 0, len(event.value))
            value = parse_scalar(event.value) if event.style is None else event.value
            return Node(value, self.file, line, text=event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(item := next(self.events), yaml.SequenceEndEvent):
                items.append(self.node(item, (*path, str(len(items))), _line(item)))
            return Node(items, self.file, line)
        return self.mapping(path, line)

    def mapping(self, path: tuple[str, ...], line: int) -> Node:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise _DocumentError(_line(event), "a key must be a plain word (a `{` in front of `$` or `%` may want quotes)")
            key, key_line = event.value, _line(event)
            self.check_size(1, key_line, len(path))
            node = self.node(next(self.events), (*path, key), key_line)
            if key in entries:
                self.fault(key_line, (*path, key), f"duplicate key; it is already on line {entries[key].line}: keep one of them")
            else:
                entries[key] = node
        return Node(entries, self.file, line)

    def alias(self, event: yaml.AliasEvent, line: int, depth: int) -> Node:
        name = str(event.anchor)
        target = self.anchors.get(name)
        if target is None:
            state = "stands inside itself" if name in self.anchors else "has no anchor"
            raise _DocumentError(_line(event), f"the alias '*{name}' {state}")
        parts = list(target.walk())
        self.check_size(len(parts), line, depth + max(len(path) for path, _ in parts), sum(len(node.text or "") for _, node in parts))
        return replace(target, line=line)

    def check_size(self, nodes: int, line: int, depth: int, characters: int = 0) -> None:
        self.count += nodes
        self.characters += characters
        if self.characters > MAX_BYTES:
            raise _DocumentError(line, f"more than {MAX_BYTES:,} characters once aliases are written out; a spec needs far fewer")
        if self.count > MAX_NODES:
            raise _DocumentError(line, f"more than {MAX_NODES:,} values once aliases are written out; a spec needs far fewer")
        if depth > MAX_DEPTH:
            raise _DocumentError(line, f"more than {MAX_DEPTH} levels deep")

    def fault(self, line: int, path: tuple[str, ...], message: str) -> None:
        self.faults.append(Fault(self.file, line, ".".join(path), message))


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
