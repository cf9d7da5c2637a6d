"""Drift of columns: the distance between the histograms of reference rows and of the rows that are compared with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.ml.feature import Bucketizer
from pyspark.sql import Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.errors import StepError
from tidemill.monitoring.methods import PSI, DriftMethod

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


QUANTILES = tuple(step / 10 for step in range(1, 10))
ACCURACY = 2_000  # of the approximate quantiles: within 1/2,000 of the rank
TOP_CATEGORIES = 50
_OTHER, _NULL = "other", "null"


@dataclass(frozen=True)
class ColumnDrift:
    """The distance of one column; None where there is nothing to compare. Counts are rows, nulls included."""

    column: str
    value: float | None
    rows_reference: int
    rows_scored: int


def drift_columns(df: DataFrame, columns: Sequence[str]) -> list[str]:
    """Return those columns whose drift can be measured: numbers, strings and booleans (instants always move on)."""
    kinds = (T.NumericType, T.StringType, T.BooleanType)
    return [name for name in columns if name in df.columns and isinstance(df.schema[name].dataType, kinds)]


def measure_drift(reference: DataFrame, scored: DataFrame, columns: Sequence[str], method: DriftMethod = PSI) -> list[ColumnDrift]:
    """Compute the distance of each column, with one job for the quantiles and one for all counts.

    Numbers fall into at most ten bins between the deciles of the reference (fewer where deciles coincide), other columns into the 50
    most frequent values of the reference and "other"; null (and NaN) is a separate bin. Values of ``scored`` are compared in the
    reference's type; what cannot be cast counts as null.
    """
    names = drift_columns(reference, columns)
    if not names:
        return []
    numeric = [name for name in names if isinstance(reference.schema[name].dataType, T.NumericType)]
    splits = _splits(reference, numeric)
    counts: dict[int, list[tuple[int, int]]] = {place: [] for place in range(len(names))}
    unpivoted = [_unpivot(_like(reference, frame, names), names, splits) for frame in (reference, scored)]
    for row in _counts(*unpivoted).collect():
        counts[row["place"]].append((row["rows_reference"], row["rows_scored"]))
    return [_drift(names[place], pairs, method) for place, pairs in counts.items()]


def _drift(name: str, pairs: Sequence[tuple[int, int]], method: DriftMethod) -> ColumnDrift:
    reference, scored = [a for a, _ in pairs], [b for _, b in pairs]
    rows_reference, rows_scored = sum(reference), sum(scored)
    value = method.distance(reference, scored) if rows_reference and rows_scored else None
    if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
        raise StepError(f"the drift method {method.name} gives {value!r} for {name}; return a finite number, or None for no distance")
    return ColumnDrift(name, None if value is None else float(value), rows_reference, rows_scored)


def level(value: float | None, warn: float, alert: float) -> str:
    """Return ``ok``, ``warn`` or ``alert``; a value at a bound is above it."""
    if value is None or value < warn:
        return "ok"
    return "alert" if value >= alert else "warn"


def _like(reference: DataFrame, frame: DataFrame, names: Sequence[str]) -> DataFrame:
    """Return the columns of ``frame`` in the types of ``reference``."""
    types = {name: reference.schema[name].dataType for name in names}
    fits = {name: frame.schema[name].dataType == kind for name, kind in types.items()}
    return frame.select(*[column(name) if fits[name] else column(name).try_cast(kind).alias(name) for name, kind in types.items()])


def _splits(reference: DataFrame, numeric: Sequence[str]) -> dict[str, list[float]]:
    """Return the bounds of the bins of each numeric column; a bin holds the values up to and with a decile.

    The Bucketizer's bins hold their lower bound and not their upper one, so each decile is moved up to the next double: otherwise
    the many zeros of a column that is never negative would share a bin with all that follows.
    """
    if not numeric:
        return {}
    numbers = [column(name).cast("double") for name in numeric]
    deciles = [F.percentile_approx(F.when(~F.isnan(number), number), list(QUANTILES), ACCURACY) for number in numbers]
    row = reference.agg(*deciles).first()
    assert row is not None  # an aggregate without groups always has one row
    edges_of = dict(zip(numeric, row, strict=True))
    inner = {name: sorted({math.nextafter(edge, math.inf) for edge in edges_of[name] or (0.0,)} - {math.inf}) for name in numeric}
    return {name: [-math.inf, *(edges or [0.0]), math.inf] for name, edges in inner.items()}


def _unpivot(df: DataFrame, names: Sequence[str], splits: Mapping[str, list[float]]) -> DataFrame:
    """Return one row a value: ``place`` of its column and ``code``, the number of its bin or the hash of its text; null stays null.

    Bins come from MLlib's Bucketizer: as column expressions, a hundred comparisons make one method that Java does not compile. The columns
    are called by their places, as MLlib knows no names with dots.
    """
    places = {name: f"c{place}" for place, name in enumerate(names)}
    hashes = {name: F.when(column(name).isNotNull(), F.xxhash64(column(name))) for name in names if name not in splits}
    coded = df.select(*[hashes.get(name, column(name).cast("double")).alias(places[name]) for name in names])
    codes = {name: F.col(place) for name, place in places.items()}
    if splits:
        inputs = [places[name] for name in splits]
        outputs = [f"bin_{place}" for place in inputs]
        coded = Bucketizer(inputCols=inputs, outputCols=outputs, splitsArray=list(splits.values()), handleInvalid="keep").transform(coded)
        # The Bucketizer's last bin, one beyond the splits, is for NaN.
        codes |= {name: F.nullif(F.col(output), F.lit(len(splits[name]) - 1.0)) for name, output in zip(splits, outputs, strict=True)}
    return coded.select(F.posexplode(F.array(*[codes[name].cast("bigint") for name in names])).alias("place", "code"))


def _counts(reference: DataFrame, scored: DataFrame) -> DataFrame:
    """Return ``place``, ``rows_reference``, ``rows_scored``: one row a bin, at most 52 a column."""
    values = (
        reference.select("*", F.lit(0).alias("is_scored"))
        .unionByName(scored.select("*", F.lit(1).alias("is_scored")))
        .groupBy("place", "code")
        .agg(F.sum(1 - F.col("is_scored")).alias("rows_reference"), F.sum("is_scored").alias("rows_scored"))
    )
    by_rank = Window.partitionBy("place").orderBy(F.col("code").isNull(), F.col("rows_reference").desc(), "code")
    is_kept = (F.row_number().over(by_rank) <= TOP_CATEGORIES) & (F.col("rows_reference") > 0)
    bucket = F.when(F.col("code").isNull(), _NULL).when(is_kept, F.col("code").cast("string")).otherwise(_OTHER)
    return (
        values.select("place", bucket.alias("bucket"), "rows_reference", "rows_scored")
        .groupBy("place", "bucket")
        .agg(F.sum("rows_reference").alias("rows_reference"), F.sum("rows_scored").alias("rows_scored"))
        .select("place", "rows_reference", "rows_scored")
    )
