"""Exact order statistics of a column, ranked by a histogram that is narrower where an answer still hides.

Each pass is one aggregate that collects a few thousand counts, so the driver's memory does not grow with the data. Unlike
``approxQuantile``, the answer is exact and does not depend on the partitioning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

# The most counts that one pass collects on the driver.
COUNTS = 4096

Number = int | float


@dataclass(frozen=True)
class Ranked:
    """A value of the column with the number of rows below it and equal to it."""

    value: Number
    below: int
    equal: int


@dataclass(frozen=True)
class Boundary:
    """A boundary before (or, if ``is_behind``, after) a value; ``before`` is the number of rows below it."""

    value: Number
    is_behind: bool
    before: int

    def is_passed(self, column: Column) -> Column:
        """Return true for the rows above the boundary."""
        return column > F.lit(self.value) if self.is_behind else column >= F.lit(self.value)


@dataclass(frozen=True)
class _Span:
    """A range of values, both ends included and present in the column, with the positions that lie in it."""

    low: Number
    high: Number
    below: int
    rows: int
    positions: tuple[int, ...]


def find_order_statistics(df: DataFrame, column: Column, positions: Iterable[int], *, low: Number, high: Number, rows: int) -> list[Ranked]:
    """Return the values at ``positions`` (from 0) of the column in ascending order.

    The column is a BIGINT or a finite DOUBLE without null; ``low``, ``high`` and ``rows`` are its least and greatest value and its count.
    """
    ordered = sorted(set(positions))
    ranked: dict[int, Ranked] = {}
    spans = [_Span(low, high, 0, rows, tuple(ordered))] if ordered else []
    values = df.select(column.alias("value"))
    while spans:
        for span in spans:
            if span.low == span.high:
                ranked.update(dict.fromkeys(span.positions, Ranked(span.low, span.below, span.rows)))
        spans = [span for span in spans if span.low != span.high]
        if spans:
            spans = _refine(values, spans)
    return [ranked[position] for position in ordered]


def find_boundaries(df: DataFrame, column: Column, targets: Sequence[float], *, low: Number, high: Number, rows: int) -> list[Boundary]:
    """Return, for each target number of rows, the boundary with the nearest number of rows below it.

    Rows of one value stay together. A boundary below or above all rows is chosen only if all rows have the same value.
    """
    positions = [min(max(int(target), 0), rows - 1) for target in targets]
    at = dict(zip(sorted(set(positions)), find_order_statistics(df, column, positions, low=low, high=high, rows=rows), strict=True))
    return [_choose_nearest(at[position], target, rows) for position, target in zip(positions, targets, strict=True)]


def _choose_nearest(ranked: Ranked, target: float, rows: int) -> Boundary:
    choices = [Boundary(ranked.value, False, ranked.below), Boundary(ranked.value, True, ranked.below + ranked.equal)]
    inside = [boundary for boundary in choices if 0 < boundary.before < rows]
    return min(inside or choices, key=lambda boundary: abs(boundary.before - target))


def _refine(values: DataFrame, spans: Sequence[_Span]) -> list[_Span]:
    """Return the buckets of ``spans`` that hold a position, each narrowed to the values present in it."""
    buckets = max(COUNTS // len(spans), 2)
    value = F.col("value")
    slots = []
    for number, span in enumerate(spans):
        # Subtracted in the column's own type: as doubles, two neighbouring large integers would be one.
        bucket = F.floor((value - F.lit(span.low)) / F.lit((span.high - span.low) / buckets))
        slots.append(F.when(value.between(span.low, span.high), F.least(bucket, F.lit(buckets - 1)) + number * buckets))
    counts = (
        values.groupBy(F.coalesce(*slots).alias("slot"))
        .agg(F.count("*").alias("n"), F.min("value").alias("low"), F.max("value").alias("high"))
        .where("slot IS NOT NULL")
        .collect()
    )
    narrower = []
    by_slot = sorted(counts, key=lambda row: row["slot"])
    for number, span in enumerate(spans):
        below = span.below
        for row in by_slot:
            if row["slot"] // buckets != number:
                continue
            inside = tuple(position for position in span.positions if below <= position < below + row["n"])
            if inside:
                narrower.append(_Span(row["low"], row["high"], below, row["n"], inside))
            below += row["n"]
    return narrower
