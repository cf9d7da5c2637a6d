"""Drift of feature columns: the population stability index of scored rows against training rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

QUANTILES = tuple(step / 10 for step in range(1, 10))
ACCURACY = 10_000  # of the approximate quantiles: within 1/10,000 of the rank
TOP_CATEGORIES = 50
EPSILON = 1e-4
_OTHER, _NULL = "other", "null"


@dataclass(frozen=True)
class ColumnDrift:
    """The index of one column; None where there is nothing to compare. Counts are rows, nulls included."""

    column: str
    value: float | None
    rows_reference: int
    rows_scored: int


def drift_columns(df: DataFrame, columns: Sequence[str]) -> list[str]:
    """Return those columns whose drift can be measured: numbers, strings and booleans (instants always move on)."""
    kinds = (T.NumericType, T.StringType, T.BooleanType)
    return [name for name in columns if name in df.columns and isinstance(df.schema[name].dataType, kinds)]


def measure_drift(reference: DataFrame, scored: DataFrame, columns: Sequence[str]) -> list[ColumnDrift]:
    """Compute the population stability index of each column, with one job for the quantiles and one for all counts.

    Numbers fall into at most ten bins between the deciles of the reference (fewer where deciles coincide), other columns into the 50
    most frequent values of the reference and "other"; null (and NaN) is a bin of its own. Values of ``scored`` are compared in the
    reference's type; what cannot be cast counts as null.
    """
    names = drift_columns(reference, columns)
    if not names:
        return []
    aligned = scored.select(*[F.col(name).try_cast(reference.schema[name].dataType).alias(name) for name in names])
    edges = _edges(reference, [name for name in names if isinstance(reference.schema[name].dataType, T.NumericType)])
    counts: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    for row in _counts(reference.select(*names), aligned, names, edges).collect():
        counts[row["column"]].append((row["rows_reference"], row["rows_scored"]))
    return [
        ColumnDrift(name, psi([a for a, _ in pairs], [b for _, b in pairs]), sum(a for a, _ in pairs), sum(b for _, b in pairs))
        for name, pairs in counts.items()
    ]


def psi(reference: Sequence[int], scored: Sequence[int]) -> float | None:
    """Return the population stability index of two lists of counts over the same bins; None where one of them is empty.

    The sum over the bins of (q - p) * ln(q / p), p and q the shares of reference and scored rows. A share below 1e-4 counts as 1e-4, so
    that an empty bin weighs but does not make the index infinite.

    Source: N. Siddiqi, Credit Risk Scorecards, Wiley 2006, p. 136 (formula, and the levels 0.1 and 0.25); the bound of 1e-4 is the usual
    convention for empty bins.
    """
    rows_reference, rows_scored = sum(reference), sum(scored)
    if not rows_reference or not rows_scored:
        return None
    shares = [(max(a / rows_reference, EPSILON), max(b / rows_scored, EPSILON)) for a, b in zip(reference, scored, strict=True)]
    return math.fsum((q - p) * math.log(q / p) for p, q in shares)


def level(value: float | None, warn: float, alert: float) -> str:
    """Return ``ok``, ``warn`` or ``alert``; a value at a bound is above it."""
    if value is None or value < warn:
        return "ok"
    return "alert" if value >= alert else "warn"


def _number(name: str) -> Column:
    """Return the column as a number without NaN, which is null here."""
    value = F.col(name).cast("double")
    return F.when(~F.isnan(value), value)


def _edges(reference: DataFrame, numeric: Sequence[str]) -> dict[str, list[float]]:
    if not numeric:
        return {}
    row = reference.agg(*[F.percentile_approx(_number(name), list(QUANTILES), ACCURACY).alias(name) for name in numeric]).first()
    assert row is not None  # an aggregate without groups always has one row
    return {name: sorted(set(row[name] or ())) for name in numeric}


def _bin(name: str, edges: Mapping[str, list[float]]) -> Column:
    """Return the bin of a value as a string: how many edges lie below it, or the value itself; null stays null."""
    if name not in edges:
        return F.col(name).cast("string")
    value = _number(name)
    above: Column = reduce(add, [(value > edge).cast("int") for edge in edges[name]], F.when(value.isNotNull(), F.lit(0)))
    return above.cast("string")


def _counts(reference: DataFrame, scored: DataFrame, names: Sequence[str], edges: Mapping[str, list[float]]) -> DataFrame:
    """Return ``column``, ``rows_reference``, ``rows_scored``: one row a bin, at most 52 a column."""
    cells = F.array(*[F.struct(F.lit(name).alias("column"), _bin(name, edges).alias("value")) for name in names])

    def tall(df: DataFrame, is_scored: int) -> DataFrame:
        return df.select(F.explode(cells).alias("cell"), F.lit(is_scored).alias("is_scored")).select("cell.*", "is_scored")

    values = (
        tall(reference, 0)
        .unionByName(tall(scored, 1))
        .groupBy("column", "value")
        .agg(F.sum(1 - F.col("is_scored")).alias("rows_reference"), F.sum("is_scored").alias("rows_scored"))
    )
    by_rank = Window.partitionBy("column").orderBy(F.col("value").isNull(), F.col("rows_reference").desc(), "value")
    is_kept = (F.row_number().over(by_rank) <= TOP_CATEGORIES) & (F.col("rows_reference") > 0)
    bucket = F.when(F.col("value").isNull(), _NULL).when(is_kept, F.concat(F.lit("="), "value")).otherwise(_OTHER)
    return (
        values.select("column", bucket.alias("bucket"), "rows_reference", "rows_scored")
        .groupBy("column", "bucket")
        .agg(F.sum("rows_reference").alias("rows_reference"), F.sum("rows_scored").alias("rows_scored"))
        .select("column", "rows_reference", "rows_scored")
    )
