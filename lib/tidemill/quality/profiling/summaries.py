"""Counts, extremes, means, quantiles and lengths of columns: aggregates, as many columns at a time as one job bears."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
ACCURACY = 10_000  # of the quantiles: within 1/10,000 of the rank
DISTINCT_ERROR = 0.02
SHOWN = 200  # characters of an extreme text
TOP = 25
_COLUMNS_A_JOB = 50
_INSTANTS = (T.DateType, T.TimestampType, T.TimestampNTZType)


@dataclass(frozen=True)
class Ends:
    """The least and the greatest finite value; of instants in microseconds since 1970."""

    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """The aggregates of one column; None where they do not fit its type, or where it holds no value.

    ``min`` and ``max`` are texts (of texts their first 200 characters), ``quantiles`` are numbers, of instants texts. Lengths are
    characters of texts, bytes of binaries, elements of arrays and maps. ``distinct`` and ``top_values`` are estimates, if asked for.
    """

    nulls: int
    min: str | None = None
    max: str | None = None
    mean: float | None = None
    stddev: float | None = None
    quantiles: dict[float, float | str] | None = None
    zeros: int | None = None
    negatives: int | None = None
    not_finite: int | None = None
    empty: int | None = None
    min_length: int | None = None
    max_length: int | None = None
    mean_length: float | None = None
    low: float | None = None
    high: float | None = None
    distinct: int | None = None
    top_values: tuple[tuple[str, int], ...] | None = None

    @property
    def ends(self) -> Ends | None:
        """The ends of the histogram; None where there is none."""
        return None if self.low is None or self.high is None else Ends(self.low, self.high)


def summarize_columns(df: DataFrame, fields: Sequence[T.StructField], *, with_sketches: bool) -> list[Summary]:
    """Return the summary of each column of ``fields``, with estimates of its distinct and frequent values if asked for."""
    summaries: list[Summary] = []
    for start in range(0, len(fields), _COLUMNS_A_JOB):
        part = fields[start : start + _COLUMNS_A_JOB]
        aggregates = [_aggregates(field, with_sketches) for field in part]
        named = [value.alias(f"{place}_{name}") for place, values in enumerate(aggregates) for name, value in values.items()]
        row = df.agg(*named).first()
        assert row is not None  # an aggregate without groups always has one row
        summaries += [Summary(**{name: _plain(name, row[f"{place}_{name}"]) for name in values}) for place, values in enumerate(aggregates)]
    return summaries


def as_double(field: T.StructField) -> Column:
    """Return finite numbers as doubles, instants as microseconds since 1970; anything else as null."""
    values = column(field.name)
    if isinstance(field.dataType, _INSTANTS):
        return F.unix_micros(values.cast("timestamp")).cast("double")
    return _finite(field).cast("double")


def _aggregates(field: T.StructField, with_sketches: bool) -> dict[str, Column]:
    values, kind = column(field.name), field.dataType
    counts = {"nulls": F.count_if(values.isNull())}
    for types, aggregates in _KINDS:
        if isinstance(kind, types):
            measures = {**counts, **aggregates(field)}
            return {**measures, **_sketches(values)} if with_sketches and types not in (_SIZED, _BINARY) else measures
    return counts


def _number(field: T.StructField) -> dict[str, Column]:
    values, finite, double = column(field.name), _finite(field), as_double(field)
    is_fractional = isinstance(field.dataType, T.FloatType | T.DoubleType)
    return {
        "min": F.min(finite).cast("string"),
        "max": F.max(finite).cast("string"),
        "mean": F.avg(double),
        "stddev": F.stddev_samp(double),
        "quantiles": F.percentile_approx(double, list(QUANTILES), ACCURACY),
        "zeros": F.count_if(values == 0),
        "negatives": F.count_if(values < 0),
        "not_finite": F.count(F.when(values.isNotNull() & finite.isNull(), 1)) if is_fractional else F.lit(0),
        "low": F.min(double),
        "high": F.max(double),
    }


def _instant(field: T.StructField) -> dict[str, Column]:
    values = column(field.name)
    micros = F.unix_micros(values.cast("timestamp"))
    quantiles = F.percentile_approx(micros, list(QUANTILES), ACCURACY)
    return {
        "min": F.min(values).cast("string"),
        "max": F.max(values).cast("string"),
        "quantiles": F.transform(quantiles, lambda each: F.timestamp_micros(each).cast(field.dataType).cast("string")),
        "low": F.min(micros).cast("double"),
        "high": F.max(micros).cast("double"),
    }


def _text(field: T.StructField) -> dict[str, Column]:
    values = column(field.name)
    extremes = {"min": F.min(values).substr(1, SHOWN), "max": F.max(values).substr(1, SHOWN), "empty": F.count_if(values == "")}
    return {**extremes, **_lengths(F.length(values))}


def _boolean(field: T.StructField) -> dict[str, Column]:
    values = column(field.name)
    return {"min": F.min(values).cast("string"), "max": F.max(values).cast("string")}


def _size(field: T.StructField) -> dict[str, Column]:
    values = column(field.name)
    return _lengths(F.when(values.isNotNull(), F.size(values)))


def _bytes(field: T.StructField) -> dict[str, Column]:
    return _lengths(F.octet_length(column(field.name)))


def _lengths(length: Column) -> dict[str, Column]:
    return {"min_length": F.min(length), "max_length": F.max(length), "mean_length": F.avg(length)}


def _sketches(values: Column) -> dict[str, Column]:
    top = F.transform(
        F.call_function("approx_top_k", values, F.lit(TOP)), lambda each: F.struct(each["item"].cast("string"), each["count"])
    )
    return {"distinct": F.approx_count_distinct(values, DISTINCT_ERROR), "top_values": top}


def _finite(field: T.StructField) -> Column:
    values = column(field.name)
    if not isinstance(field.dataType, T.FloatType | T.DoubleType):
        return values
    return F.when(~F.isnan(values) & (F.abs(values) != F.lit(float("inf"))), values)


def _plain(name: str, value: Any) -> Any:
    if name == "quantiles" and isinstance(value, list):
        return dict(zip(QUANTILES, value, strict=True))
    if name == "top_values" and isinstance(value, list):
        return tuple((text, n) for text, n in value if text is not None)
    return value


_SIZED = (T.ArrayType, T.MapType)
_BINARY = (T.BinaryType,)
_KINDS: tuple[tuple[tuple[type[T.DataType], ...], Callable[[T.StructField], dict[str, Column]]], ...] = (
    ((T.NumericType,), _number),
    (_INSTANTS, _instant),
    ((T.StringType,), _text),
    ((T.BooleanType,), _boolean),
    (_SIZED, _size),
    (_BINARY, _bytes),
)
