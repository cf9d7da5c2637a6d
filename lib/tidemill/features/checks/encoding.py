"""The checked columns as numbers: aggregates over numbers are fast, and the checks need no more."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column, is_hashable
from tidemill.features.checks.checked_columns import CheckedColumns
from tidemill.features.checks.label_statistics import LabelStatistics
from tidemill.features.column_facts import kind_of
from tidemill.features.names import number_sql
from tidemill.spec.models import Dataset

FOLDS = 5
_PARTS = 1_000_000


def encode_columns(marked: DataFrame, checked: CheckedColumns, dataset: Dataset, label: LabelStatistics) -> DataFrame:
    """Return ``is_train``, ``row`` (a hash of the key), ``fold`` (0 to 4), ``y``, ``at`` and ``c<place>`` of each checked column.

    ``y`` is the label: a number minus its mean, 0 or 1, or a hash of one of many classes; null where the label is null. Instants are
    microseconds as BIGINT, numbers finite DOUBLEs, and other values hashes; a value that cannot be hashed is 0, or null if it is null. Rows
    of a gap between train and test are left out; training rows without a fold (a gap between folds) are in the last one.
    """
    y = label.number() - F.lit(label.mean)
    if label.kind.has_many_classes:
        y = F.when(column(label.name).isNotNull(), F.xxhash64(column(label.name).cast("string")))
    return marked.where(F.col("split").isin("train", "test")).select(
        (F.col("split") == "train").alias("is_train"),
        key_hash(dataset, "checks").alias("row"),
        F.coalesce(F.pmod(F.col("fold"), F.lit(FOLDS)), F.lit(FOLDS - 1)).alias("fold"),
        y.alias("y"),
        *[_code(marked.schema[name].dataType, name).alias(f"c{place}") for place, name in enumerate(checked.all)],
        *[_is_after_event(marked, name, dataset).alias(f"l{place}") for place, name in enumerate(checked.all) if name in checked.instants],
    )


def key_hash(dataset: Dataset, stream: str) -> Column:
    """Return a BIGINT hash of a row's key; hashes of different streams are independent."""
    return F.xxhash64(*[column(key).cast("string") for key in dataset.key], F.lit(stream))


def is_chosen(place: Column, rows: int, sample_size: int) -> Column:
    """Return true for about ``sample_size`` of ``rows`` rows, by a hash of their keys."""
    return F.pmod(place, F.lit(_PARTS)) < round(sample_size / rows * _PARTS)


def _code(kind: T.DataType, name: str) -> Column:
    if isinstance(kind, T.NumericType):
        return F.expr(number_sql(name))
    if kind_of(kind) == "datetime":
        return F.unix_micros(column(name).cast("timestamp"))
    return F.when(column(name).isNotNull(), F.xxhash64(column(name)) if is_hashable(kind) else F.lit(0).cast("bigint"))


def _is_after_event(marked: DataFrame, name: str, dataset: Dataset) -> Column:
    """Return whether the instant is later than ``event_time``; null where either is null. If one is a date, dates are compared."""
    event = dataset.event_time
    if event is None or kind_of(marked.schema[event].dataType) != "datetime":
        return F.lit(None).cast("boolean")
    kind = "date" if any(isinstance(marked.schema[part].dataType, T.DateType) for part in (name, event)) else "timestamp"
    return column(name).cast(kind) > column(event).cast(kind)
