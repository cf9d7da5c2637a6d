"""Columns that may be the keys of their tables, and what is known of those of other tables after one pass."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.quality.profiling.profile import ColumnProfile
from tidemill.quality.profiling.summaries import DISTINCT_ERROR, SHOWN, Summary

_COLUMNS_A_JOB = 50
_SOUNDS_LIKE_ONE = re.compile(r"(?i)(^|_)(id|key|uuid|code)$")
_LOOKED_UP = ("string", "tinyint", "smallint", "int", "bigint")
_KEYS = (*_LOOKED_UP, "date", "timestamp", "timestamp_ntz")


def find_key_candidates(columns: Sequence[ColumnProfile]) -> list[str]:
    """Return the columns that may be keys, those with a key-like name first: no null, and no value twice.

    Where distinct values are estimated, columns that come near it are returned; an exact count must confirm them.
    """
    names = []
    for each in columns:
        if each.type not in _KEYS or each.nulls or not each.rows or each.distinct is None:
            continue
        if each.distinct == each.rows if each.is_exact else each.distinct >= 0.9 * each.rows:
            names.append(each.column)
    return sorted(names, key=lambda name: (not _SOUNDS_LIKE_ONE.search(name), names.index(name)))


def is_looked_up(kind: str) -> bool:
    """Return True for Spark's name of a type that can reference another table: texts and whole numbers."""
    return kind in _LOOKED_UP or (kind.startswith("decimal") and kind.endswith(",0)"))


def profile_key_candidates(df: DataFrame) -> list[ColumnProfile]:
    """Return the texts and whole numbers that seem to hold a value in each row, and none twice; distinct values are estimated."""
    fields = [field for field in df.schema.fields if is_looked_up(field.dataType.simpleString())]
    profiles: list[ColumnProfile] = []
    for start in range(0, len(fields), _COLUMNS_A_JOB):
        profiles += _profiles(df, fields[start : start + _COLUMNS_A_JOB])
    names = find_key_candidates(profiles)
    return [each for each in profiles if each.column in names]


def _profiles(df: DataFrame, fields: Sequence[T.StructField]) -> list[ColumnProfile]:
    aggregates = [_aggregates(field) for field in fields]
    named = [value.alias(f"{place}_{name}") for place, values in enumerate(aggregates) for name, value in values.items()]
    row = df.agg(F.count(F.lit(1)).alias("rows"), *named).first()
    assert row is not None  # an aggregate without groups always has one row
    profiles = []
    for place, field in enumerate(fields):
        values = {name: row[f"{place}_{name}"] for name in aggregates[place]}
        distinct = values.pop("distinct")
        summary = Summary(**values)
        if not isinstance(field.dataType, T.StringType) and summary.min is not None and summary.max is not None:
            summary = replace(summary, low=float(summary.min), high=float(summary.max))
        profiles.append(
            ColumnProfile(
                column=field.name,
                type=field.dataType.simpleString(),
                rows=row["rows"],
                nulls=summary.nulls,
                summary=summary,
                distinct=distinct,
                is_exact=False,
            )
        )
    return profiles


def _aggregates(field: T.StructField) -> dict[str, Column]:
    values = column(field.name)
    counts = {"nulls": F.count_if(values.isNull()), "distinct": F.approx_count_distinct(values, DISTINCT_ERROR)}
    if isinstance(field.dataType, T.StringType):
        lengths = {"min_length": F.min(F.length(values)), "max_length": F.max(F.length(values))}
        return {**counts, "min": F.min(values).substr(1, SHOWN), "max": F.max(values).substr(1, SHOWN), **lengths}
    return {**counts, "min": F.min(values).cast("string"), "max": F.max(values).cast("string")}
