"""Rows that repeat others: all but one of those with the same values, which one being the same whatever the partitioning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.quality.rules import all_known


@dataclass(frozen=True)
class Latest:
    """Which of the rows with the same key stays: the one with the greatest value of ``by``; null is the least."""

    key: tuple[str, ...]
    by: str


def repeats(schema: T.StructType, columns: Sequence[str], is_asked: Column, *, first: Latest | None = None) -> Column:
    """Return true for the rows that share the values of ``columns`` with a row that comes before them.

    Only rows that ``is_asked`` holds for and that have no null in ``columns`` are compared. The first is the latest where that is asked
    for, then the one with the least hash of the whole row: rows that are alike in everything are the only ones left to chance.
    """
    is_compared = is_asked & all_known(columns)
    order = [column(first.by).desc_nulls_last()] if first else []
    # Rows that are not compared are groups of their own: many nulls would else be one group, sorted by one task.
    alone = F.when(~is_compared, row_hash(schema))
    window = Window.partitionBy(*[column(name) for name in columns], alone).orderBy(*order, row_hash(schema))
    return is_compared & (F.row_number().over(window) > 1)


def row_hash(schema: T.StructType) -> Column:
    """Return a hash of all columns of a row. A null counts, which xxhash64 by itself passes over."""
    cells = [_hashable(field) for field in schema.fields]
    return F.xxhash64(*cells, F.array(*[column(field.name).isNull() for field in schema.fields]))


def _hashable(field: T.StructField) -> Column:
    is_plain = not isinstance(field.dataType, T.ArrayType | T.MapType | T.StructType | T.VariantType)
    return column(field.name) if is_plain else F.to_json(F.struct(column(field.name)), {"ignoreNullFields": "false"})
