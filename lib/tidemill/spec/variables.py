"""Variables in a spec: ``${NAME}``, ``${NAME:-default}``; ``${secret:scope/key}`` stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tidemill.errors import Fault, did_you_mean
from tidemill.spec.node import Key, Node, core_scalar, dotted

_REFERENCE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class Unresolved(Exception):
    """A variable that cannot be resolved; the message says why."""


@dataclass(frozen=True)
class Variables:
    """Where values of variables come from, in the order they are asked.

    ``given`` is ``--set vars.NAME=…``, ``environ`` the environment, ``declared`` the ``vars:`` of the overlays and the spec.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    declared: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str, within: tuple[str, ...] = ()) -> str | None:
        """Return the value of ``name`` or None; declared values may use other variables.

        Raises:
            Unresolved: the declared value uses itself, or an unknown variable.
        """
        for literal in (self.given, self.environ):
            if name in literal:
                return literal[name]
        if name not in self.declared:
            return None
        if name in within:
            raise Unresolved(f"variable {name!r} is made of itself: {' → '.join((*within, name))}")
        return self.expand(self.declared[name], (*within, name))

    def expand(self, text: str, within: tuple[str, ...] = ()) -> str:
        """Return ``text`` with every variable put in; ``$${`` stands for a literal ``${``.

        As in a shell, ``${NAME:-default}`` takes the default where NAME is unset or empty.

        Raises:
            Unresolved: a variable is unknown or badly written.
        """
        out, position = [], 0
        while (start := text.find("${", position)) >= 0:
            if text[start - 1 : start] == "$" and start > position:
                out.append(text[position : start - 1] + "${")
                position = start + 2
                continue
            end = _closing(text, start)
            out += [text[position:start], self._value(text[start + 2 : end], within)]
            position = end + 1
        return "".join([*out, text[position:]])

    def _value(self, reference: str, within: tuple[str, ...]) -> str:
        if reference.startswith("secret:"):
            return "${" + reference + "}"
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise Unresolved(f"'${{{reference}}}' is no variable; write ${{NAME}}, ${{NAME:-default}} or ${{secret:scope/key}}")
        name, default = match.groups()
        value = self.get(name, within)
        if value is None and default is None:
            known = [*self.given, *self.declared, *self.environ]
            raise Unresolved(
                f"variable {name!r} is not set{did_you_mean(name, known)}; export it, pass `--set vars.{name}=…`, "
                f"declare it under `vars:`, or write ${{{name}:-default}}"
            )
        if default is not None and not value:
            return self.expand(default, within)
        return value or ""


def substitute(node: Node, variables: Variables, path: tuple[Key, ...] = ()) -> tuple[Node, list[Fault]]:
    """Return ``node`` with the variables of all its texts put in, and a fault for each text that could not be resolved.

    A text that is one variable and nothing else is read as a YAML scalar again: ``trials: ${TRIALS}`` is a number.
    The top-level ``vars:`` stay as written: they are resolved where they are used.
    """
    faults: list[Fault] = []
    if isinstance(node.value, dict):
        entries = {}
        for key, child in node.value.items():
            if (*path, key) == ("vars",):
                entries[key] = child
                continue
            entries[key], found = substitute(child, variables, (*path, key))
            faults += found
        return replace(node, value=entries), faults
    if isinstance(node.value, list):
        items = []
        for index, child in enumerate(node.value):
            item, found = substitute(child, variables, (*path, index))
            items.append(item)
            faults += found
        return replace(node, value=items), faults
    if not isinstance(node.value, str) or "${" not in node.value:
        return node, faults
    try:
        return _resolved(node, node.value, variables), faults
    except Unresolved as error:
        return replace(node, is_open=True), [Fault(*node.fault_place(), dotted(path), str(error))]


def _resolved(node: Node, text: str, variables: Variables) -> Node:
    value = variables.expand(text)
    is_whole = text.startswith("${") and _closing(text, 0) == len(text) - 1
    typed = core_scalar(value) if is_whole and value else value
    return replace(node, value=typed, text=value, origin=text)


def _closing(text: str, start: int) -> int:
    depth, position = 0, start
    while position < len(text):
        if text.startswith("${", position):
            depth += 1
            position += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    raise Unresolved(f"'{text[start : start + 20]}' has no closing brace; write ${{NAME}}, or $${{ for a literal ${{")
