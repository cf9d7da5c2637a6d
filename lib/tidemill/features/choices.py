"""What `auto` has chosen for each column and why, for people, for the ledger, and as a block to paste into a spec."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LEFT_OUT = "left out"
_SHOWN = 12


@dataclass(frozen=True)
class Choice:
    """One column.

    ``group`` is that of the spec, empty where the column is left out; ``settings`` are the block's, but for its columns; ``chosen`` says
    it in words and ``reason`` why; ``figures`` are those of the training rows that it follows from.
    """

    column: str
    group: str
    chosen: str
    reason: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return the columns of ``ops.features``."""
        return {
            "column_name": self.column,
            "chosen": self.chosen,
            "reason": self.reason,
            "feature_group": self.group or None,
            "settings": json.dumps(self.settings) if self.group else None,
            "figures": json.dumps(self.figures),
        }


def remarks(choices: Sequence[Choice]) -> tuple[str, ...]:
    """Return a note for each way in which columns are used, and one for each of the first columns that are left out."""
    used: dict[str, list[Choice]] = {}
    for choice in choices:
        if choice.group:
            used.setdefault(choice.chosen, []).append(choice)
    notes = [f"features: {_listed(alike)} as {chosen}: {_why(alike)}" for chosen, alike in used.items()]
    left_out = [choice for choice in choices if not choice.group]
    notes += [f"{choice.column} is left out of the features: {choice.reason}" for choice in left_out[:_SHOWN]]
    if len(left_out) > _SHOWN:
        notes.append(f"{len(left_out) - _SHOWN} more columns are left out of the features; ops.features says why of each")
    return tuple(notes)


def _listed(choices: Sequence[Choice]) -> str:
    names = [choice.column for choice in choices]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _why(choices: Sequence[Choice]) -> str:
    reasons = list(dict.fromkeys(choice.reason for choice in choices))
    if len(reasons) == 1:
        return reasons[0]
    shown = [f"{choice.column} {choice.reason}" for choice in choices[:3]]
    return "; ".join(shown) + ("; …" if len(choices) > 3 else "")


def groups_of(chosen: Iterable[tuple[str, str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the block `features` of (column, group, settings): one block a group and settings, a list where a group has several."""
    blocks: dict[str, list[dict[str, Any]]] = {}
    for column, group, settings in chosen:
        alike = [block for block in blocks.setdefault(group, []) if {**block, "columns": None} == {"columns": None, **settings}]
        if alike:
            alike[0]["columns"].append(column)
        else:
            blocks[group].append({"columns": [column], **settings})
    return {group: found[0] if len(found) == 1 else found for group, found in blocks.items()}


def as_yaml(features: Mapping[str, Any]) -> str:
    """Return the block as YAML, to stand in a spec in place of `features: auto`; JSON's texts and lists are YAML's as well."""
    lines = ["features:"]
    for group, value in features.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"  {group}:")
            lines += [f"    - {_flow(block)}" for block in value]
        else:
            lines.append(f"  {group}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str) and value.isidentifier() and value.isascii() and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
