"""What is learnt about numeric columns: the value that stands in for a missing one, and the shift and scale of a column."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.features.fit_cache import SET
from tidemill.quoting import format_double, quote_name

# A quantile is at most 1/10000 of the rows away from the exact one; below 10,000 rows it is exact.
_ACCURACY = 10_000
# The mean of equal numbers is not always that number.
_ROUNDING = 1e-12
# Squares of larger numbers, summed up over all rows, may pass the greatest double. Their mean and deviation are those of the numbers
# times _SHRINK, a power of two, which changes no digit; and their halves are scaled, since the difference of two of them may pass it too.
_HUGE = 2.0**480
_SHRINK = 2.0**-540
_GREATEST_SCALED = 1e100


@dataclass(frozen=True)
class Treatment:
    """How a numeric column is imputed and scaled; the words of ``features.numeric``."""

    impute: str | float
    scale: str
    bounds: bool = False  # whether the least and the greatest value are wanted
    indicator: bool = False  # whether it matters that a value is missing
    cuts: int = 0  # into how many buckets of about equal size the values fall

    @property
    def quantiles(self) -> bool:
        """True where the median or the quartiles are needed."""
        return self.impute == "median" or self.scale == "robust"


@dataclass(frozen=True)
class Fitted:
    """The numbers learnt from a column; ``fill`` None leaves missing values as they are.

    Where ``is_huge``, ``shift`` and ``scale`` are those of halves of the values, and what is scaled stays within ±1e100.
    """

    fill: float | None
    shift: float = 0.0
    scale: float = 1.0
    low: float = 0.0
    high: float = 1.0
    has_missing: bool = False
    cuts: tuple[float, ...] = ()
    is_huge: bool = False

    def filled_sql(self, column: str) -> str:
        """Return SQL for the column without missing values."""
        return quote_name(column) if self.fill is None else f"coalesce({quote_name(column)}, {format_double(self.fill)})"

    def scaled_sql(self, column: str) -> str:
        """Return SQL for the filled column, shifted and scaled."""
        if self.is_huge:
            scaled = f"({self.filled_sql(column)} * 0.5D - {format_double(self.shift)}) / {format_double(self.scale)}"
            return f"least(greatest({scaled}, {format_double(-_GREATEST_SCALED)}), {format_double(_GREATEST_SCALED)})"
        return f"({self.filled_sql(column)} - {format_double(self.shift)}) / {format_double(self.scale)}"

    def positive_sql(self, column: str) -> str:
        """Return SQL for the column between 0, its least value in training, and 1, its greatest; a missing value that stays so is 0."""
        part = 0.5 if self.is_huge else 1.0
        value = f"{self.filled_sql(column)} * 0.5D" if self.is_huge else self.filled_sql(column)
        width = self.high * part - self.low * part
        scale = width if width > 0 and math.isfinite(width) else 1.0
        scaled = f"({value} - {format_double(self.low * part)}) / {format_double(scale)}"
        return f"coalesce(least(greatest({scaled}, 0.0D), 1.0D), 0.0D)"

    def comparable_sql(self, column: str) -> str:
        """Return SQL for the filled column on a scale of its own, on which sums of squares are numbers; 0 where it is missing."""
        value = f"{self.filled_sql(column)} * {format_double(_SHRINK)}" if self.is_huge else self.filled_sql(column)
        return f"coalesce({value}, 0.0D)"


def fit_numbers(df: DataFrame, treatments: Mapping[str, Treatment], within: Column | None = None) -> dict[int, dict[str, Fitted]]:
    """Learn all columns of ``treatments`` (DOUBLE, null is missing) in one aggregate over ``df``.

    Returns what is learnt of each set of rows; ``within`` gives those that a row is in, as an array. Without it all rows are set 0.

    Mean and deviation are those of the imputed column, as if it had been imputed first, with n - 1 as MLlib has it; quartiles are those
    of the values present. A column without any value is filled with 0.
    """
    if not any(_is_learnt(treatment) for treatment in treatments.values()):
        given = {column: None if treatment.impute == "none" else float(treatment.impute) for column, treatment in treatments.items()}
        return {0: {column: Fitted(fill, scale=0.5, is_huge=True) for column, fill in given.items()}}  # they may be: none was looked at
    learnt = _by_set(df, within, {column: _aggregates(column, treatment) for column, treatment in treatments.items()})
    bounds = {column: [figures[column][end] or 0.0 for _, figures in learnt.values() for end in ("low", "high")] for column in treatments}
    huge = [column for column, ends in bounds.items() if max(map(abs, ends)) > _HUGE]  # in any set: others are applied to the same rows
    if huge:
        for number, (_, moments) in _by_set(df, within, {column: _moments_of_huge(column) for column in huge}).items():
            for column in huge:
                learnt[number][1][column] |= moments[column]
    return {
        number: {column: _fitted(figures[column], rows, treatment, column in huge) for column, treatment in treatments.items()}
        for number, (rows, figures) in learnt.items()
    }


def _by_set(
    df: DataFrame, within: Column | None, aggregates: Mapping[str, Sequence[Column]]
) -> dict[int, tuple[int, dict[str, dict[str, Any]]]]:
    """Return the rows of each set, and by column what the aggregates over them gave, by their names."""
    columns = list(aggregates)
    wanted = [F.struct(*aggregates[column]).alias(str(place)) for place, column in enumerate(columns)]
    sets = df.groupBy() if within is None else df.withColumn(SET, F.explode(within)).groupBy(SET)
    return {
        0 if within is None else row[SET]: (row["rows"], {column: row[str(place)].asDict() for place, column in enumerate(columns)})
        for row in sets.agg(F.count("*").alias("rows"), *wanted).collect()
    }


def _is_learnt(treatment: Treatment) -> bool:
    learnt = (treatment.scale != "none", isinstance(treatment.impute, str), treatment.bounds, treatment.indicator, treatment.cuts > 0)
    return any(learnt)


def _aggregates(column: str, treatment: Treatment) -> list[Column]:
    value = F.col(quote_name(column))
    aggregates = [
        F.count(value).alias("n"),
        F.avg(value).alias("mean"),
        F.stddev_samp(value).alias("deviation"),
        F.min(value).alias("low"),
        F.max(value).alias("high"),
    ]
    if treatment.quantiles:
        aggregates.append(F.percentile_approx(value, [0.25, 0.5, 0.75], _ACCURACY).alias("quartiles"))
    if treatment.cuts:
        levels = [place / treatment.cuts for place in range(1, treatment.cuts)]
        aggregates.append(F.percentile_approx(value, levels, _ACCURACY).alias("cuts"))
    if treatment.impute == "mode":
        aggregates.append(F.mode(value, deterministic=True).alias("mode"))
    return aggregates


def _moments_of_huge(column: str) -> list[Column]:
    value = F.col(quote_name(column)) * _SHRINK
    return [F.avg(value).alias("mean"), F.stddev_samp(value).alias("deviation")]


def _fitted(figures: Mapping[str, Any], rows: int, treatment: Treatment, is_huge: bool) -> Fitted:
    unit = _SHRINK if is_huge else 1.0
    fill = _fill(figures, treatment, unit)
    present = figures["n"]
    missing = rows - present if fill is not None else 0
    shift, scale = 0.0, unit
    ends = [figures["low"], figures["high"], *([fill] if missing and fill is not None else [])] if present else []
    values = [end * unit for end in ends]
    if present and treatment.scale == "standard":
        shift, scale = _moments(figures, present, missing, (fill or 0.0) * unit)
        scale = scale if differ(values) else 0.0
    elif present and treatment.scale == "minmax":
        shift, scale = min(values), max(values) - min(values)
    elif present and treatment.scale == "robust":
        low, shift, high = (quartile * unit for quartile in figures["quartiles"])
        scale = high - low
    scale = scale if scale > 0 and math.isfinite(scale) else unit
    if is_huge:
        shift, scale = shift * (0.5 / unit), scale * (0.5 / unit)
    low, high = (figures["low"], figures["high"]) if present else (0.0, 1.0)
    cuts = tuple(sorted(set(figures["cuts"]))) if treatment.cuts and present else ()
    return Fitted(fill, shift, scale, low, high, present < rows, cuts, is_huge)


def differ(values: Collection[float]) -> bool:
    """Return True where values, or the least and the greatest of them, differ by more than rounding."""
    return max(values) - min(values) > _ROUNDING * max(map(abs, values))


def _fill(figures: Mapping[str, Any], treatment: Treatment, unit: float) -> float | None:
    if treatment.impute == "none":
        return None
    if not isinstance(treatment.impute, str):
        return float(treatment.impute)
    if not figures["n"]:
        return 0.0
    if treatment.impute == "mean":
        return (
            float(min(max(figures["mean"], figures["low"] * unit), figures["high"] * unit) / unit)
            if unit != 1.0
            else float(figures["mean"])
        )
    return float(figures["quartiles"][1] if treatment.impute == "median" else figures[treatment.impute])


def _moments(figures: Mapping[str, Any], present: int, missing: int, fill: float) -> tuple[float, float]:
    """Return mean and deviation of ``present`` values together with ``missing`` times ``fill``."""
    mean, rows = figures["mean"], present + missing
    squares = figures["deviation"] ** 2 * (present - 1) if present > 1 else 0.0
    whole = (present * mean + missing * fill) / rows
    squares += present * (mean - whole) ** 2 + missing * (fill - whole) ** 2
    return whole, math.sqrt(squares / (rows - 1)) if rows > 1 else 0.0
