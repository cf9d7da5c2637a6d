"""The judged columns as plain numbers, which is all that the checks need and what aggregates are fast on."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column, is_hashable
from tidemill.features.checks.subjects import Subjects
from tidemill.features.checks.target import Target
from tidemill.features.column_facts import kind_of
from tidemill.features.names import number_sql
from tidemill.spec.models import Dataset

FOLDS = 5
_PARTS = 1_000_000


def coded(marked: DataFrame, judged: Subjects, dataset: Dataset, target: Target) -> DataFrame:
    """Return ``is_train``, ``row`` (a hash of the key), ``fold`` (0 to 4), ``y``, ``at`` and ``c<place>`` of each judged column.

    ``y`` is null where the label is: a number (of a regression less its mean), 0 or 1, or a hash of one of many classes. ``at`` is the
    event time and an instant is a BIGINT of microseconds, both of whole days where one of the two is a date. A number is a finite DOUBLE,
    other values are their hashes; what cannot be hashed is 0 or null. Rows of a gap between train and test are left out; training rows
    that a gap between folds leaves without one are in the last.
    """
    y = target.number() - F.lit(target.mean)
    if target.kind.has_many_classes:
        y = F.when(column(target.name).isNotNull(), F.xxhash64(column(target.name).cast("string")))
    return marked.where(F.col("split").isin("train", "test")).select(
        (F.col("split") == "train").alias("is_train"),
        key_hash(dataset, "checks").alias("row"),
        F.coalesce(F.pmod(F.col("fold"), F.lit(FOLDS)), F.lit(FOLDS - 1)).alias("fold"),
        y.alias("y"),
        *[_code(marked.schema[name].dataType, name).alias(f"c{place}") for place, name in enumerate(judged.all)],
        *[_behind(marked, name, dataset).alias(f"l{place}") for place, name in enumerate(judged.all) if name in judged.instants],
    )


def key_hash(dataset: Dataset, stream: str) -> Column:
    """Return a BIGINT hash of a row's key; those of two streams have nothing to do with one another."""
    return F.xxhash64(*[column(key).cast("string") for key in dataset.key], F.lit(stream))


def is_chosen(place: Column, rows: int, wanted: int) -> Column:
    """Return true for about ``wanted`` of so many rows, by a hash of their keys."""
    return F.pmod(place, F.lit(_PARTS)) < round(wanted / rows * _PARTS)


def _code(kind: T.DataType, name: str) -> Column:
    if isinstance(kind, T.NumericType):
        return F.expr(number_sql(name))
    if kind_of(kind) == "datetime":
        return F.unix_micros(column(name).cast("timestamp"))
    return F.when(column(name).isNotNull(), F.xxhash64(column(name)) if is_hashable(kind) else F.lit(0).cast("bigint"))


def _behind(marked: DataFrame, name: str, dataset: Dataset) -> Column:
    """Return whether the instant lies behind ``event_time``, null where one of the two is not known."""
    event = dataset.event_time
    if event is None or kind_of(marked.schema[event].dataType) != "datetime":
        return F.lit(None).cast("boolean")
    kind = "date" if any(isinstance(marked.schema[part].dataType, T.DateType) for part in (name, event)) else "timestamp"
    return column(name).cast(kind) > column(event).cast(kind)
