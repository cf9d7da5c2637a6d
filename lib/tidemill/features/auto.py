"""Features told by the types of the columns and by what their values look like: one aggregate over the training rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.features.choices import LEFT_OUT, Choice, groups_of
from tidemill.features.declared import MOST_PLACES
from tidemill.features.kinds import group_of, one_row
from tidemill.features.names import number_sql
from tidemill.spec.models import Array, Boolean, Categorical, Datetime, Numeric, Text

# Text with more different values than this gets no slot for each of them.
AUTO_CATEGORIES = 100
# Means of the label are a slot a class: beyond so many classes hashes are fewer.
_MOST_MEANS = 20
_SMOOTHING = 20.0
# A column in which nearly all rows differ names the row; the count of different values is a few percent off.
_UNIQUE = 0.85
_ALL_NULL = 0.995
# Prose: so many words and letters on average, and rows that begin with the same word.
_WORDS, _LETTERS, _TEXTS = 4.0, 20.0, 50
_ID = re.compile(r"(^|_)(id|key|uuid|guid|code|zip|zipcode|postcode)$|[a-z]I[dD]$", re.ASCII)

_MODELS: dict[str, Any] = {
    "numeric": Numeric,
    "boolean": Boolean,
    "categorical": Categorical,
    "datetime": Datetime,
    "array": Array,
    "text": Text,
}
Groups = dict[str, Any]


@dataclass(frozen=True)
class _Profile:
    """The figures of one column over ``rows`` training rows; those that its kind does not have are 0."""

    name: str
    kind: T.DataType
    rows: int
    present: int
    is_one: bool
    distinct: int = 0
    words: float = 0.0
    letters: float = 0.0
    beginnings: int = 0
    low: int = 0
    high: int = 0

    @property
    def figures(self) -> dict[str, Any]:
        """What of it is told and stored."""
        told: dict[str, Any] = {"type": self.kind.simpleString(), "rows": self.rows, "nulls": self.rows - self.present}
        told |= {"distinct": self.distinct} if self.distinct else {}
        told |= {"words": round(self.words, 2), "letters": round(self.letters, 1)} if self.words else {}
        return told | ({"shortest": self.low, "longest": self.high} if self.high else {})

    @property
    def is_unique(self) -> bool:
        """True where nearly every value is another."""
        return self.distinct >= _UNIQUE * self.present

    @property
    def named_as_id(self) -> bool:
        """True for a name such as ``customer_id``."""
        return bool(_ID.search(self.name if self.name != self.name.upper() else self.name.lower()))


def auto_groups(
    df: DataFrame, usable: Sequence[str], *, drops_constants: bool, n_classes: int | None
) -> tuple[Groups, list[Choice], dict[str, int]]:
    """Return the groups, what was chosen for each of ``usable`` and why, and the lengths of lists that all have one.

    ``n_classes`` is that of the label, 0 for a number, None where none is learned from; ``df`` are the training rows, read once.
    """
    profiles = _profiles(df, usable)
    choices = [_choice(profile, drops_constants=drops_constants, n_classes=n_classes) for profile in profiles]
    has_missing = {group: any(choice.figures["nulls"] for choice in choices if choice.group == group) for group in ("numeric", "boolean")}
    choices = [_indicated(choice) if has_missing.get(choice.group) else choice for choice in choices]
    blocks = groups_of((choice.column, choice.group, choice.settings) for choice in choices if choice.group)
    groups: Groups = {}
    for group, value in blocks.items():
        made = [_MODELS[group].model_validate(block) for block in (value if isinstance(value, list) else [value])]
        groups[group] = made[0] if len(made) == 1 else tuple(made)
    sizes = {choice.column: choice.figures["longest"] for choice in choices if choice.settings.get("encode") == "slots"}
    return groups, choices, sizes


def _indicated(choice: Choice) -> Choice:
    return replace(choice, chosen=f"{choice.chosen}, and whether they are missing", settings={**choice.settings, "indicators": True})


def _profiles(df: DataFrame, usable: Sequence[str]) -> list[_Profile]:
    kinds = {name: df.schema[name].dataType for name in usable}
    wanted = {(name, figure): value for name, kind in kinds.items() for figure, value in _figures(name, kind)}
    rows, found = one_row(df, list(wanted.values()))
    figures: dict[str, dict[str, Any]] = {name: {} for name in usable}
    for (name, figure), value in zip(wanted, found, strict=True):
        figures[name][figure] = value or 0
    for each in figures.values():
        if "distinct" in each:  # an estimate, which may be greater than what it counts
            each["distinct"] = min(each["distinct"], each["present"])
    return [
        _Profile(**{"name": name, "kind": kind, "rows": rows, "present": 0, "is_one": False, **figures[name]})
        for name, kind in kinds.items()
    ]


def _figures(name: str, kind: T.DataType) -> Iterator[tuple[str, Column]]:
    """Yield the aggregates of a column. Merging sketches gives the same count whatever the partitioning."""
    group, value = group_of(kind), column(name)
    if group == "other":
        return
    yield "present", F.count(F.expr(number_sql(name)) if group == "numeric" else value)
    yield "is_one", F.min(value).eqNullSafe(F.max(value))
    if group == "string" or isinstance(kind, T.IntegralType):
        yield "distinct", F.approx_count_distinct(value)
    if group == "string":
        spaces = F.length(value) - F.length(F.replace(value, F.lit(" "), F.lit("")))
        yield "words", F.avg(spaces + 1)
        yield "letters", F.avg(F.length(value))
        yield "beginnings", F.approx_count_distinct(F.substring_index(value, " ", 1))
    if group in ("words", "numbers"):
        yield "low", F.min(F.size(value))
        yield "high", F.max(F.size(value))


def _choice(profile: _Profile, *, drops_constants: bool, n_classes: int | None) -> Choice:
    group = group_of(profile.kind)
    reason = ""
    if group == "other":
        reason = f"no feature is made of type {profile.kind.simpleString()}"
    elif not profile.present:
        reason = "it holds no value"
    elif drops_constants and profile.is_one and profile.present == profile.rows:
        reason = "it holds one value in all training rows"
    elif profile.rows - profile.present >= _ALL_NULL * profile.rows:
        reason = f"it is null in {1 - profile.present / profile.rows:.2%} of {profile.rows:,} rows"
    if reason:
        return _left_out(profile, reason)
    if group == "numeric":
        return _number(profile, n_classes)
    if group == "string":
        return _text(profile, n_classes)
    of_type: dict[str, tuple[str, str, str, dict[str, Any]]] = {
        "boolean": ("truths, 0 and 1", "their type is boolean", "boolean", {"indicators": False}),
        "datetime": ("times", "their type is a time", "datetime", {"parts": ["hour", "weekday", "month"], "cyclic": True}),
        "words": ("lists of words, a slot a word", "their type is a list of text", "array", {"encode": "multihot", "min_frequency": 2}),
        "numbers": _list_of_numbers(profile),
    }
    chosen, reason, name, settings = of_type[group]
    return Choice(profile.name, name, chosen, reason, settings, profile.figures)


def _list_of_numbers(profile: _Profile) -> tuple[str, str, str, dict[str, Any]]:
    if profile.low == profile.high and profile.high <= MOST_PLACES:
        return "lists of numbers, a slot a place", f"each has {profile.high} numbers", "array", {"encode": "slots"}
    return "lists of numbers, summed up", f"they have {profile.low} to {profile.high} numbers", "array", {"encode": "summary"}


def _number(profile: _Profile, n_classes: int | None) -> Choice:
    """Return a number, or what an id is: its order says nothing."""
    is_whole = isinstance(profile.kind, T.IntegralType)
    if is_whole and profile.named_as_id:
        if profile.is_unique and profile.distinct > AUTO_CATEGORIES:
            return _left_out(profile, f"it is an id: about {profile.distinct:,} different whole numbers in {profile.rows:,} rows")
        return _category(profile, n_classes, "they are ids by their names, whose order says nothing")
    settings = {"impute": "median", "scale": "standard", "indicators": False}
    return Choice(profile.name, "numeric", "numbers", "their type is a number", settings, profile.figures)


def _text(profile: _Profile, n_classes: int | None) -> Choice:
    many = profile.distinct > min(AUTO_CATEGORIES, profile.rows / 2)
    is_prose = profile.words >= _WORDS and profile.letters >= _LETTERS and profile.beginnings <= profile.present / 2
    if many and is_prose and profile.rows >= _TEXTS:
        reason = f"about {profile.words:.0f} words each, {profile.distinct:,} different ones in {profile.rows:,} rows"
        stages = ["clean", "tokens", "stopwords", "tfidf"]
        return Choice(profile.name, "text", "prose, a slot a word", reason, {"stages": stages}, profile.figures)
    if profile.distinct > profile.rows / 2:
        message = (
            f"about {profile.distinct:,} different strings in {profile.rows:,} rows; declare it under `features.categorical` to use it"
        )
        return _left_out(profile, message)
    return _category(profile, n_classes, "their type is text and their values are few")


def _category(profile: _Profile, n_classes: int | None, why: str) -> Choice:
    """Return slots a value where they are few, else the label's mean of each, or hashes where there are many classes or no label."""
    if profile.distinct <= AUTO_CATEGORIES:
        settings: dict[str, Any] = {"encode": "auto", "min_frequency": 1}
        return Choice(profile.name, "categorical", "categories, a slot a value", why, settings, profile.figures)
    reason = f"about {profile.distinct:,} different values in {profile.rows:,} rows, more than {AUTO_CATEGORIES}"
    if n_classes is None or n_classes > _MOST_MEANS:
        reason += ", and no label is learned from" if n_classes is None else f", and the label has {n_classes} classes"
        return Choice(profile.name, "categorical", "categories, hashed", reason, {"encode": "hashing", "size": 256}, profile.figures)
    settings = {"encode": "target", "smoothing": _SMOOTHING}
    return Choice(profile.name, "categorical", "categories, the label's mean of each value", reason, settings, profile.figures)


def _left_out(profile: _Profile, reason: str) -> Choice:
    return Choice(profile.name, "", LEFT_OUT, reason, figures=profile.figures)
