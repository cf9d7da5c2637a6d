"""Fits of numeric columns: the fill value for missing ones, the shift and the scale."""

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
# The mean of equal numbers may differ from them by rounding.
_ROUNDING = 1e-12
# Sums of squares of larger numbers may overflow. Their mean and deviation are computed from the numbers times _SHRINK, a power of two,
# which
# changes no digit; and their halves are scaled, since the difference of two of them may overflow too.
_HUGE = 2.0**480
_SHRINK = 2.0**-540
_GREATEST_SCALED = 1e100


@dataclass(frozen=True)
class Treatment:
    """How a numeric column is imputed and scaled, as in ``features.numeric``."""

    impute: str | float
    scale: str
    bounds: bool = False  # whether the least and the greatest value are needed
    indicator: bool = False  # whether missing values get an indicator
    cuts: int = 0  # the number of buckets of about equal size

    @property
    def quantiles(self) -> bool:
        """True if the median or the quartiles are needed."""
        return self.impute == "median" or self.scale == "robust"


@dataclass(frozen=True)
class FittedNumber:
    """The fit of a numeric column; ``fill`` None keeps missing values.

    If ``is_huge``, ``shift`` and ``scale`` apply to half the values, and scaled values are limited to ±1e100.
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
        """Return SQL for the column between 0, its least value in training, and 1, its greatest; a missing value is 0."""
        part = 0.5 if self.is_huge else 1.0
        value = f"{self.filled_sql(column)} * 0.5D" if self.is_huge else self.filled_sql(column)
        width = self.high * part - self.low * part
        scale = width if width > 0 and math.isfinite(width) else 1.0
        scaled = f"({value} - {format_double(self.low * part)}) / {format_double(scale)}"
        return f"coalesce(least(greatest({scaled}, 0.0D), 1.0D), 0.0D)"

    def comparable_sql(self, column: str) -> str:
        """Return SQL for the filled column on a scale of its own, on which sums of squares do not overflow; 0 where it is missing."""
        value = f"{self.filled_sql(column)} * {format_double(_SHRINK)}" if self.is_huge else self.filled_sql(column)
        return f"coalesce({value}, 0.0D)"


def fit_numbers(df: DataFrame, treatments: Mapping[str, Treatment], within: Column | None = None) -> dict[int, dict[str, FittedNumber]]:
    """Fit all columns of ``treatments`` (DOUBLE, null is missing) in one aggregate over ``df``.

    Returns the fits by set of rows; ``within`` gives the sets that a row is in, as an array. Without it all rows are set 0.

    Mean and deviation are those of the imputed column, with n - 1 as in MLlib; quartiles are those of the values present. A column without
    any value is filled with 0.
    """
    if not any(_is_learnt(treatment) for treatment in treatments.values()):
        fills = {column: None if treatment.impute == "none" else float(treatment.impute) for column, treatment in treatments.items()}
        return {
            0: {column: FittedNumber(fill, scale=0.5, is_huge=True) for column, fill in fills.items()}
        }  # assume huge values, since none was read
    learnt = _by_set(df, within, {column: _aggregates(column, treatment) for column, treatment in treatments.items()})
    bounds = {column: [figures[column][end] or 0.0 for _, figures in learnt.values() for end in ("low", "high")] for column in treatments}
    huge = [
        column for column, ends in bounds.items() if max(map(abs, ends)) > _HUGE
    ]  # in any set, since all sets are applied to the same rows
    if huge:
        for number, (_, moments) in _by_set(df, within, {column: _moments_of_huge(column) for column in huge}).items():
            for column in huge:
                learnt[number][1][column] |= moments[column]
    return {
        number: {column: _fit_column(figures[column], rows, treatment, column in huge) for column, treatment in treatments.items()}
        for number, (rows, figures) in learnt.items()
    }


def _by_set(
    df: DataFrame, within: Column | None, aggregates: Mapping[str, Sequence[Column]]
) -> dict[int, tuple[int, dict[str, dict[str, Any]]]]:
    """Return the number of rows of each set, and the values of its aggregates by column and name."""
    columns = list(aggregates)
    structs = [F.struct(*aggregates[column]).alias(str(place)) for place, column in enumerate(columns)]
    sets = df.groupBy() if within is None else df.withColumn(SET, F.explode(within)).groupBy(SET)
    return {
        0 if within is None else row[SET]: (row["rows"], {column: row[str(place)].asDict() for place, column in enumerate(columns)})
        for row in sets.agg(F.count("*").alias("rows"), *structs).collect()
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


def _fit_column(figures: Mapping[str, Any], rows: int, treatment: Treatment, is_huge: bool) -> FittedNumber:
    unit = _SHRINK if is_huge else 1.0
    fill = _fill(figures, treatment, unit)
    present = figures["n"]
    missing = rows - present if fill is not None else 0
    shift, scale = 0.0, unit
    ends = [figures["low"], figures["high"], *([fill] if missing and fill is not None else [])] if present else []
    values = [end * unit for end in ends]
    if present and treatment.scale == "standard":
        shift, scale = _moments(figures, present, missing, (fill or 0.0) * unit)
        scale = scale if values_differ(values) else 0.0
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
    return FittedNumber(fill, shift, scale, low, high, present < rows, cuts, is_huge)


def values_differ(values: Collection[float]) -> bool:
    """Return True where values, or the least and the greatest of them, values_differ by more than rounding."""
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
