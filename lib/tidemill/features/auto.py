"""`features: auto`: feature groups chosen by the types and statistics of the columns, in one aggregate over the training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.features.choices import Choice, ColumnProfile, features_block, leave_out
from tidemill.features.column_facts import column_kind
from tidemill.features.names import number_sql
from tidemill.spec.models import FEATURE_GROUPS, Features

_ALL_NULL = 0.995


def choose_groups(
    df: DataFrame, usable: Sequence[str], *, drops_constants: bool, n_classes: int | None
) -> tuple[Features, list[Choice], dict[str, int]]:
    """Return the groups, the choice for each column of ``usable`` with its reason, and the sizes of lists of one common length.

    ``n_classes`` is the label's number of classes, 0 for a numeric label, None if no label is learned; ``df`` is the training rows, read
    once.
    """
    choices = [_choose(profile, drops_constants, n_classes) for profile in _profile_columns(df, usable)]
    by_group: dict[str, list[Choice]] = {}
    for choice in choices:
        by_group.setdefault(choice.group, []).append(choice)
    for group, chosen in by_group.items():
        by_group[group] = FEATURE_GROUPS.get(group).complete_choices(chosen) if group else chosen
    completed = {choice.column: choice for chosen in by_group.values() for choice in chosen}
    choices = [completed[choice.column] for choice in choices]
    groups = Features.model_validate(features_block((choice.column, choice.group, choice.settings) for choice in choices if choice.group))
    sizes = {choice.column: choice.figures["longest"] for choice in choices if choice.settings.get("encode") == "slots"}
    return groups, choices, sizes


def _profile_columns(df: DataFrame, usable: Sequence[str]) -> list[ColumnProfile]:
    types = {name: df.schema[name].dataType for name in usable}
    aggregates = {(name, figure): value for name, kind in types.items() for figure, value in _figures(name, kind)}
    row = df.agg(F.count("*"), *[value.alias(f"f{place}") for place, value in enumerate(aggregates.values())]).collect()[0]
    figures: dict[str, dict[str, Any]] = {name: {} for name in usable}
    for (name, figure), value in zip(aggregates, row[1:], strict=True):
        figures[name][figure] = value or 0
    for each in figures.values():
        if "distinct" in each:  # an estimate, which may exceed the number of values
            each["distinct"] = min(each["distinct"], each["present"])
    return [
        ColumnProfile(name, column_kind(kind), kind.simpleString(), row[0], isinstance(kind, T.IntegralType), **figures[name])
        for name, kind in types.items()
    ]


def _figures(name: str, kind: T.DataType) -> Iterator[tuple[str, Column]]:
    """Yield the aggregates of a column. The approximate counts do not depend on the partitioning."""
    group, value = column_kind(kind), column(name)
    if group == "other":
        return
    yield "present", F.count(F.expr(number_sql(name)) if group == "numeric" else value)
    yield "is_constant", F.min(value).eqNullSafe(F.max(value))
    if group == "string" or isinstance(kind, T.IntegralType):
        yield "distinct", F.approx_count_distinct(value)
    if group == "string":
        spaces = F.length(value) - F.length(F.replace(value, F.lit(" "), F.lit("")))
        yield "words", F.avg(spaces + 1)
        yield "letters", F.avg(F.length(value))
        yield "beginnings", F.approx_count_distinct(F.substring_index(value, " ", 1))
    if group in ("words", "numbers"):
        yield "shortest", F.min(F.size(value))
        yield "longest", F.max(F.size(value))


def _choose(profile: ColumnProfile, drops_constants: bool, n_classes: int | None) -> Choice:
    """Let each group choose in turn, unless the column cannot be a feature."""
    nulls = profile.rows - profile.present
    if profile.kind == "other":
        return _choose_by_group(profile, n_classes) or leave_out(profile, f"type {profile.type} has no feature group")
    if not profile.present:
        return leave_out(profile, "it holds no value")
    if drops_constants and profile.is_constant and not nulls:
        return leave_out(profile, "it holds one value in all training rows")
    if nulls >= _ALL_NULL * profile.rows:
        return leave_out(profile, f"it is null in {nulls / profile.rows:.2%} of {profile.rows:,} rows")
    return _choose_by_group(profile, n_classes) or leave_out(profile, "no group takes it")


def _choose_by_group(profile: ColumnProfile, n_classes: int | None) -> Choice | None:
    for name in FEATURE_GROUPS.names:
        choice = FEATURE_GROUPS.get(name).choose(profile, n_classes)
        if choice is not None:
            return choice
    return None
