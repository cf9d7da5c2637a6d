"""What a table holds, column by column: counts, extremes, quantiles, frequent values and a histogram, in a few jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame
from pyspark.sql import types as T

from tidemill.quality.frequencies import frequencies
from tidemill.quality.histograms import Bin, histograms
from tidemill.quality.summaries import Summary, summaries

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
    found = summaries(df, fields, with_sketches=not is_exact)
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
        for field, summary in zip(fields, found, strict=True)
    ]
    if is_exact:
        profiles = _with_frequencies(df, fields, profiles)
    bins = histograms(df, fields, [each.summary.ends for each in profiles])
    return [replace(each, histogram=bins.get(place)) for place, each in enumerate(profiles)]


def _with_frequencies(df: DataFrame, fields: Sequence[T.StructField], profiles: Sequence[ColumnProfile]) -> list[ColumnProfile]:
    counted = frequencies(df, fields)
    return [
        replace(each, distinct=counted[place].distinct, top_values=counted[place].top_values) if place in counted else each
        for place, each in enumerate(profiles)
    ]
