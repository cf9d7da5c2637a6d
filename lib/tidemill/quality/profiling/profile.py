"""What a table holds, column by column: counts, extremes, quantiles, frequent values and a histogram, in a few jobs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.quality.profiling.summaries import TOP, Ends, Summary, as_double, summarize_columns

COUNTED = (T.NumericType, T.StringType, T.BooleanType, T.DateType, T.TimestampType, T.TimestampNTZType)
"""The types whose values are counted."""


@dataclass(frozen=True)
class Frequencies:
    """The number of different values, and the most frequent ones: by their count, then by their text."""

    distinct: int
    top_values: tuple[tuple[str, int], ...]


def count_values(df: DataFrame, fields: Sequence[T.StructField]) -> dict[int, Frequencies]:
    """Return the frequencies of each column whose values are counted, by its place in ``fields``."""
    counted = {place: field for place, field in enumerate(fields) if isinstance(field.dataType, COUNTED)}
    if not counted:
        return {}
    cells = [F.struct(F.lit(place).alias("place"), as_text(field).alias("value")) for place, field in counted.items()]
    values = df.select(F.explode(F.array(*cells)).alias("cell")).select("cell.*").where("value IS NOT NULL")
    counts = values.groupBy("place", "value").agg(F.count(F.lit(1)).alias("n"))
    top = F.expr(f"min_by(named_struct('value', value, 'n', n), named_struct('rank', -n, 'value', value), {TOP})")
    rows = counts.groupBy("place").agg(F.count(F.lit(1)).alias("distinct"), top.alias("top")).collect()
    by_place = {row["place"]: Frequencies(row["distinct"], tuple((value, n) for value, n in row["top"])) for row in rows}
    return {place: by_place.get(place, Frequencies(0, ())) for place in counted}


def as_text(field: T.StructField) -> Column:
    """Return the values as text, the same text for the same value: -0.0 is 0.0."""
    values = column(field.name)
    return (values + F.lit(0.0).cast(field.dataType) if isinstance(field.dataType, T.FractionalType) else values).cast("string")


BINS = 20


@dataclass(frozen=True)
class Bin:
    """The rows with a value from ``low`` (with it) to ``high`` (without it, but in the last bin); of instants, microseconds since 1970."""

    low: float
    high: float
    rows: int


def build_histograms(df: DataFrame, fields: Sequence[T.StructField], ends: Sequence[Ends | None]) -> dict[int, tuple[Bin, ...]]:
    """Return the histogram of each column that has ends, by its place in ``fields``, from one pass.

    A column with one value, or with a range that no double holds, has one bin.
    """
    spread = {place: end for place, end in enumerate(ends) if end is not None}
    if not spread:
        return {}
    cells = [F.struct(F.lit(place).alias("place"), _bin(as_double(fields[place]), end).alias("bin")) for place, end in spread.items()]
    bins = df.select(F.explode(F.array(*cells)).alias("cell")).select("cell.*").where("bin IS NOT NULL")
    counts = {(row["place"], row["bin"]): row["count"] for row in bins.groupBy("place", "bin").count().collect()}
    return {
        place: tuple(Bin(low, high, counts.get((place, number), 0)) for number, (low, high) in enumerate(_edges(end)))
        for place, end in spread.items()
    }


def _width(end: Ends) -> float | None:
    """Return the width of a bin, None where there is one bin only."""
    width = (end.high - end.low) / BINS
    return width if math.isfinite(width) and end.low + width > end.low and end.high - width < end.high else None


def _edges(end: Ends) -> list[tuple[float, float]]:
    width = _width(end)
    if width is None:
        return [(end.low, end.high)]
    lows = [end.low + number * width for number in range(BINS)]
    return list(zip(lows, [*lows[1:], end.high], strict=True))


def _bin(value: Column, end: Ends) -> Column:
    """Return the number of the bin by the edges that are shown: a division alone may give a neighbouring bin."""
    width = _width(end)
    if width is None:
        return F.when(value.isNotNull(), F.lit(0))
    guess = F.floor((value - F.lit(end.low)) / F.lit(width)).cast("int")
    is_below = value < F.lit(end.low) + guess * F.lit(width)
    is_above = value >= F.lit(end.low) + (guess + 1) * F.lit(width)
    placed = F.when(is_below, guess - 1).when(is_above, guess + 1).otherwise(guess)
    return F.when(value.isNotNull(), F.least(F.greatest(placed, F.lit(0)), F.lit(BINS - 1)))


EXACT_CELLS = 20_000_000
"""Rows times columns up to which distinct and frequent values are counted one by one; estimated beyond it."""


@dataclass(frozen=True)
class ColumnProfile:
    """One column. What does not fit its type is None.

    Attributes:
        column: its name.
        type: Spark's name of its type.
        rows: the rows of the table, ``nulls`` included.
        nulls: the rows without a value.
        summary: extremes, mean, quantiles, lengths; of numbers, those that are finite.
        distinct: how many different values there are, null not counted.
        top_values: the most frequent values as text with their counts, most frequent first.
        is_exact: whether ``distinct`` and ``top_values`` were counted, not estimated.
        histogram: bins of equal width from the least value to the greatest.
    """

    column: str
    type: str
    rows: int
    nulls: int
    summary: Summary
    distinct: int | None = None
    top_values: tuple[tuple[str, int], ...] | None = None
    is_exact: bool = True
    histogram: tuple[Bin, ...] | None = None


def profile(df: DataFrame, *, exact_cells: int = EXACT_CELLS) -> list[ColumnProfile]:
    """Return the profile of each column: one pass for the counts and extremes, one for the values, one for the histograms.

    Up to ``exact_cells`` rows times columns distinct and frequent values are exact; beyond that they come from sketches in the first
    pass (HyperLogLog++ within 2 %, Spark's ``approx_top_k``). Quantiles are always ``approx_percentile`` with an accuracy of 10,000.
    Arrays, maps and binaries have their sizes, other nested columns only their nulls.
    """
    fields = df.schema.fields
    rows = df.count()
    is_exact = rows * len(fields) <= exact_cells
    column_summaries = summarize_columns(df, fields, with_sketches=not is_exact)
    profiles = [
        ColumnProfile(
            column=field.name,
            type=field.dataType.simpleString(),
            rows=rows,
            nulls=summary.nulls,
            summary=summary,
            distinct=summary.distinct,
            top_values=summary.top_values,
            is_exact=is_exact,
        )
        for field, summary in zip(fields, column_summaries, strict=True)
    ]
    if is_exact:
        profiles = _with_frequencies(df, fields, profiles)
    bins = build_histograms(df, fields, [each.summary.ends for each in profiles])
    return [replace(each, histogram=bins.get(place)) for place, each in enumerate(profiles)]


def _with_frequencies(df: DataFrame, fields: Sequence[T.StructField], profiles: Sequence[ColumnProfile]) -> list[ColumnProfile]:
    counted = count_values(df, fields)
    return [
        replace(each, distinct=counted[place].distinct, top_values=counted[place].top_values) if place in counted else each
        for place, each in enumerate(profiles)
    ]
