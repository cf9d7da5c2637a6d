"""How the values of numeric columns and instants spread: bins of equal width between the least and the greatest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.quality.summaries import Ends, as_double

BINS = 20


@dataclass(frozen=True)
class Bin:
    """The rows with a value from ``low`` (with it) to ``high`` (without it, but in the last bin); of instants, microseconds since 1970."""

    low: float
    high: float
    rows: int


def histograms(df: DataFrame, fields: Sequence[T.StructField], ends: Sequence[Ends | None]) -> dict[int, tuple[Bin, ...]]:
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
    """Return the number of the bin by the very edges that are shown: a division alone may land beside one."""
    width = _width(end)
    if width is None:
        return F.when(value.isNotNull(), F.lit(0))
    guess = F.floor((value - F.lit(end.low)) / F.lit(width)).cast("int")
    is_below = value < F.lit(end.low) + guess * F.lit(width)
    is_above = value >= F.lit(end.low) + (guess + 1) * F.lit(width)
    placed = F.when(is_below, guess - 1).when(is_above, guess + 1).otherwise(guess)
    return F.when(value.isNotNull(), F.least(F.greatest(placed, F.lit(0)), F.lit(BINS - 1)))
