"""Variables in a spec: ``${NAME}``, ``${NAME:-default}``; ``${secret:scope/key}`` stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tidemill.errors import Fault, did_you_mean
from tidemill.spec.loading.document import MAX_FAULTS, Key, Node, dotted_key, parse_scalar

MAX_DEPTH = 40
"""The greatest depth of nested variables or defaults."""
MAX_CHARACTERS = 1_000_000
"""The most characters that all expansions of one spec may produce."""

_REFERENCE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class UnresolvedVariable(Exception):
    """A variable that cannot be resolved; the message says why."""


@dataclass
class _ExpansionState:
    """The expansions so far: values of declared variables, and the number of characters produced."""

    values: dict[str, str] = field(default_factory=dict)
    characters: int = 0
    is_unbounded: bool = False


@dataclass(frozen=True)
class Variables:
    """The sources of variable values, in order of precedence.

    ``set_values`` is ``--set vars.NAME=…``, ``environ`` the environment, ``declared`` the ``vars:`` of the overlays and the spec.
    Each declared value is expanded once, and the total text of all expansions is bounded.
    """

    set_values: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    declared: Mapping[str, str] = field(default_factory=dict)
    _state: _ExpansionState = field(default_factory=_ExpansionState, init=False, repr=False, compare=False)

    @property
    def is_unbounded(self) -> bool:
        """True once variables produced too much text or were too deep; expansion then stops."""
        return self._state.is_unbounded

    def get(self, name: str, within: tuple[str, ...] = (), depth: int = 0) -> str | None:
        """Return the value of ``name`` or None; declared values may use other variables.

        Raises:
            UnresolvedVariable: the declared value uses itself or an unknown variable, is too long or too deep.
        """
        for literal in (self.set_values, self.environ):
            if name in literal:
                return literal[name]
        if name not in self.declared:
            return None
        if name in within:
            raise UnresolvedVariable(f"variable {name!r} is made of itself: {' → '.join((*within, name))}")
        if name not in self._state.values:
            self._state.values[name] = self.expand(self.declared[name], (*within, name), depth + 1)
        return self._state.values[name]

    def expand(self, text: str, within: tuple[str, ...] = (), depth: int = 0) -> str:
        """Return ``text`` with every variable substituted; ``$${`` stands for a literal ``${``.

        As in a shell, ``${NAME:-default}`` takes the default where NAME is unset or empty.

        Raises:
            UnresolvedVariable: a variable is unknown or malformed, or variables produce too much text or are too deep.
        """
        if depth > MAX_DEPTH:
            raise self._unbounded_error(
                f"variables stand inside one another more than {MAX_DEPTH} deep{_format_trail(within)}; put their values in directly"
            )
        out, position = [], 0
        longest = MAX_CHARACTERS - self._state.characters
        while (start := text.find("${", position)) >= 0:
            if text[start - 1 : start] == "$" and start > position:
                out.append(text[position : start - 1] + "${")
                position = start + 2
                continue
            end = _find_closing_brace(text, start)
            value = self._value(text[start + 2 : end], within, depth)
            out += [text[position:start], value]
            longest -= start - position + len(value)
            if longest < 0:
                raise self._unbounded_error(
                    f"variables produce more than {MAX_CHARACTERS:,} characters of the spec{_format_trail(within)}; "
                    "a spec needs far fewer: shorten the values that use each other"
                )
            position = end + 1
        expanded = "".join([*out, text[position:]])
        self._state.characters += len(expanded)
        return expanded

    def _unbounded_error(self, message: str) -> UnresolvedVariable:
        self._state.is_unbounded = True
        return UnresolvedVariable(message)

    def _value(self, reference: str, within: tuple[str, ...], depth: int) -> str:
        if reference.startswith("secret:"):
            return "${" + reference + "}"
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise UnresolvedVariable(f"'${{{reference}}}' is no variable; write ${{NAME}}, ${{NAME:-default}} or ${{secret:scope/key}}")
        name, default = match.groups()
        value = self.get(name, within, depth)
        if value is None and default is None:
            known = [*self.set_values, *self.declared, *self.environ]
            raise UnresolvedVariable(
                f"variable {name!r} is not set{did_you_mean(name, known)}; export it, pass `--set vars.{name}=…`, "
                f"declare it under `vars:`, or write ${{{name}:-default}}"
            )
        if default is not None and not value:
            return self.expand(default, within, depth + 1)
        return value or ""


def substitute(root: Node, variables: Variables) -> tuple[Node, list[Fault]]:
    """Return ``root`` with the variables of all its texts substituted, and a fault for each text that could not be resolved.

    A text that is one variable and nothing else is read as a YAML scalar again: ``trials: ${TRIALS}`` is a number.
    The top-level ``vars:`` stay as written: they are resolved where they are used. After an unbounded variable or ``MAX_FAULTS`` faults the
    remaining texts stay open.
    """
    substitution = _Substitution(variables)
    return substitution.resolve(root, ()), substitution.faults


class _Substitution:
    """One walk through a spec; ``faults`` are those met so far."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.faults: list[Fault] = []
        self.has_ended = False

    def resolve(self, node: Node, path: tuple[Key, ...]) -> Node:
        if isinstance(node.value, dict):
            entries = {key: child if (*path, key) == ("vars",) else self.resolve(child, (*path, key)) for key, child in node.value.items()}
            return replace(node, value=entries)
        if isinstance(node.value, list):
            return replace(node, value=[self.resolve(child, (*path, index)) for index, child in enumerate(node.value)])
        if not isinstance(node.value, str) or "${" not in node.value:
            return node
        if self.has_ended:
            return replace(node, is_open=True)
        try:
            return _resolve_text(node, node.value, self.variables)
        except UnresolvedVariable as error:
            self.faults.append(Fault(*node.fault_place(), dotted_key(path), str(error)))
            self.has_ended = self.variables.is_unbounded or len(self.faults) >= MAX_FAULTS
            return replace(node, is_open=True)


def _resolve_text(node: Node, text: str, variables: Variables) -> Node:
    value = variables.expand(text)
    is_whole = text.startswith("${") and _find_closing_brace(text, 0) == len(text) - 1
    typed = parse_scalar(value) if is_whole and value else value
    return replace(node, value=typed, text=value, origin=text)


def _format_trail(names: tuple[str, ...]) -> str:
    return f" ({' → '.join(names)})" if names else ""


def _find_closing_brace(text: str, start: int) -> int:
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
    raise UnresolvedVariable(f"'{text[start : start + 20]}' has no closing brace; write ${{NAME}}, or $${{ for a literal ${{")
