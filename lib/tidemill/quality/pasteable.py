"""Suggestions as a piece of YAML that can be pasted under ``tables.<name>:``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from tidemill.quality.suggestions import Suggestion
from tidemill.spec.node import core_scalar

_INDENT = "    "
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_DURATION = re.compile(r"[0-9]+[smhd]")
_HIDDEN = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_NAME_LENGTH = 120


def as_yaml(head: Sequence[str], key: Sequence[str], seen: str, found: Sequence[Suggestion]) -> str:
    """Return ``head`` as comments, then the key with what was seen of it, then the expectations, each below a comment."""
    lines = [f"# {_in_one_line(line)}" for line in head]
    if key:
        lines += [f"# {_in_one_line(seen)}", f"key: {_flow(list(key))}"]
    if found:
        lines.append("expectations:")
    taken: set[str] = set()
    for each in found:
        name = _name(each.name, taken)
        lines += [f"  # {_in_one_line(each.seen)}", f"  {name}: {_flow(each.rule)}"]
    return "".join(f"{_INDENT}{line}\n" for line in lines)


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(cell)}" for key, cell in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(cell) for cell in value) + "]"
    return _scalar(value) if isinstance(value, str) else json.dumps(value)


def _scalar(text: str) -> str:
    """Return a text plain where nothing in YAML or in a spec reads it otherwise, else between double quotes."""
    is_plain = bool(_PLAIN.fullmatch(text) or _DURATION.fullmatch(text)) and core_scalar(text) == text
    if is_plain:
        return text
    # A spec puts variables in where it reads `${`.
    quoted = json.dumps(text.replace("${", "$${"), ensure_ascii=False)
    return _HIDDEN.sub(lambda found: f"\\u{ord(found.group()):04x}", quoted)


def _name(wanted: str, taken: set[str]) -> str:
    """Return a name that a spec allows and that is not taken yet."""
    base = re.sub(r"[^A-Za-z0-9_]", "_", wanted)[:_NAME_LENGTH]
    base = base if re.match(r"[A-Za-z_]", base) else f"c_{base}"
    base = base if core_scalar(base) == base else f"c_{base}"
    name, number = base, 2
    while name.lower() in taken:
        name, number = f"{base}_{number}", number + 1
    taken.add(name.lower())
    return name


def _in_one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", " ", text)
