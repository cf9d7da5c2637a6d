"""A value of a spec that knows where it was written, and the scalar rules of YAML 1.2's core schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

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


def core_scalar(text: str) -> Scalar:
    """Read a plain scalar by YAML 1.2's core schema: null, true, false, numbers; all else is text.

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

    ``line`` is the line of the key where the value stands under a key, of the item in a list. ``text`` is a scalar as it was
    written. ``origin`` is the text before its variables were put in; ``is_open`` marks a value whose variable is unknown.
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
        """The value where it is text whose variables are all known, else None."""
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
        """Return the node of a dotted key, or the innermost block around it."""
        node = self
        for part in key.split(".") if key else ():
            child = node.child(int(part) if isinstance(node.value, list) and part.isdecimal() else part)
            if child is None:
                break
            node = child
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
        """Return a copy in which ``node`` stands at ``path``; mappings on the way are made where there are none."""
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


def dotted(path: tuple[Key, ...]) -> str:
    """Return ``("sources", "flights", "path")`` as ``sources.flights.path``."""
    return ".".join(str(part) for part in path)
