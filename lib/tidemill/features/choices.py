"""The choices of `features: auto`: as notes, as rows of ``ops.features``, and as a block to paste into a spec."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LEFT_OUT = "left out"
_SHOWN = 12
_MANY_VALUES = 100
# A column in which nearly all values differ identifies rows; the count of distinct values is a few percent off.
_UNIQUE_SHARE = 0.85
# Prose: the least mean numbers of words and letters, and the least number of rows.
_PROSE_WORDS, _PROSE_LETTERS, _PROSE_ROWS = 4.0, 20.0, 50
_ID = re.compile(r"(^|_)(id|key|uuid|guid|code|zip|zipcode|postcode)$|[a-z]I[dD]$", re.ASCII)


@dataclass(frozen=True)
class ColumnProfile:
    """The statistics of one column over ``rows`` training rows; those that do not apply to its kind are 0.

    ``kind`` is as in `ColumnFacts`, ``type`` is Spark's name of the type. ``words`` and ``letters`` are means, ``beginnings`` counts the
    distinct first words, ``shortest`` and ``longest`` the lengths of lists.
    """

    name: str
    kind: str
    type: str
    rows: int
    is_whole: bool = False
    present: int = 0
    is_constant: bool = False
    distinct: int = 0
    words: float = 0.0
    letters: float = 0.0
    beginnings: int = 0
    shortest: int = 0
    longest: int = 0

    @property
    def figures(self) -> dict[str, Any]:
        """The statistics that are shown and stored."""
        figures: dict[str, Any] = {"type": self.type, "rows": self.rows, "nulls": self.rows - self.present}
        figures |= {"distinct": self.distinct} if self.distinct else {}
        figures |= {"words": round(self.words, 2), "letters": round(self.letters, 1)} if self.words else {}
        return figures | ({"shortest": self.shortest, "longest": self.longest} if self.longest else {})

    @property
    def is_unique(self) -> bool:
        """True if nearly all values are distinct."""
        return self.distinct >= _UNIQUE_SHARE * self.present

    @property
    def is_id(self) -> bool:
        """True for whole numbers with a name such as ``customer_id``."""
        return self.is_whole and bool(_ID.search(self.name if self.name != self.name.upper() else self.name.lower()))

    @property
    def is_prose(self) -> bool:
        """True for texts of many words, mostly distinct, with many different first words."""
        has_many = self.distinct > min(_MANY_VALUES, self.rows / 2) and self.rows >= _PROSE_ROWS
        return has_many and self.words >= _PROSE_WORDS and self.letters >= _PROSE_LETTERS and self.beginnings <= self.present / 2


@dataclass(frozen=True)
class Choice:
    """The choice for one column.

    ``group`` is the feature group, empty if the column is left out; ``settings`` are the keys of its block except ``columns``; ``chosen``
    describes the choice and ``reason`` says why; ``figures`` are the statistics that it is based on.
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


def describe_choices(choices: Sequence[Choice]) -> tuple[str, ...]:
    """Return one note per way in which columns are used, and one for each of the first columns left out."""
    used: dict[str, list[Choice]] = {}
    for choice in choices:
        if choice.group:
            used.setdefault(choice.chosen, []).append(choice)
    notes = [f"features: {_list_columns(alike)} as {chosen}: {_reasons(alike)}" for chosen, alike in used.items()]
    left_out = [choice for choice in choices if not choice.group]
    notes += [f"{choice.column} is left out of the features: {choice.reason}" for choice in left_out[:_SHOWN]]
    if len(left_out) > _SHOWN:
        notes.append(f"{len(left_out) - _SHOWN} more columns are left out of the features; ops.features gives the reason for each")
    return tuple(notes)


def _list_columns(choices: Sequence[Choice]) -> str:
    names = [choice.column for choice in choices]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _reasons(choices: Sequence[Choice]) -> str:
    reasons = list(dict.fromkeys(choice.reason for choice in choices))
    if len(reasons) == 1:
        return reasons[0]
    shown = [f"{choice.column} {choice.reason}" for choice in choices[:3]]
    return "; ".join(shown) + ("; …" if len(choices) > 3 else "")


def features_block(chosen: Iterable[tuple[str, str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the block `features` of (column, group, settings): one block per group and settings, a list if a group has several."""
    blocks: dict[str, list[dict[str, Any]]] = {}
    for column, group, settings in chosen:
        alike = [block for block in blocks.setdefault(group, []) if {**block, "columns": None} == {"columns": None, **settings}]
        if alike:
            alike[0]["columns"].append(column)
        else:
            blocks[group].append({"columns": [column], **settings})
    return {group: each[0] if len(each) == 1 else each for group, each in blocks.items()}


def as_yaml(features: Mapping[str, Any]) -> str:
    """Return the block as YAML, to replace `features: auto` in a spec; JSON strings and lists are valid YAML."""
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


def leave_out(profile: ColumnProfile, reason: str) -> Choice:
    """Return the choice to leave a column out."""
    return Choice(profile.name, "", LEFT_OUT, reason, figures=profile.figures)
