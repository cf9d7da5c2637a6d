"""The first pass over the dataset, one aggregate for all judged columns.

It says how often a column is null, whether it varies, when it is known, and how a number goes along with the label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.features.checks.subjects import Subjects, has_order
from tidemill.features.checks.target import Target
from tidemill.features.names import number_sql
from tidemill.features.plan import kind_of
from tidemill.spec.models import Dataset

# Values of a number that part its rows into bins of about equal size. Rows of one bin count as half right and half wrong, so that an
# AUC is at most 1/BINS off; a value that is frequent has a bin of its own.
BINS = 1000
_ACCURACY = 10_000


@dataclass(frozen=True)
class Profile:
    """Rows of each split, labelled training rows, and the figures of each column by its name."""

    train: int
    test: int
    learned: int
    columns: Mapping[str, Mapping[str, Any]]


def profile(marked: DataFrame, subjects: Subjects, dataset: Dataset, target: Target) -> Profile:
    """Read every judged column once.

    Figures of a column: ``train`` and ``test`` (rows in which it is not null), ``hash`` (the same for columns that are equal in every
    training row), ``low`` and ``high`` of the training rows; where the label is known ``present``, of two classes ``one`` (rows of
    class 1 in which it is not null) and ``low_0`` to ``high_1``; of numbers ``bins``, of a regression ``r``; of instants ``later`` and
    ``compared`` (rows behind ``event_time``, and rows in which both are known).
    """
    is_train = F.col("split") == "train"
    is_learned = is_train & column(target.name).isNotNull()
    ordered = set(has_order(marked.schema, subjects.all))
    wanted = []
    for place, name in enumerate(subjects.all):
        figures = {
            **_everywhere(marked, name, dataset, is_train),
            **(_extremes(marked, name, is_train, is_learned, target) if name in ordered else {}),
            **_against_label(marked, name, is_learned, target, name in subjects.numbers),
            **(_after_event(marked, name, dataset, is_train) if name in subjects.instants else {}),
        }
        wanted.append(F.struct(*[value.alias(key) for key, value in figures.items()]).alias(f"c{place}"))
    totals = [F.count_if(is_train).alias("train"), F.count_if(~is_train).alias("test"), F.count_if(is_learned).alias("learned")]
    row = marked.agg(*totals, *wanted).collect()[0]
    columns = {name: row[f"c{place}"].asDict() for place, name in enumerate(subjects.all)}
    return Profile(row["train"], row["test"], row["learned"], columns)


def value_of(df: DataFrame, name: str) -> Column:
    """Return the column as checks see it: a number as a finite DOUBLE, anything else as it is."""
    return F.expr(number_sql(name)) if isinstance(df.schema[name].dataType, T.NumericType) else column(name)


def _everywhere(df: DataFrame, name: str, dataset: Dataset, is_train: Column) -> dict[str, Column]:
    value = value_of(df, name)
    figures = {"train": F.count(F.when(is_train, value)), "test": F.count(F.when(~is_train, value))}
    if not isinstance(df.schema[name].dataType, T.MapType | T.VariantType):
        # Each row has a key of its own, so that its hash stands for the row and the value together.
        text = value.cast("string") if isinstance(df.schema[name].dataType, T.AtomicType) else value
        rows = F.xxhash64(*[column(key) for key in dataset.key], text, value.isNull())
        figures["hash"] = F.bit_xor(F.when(is_train, rows))
    return figures


def _extremes(df: DataFrame, name: str, is_train: Column, is_learned: Column, target: Target) -> dict[str, Column]:
    value = value_of(df, name)
    figures = {"low": F.min(F.when(is_train, value)).cast("string"), "high": F.max(F.when(is_train, value)).cast("string")}
    if target.task == "binary":
        for digit in (0, 1):
            seen = F.when(is_learned & (target.number() == digit), value)
            figures[f"low_{digit}"], figures[f"high_{digit}"] = F.min(seen).cast("string"), F.max(seen).cast("string")
    return figures


def _against_label(df: DataFrame, name: str, is_learned: Column, target: Target, is_number: bool) -> dict[str, Column]:
    value = value_of(df, name)
    is_present = is_learned & value.isNotNull()
    figures = {"present": F.count_if(is_present)}
    if target.task == "binary":
        figures["one"] = F.count_if(is_present & (target.number() == 1))
    if target.task == "regression":
        figures["null_sum"] = F.sum(F.when(is_learned & value.isNull(), target.number()))
    if is_number:
        levels = [place / BINS for place in range(1, BINS)]
        figures["bins"] = F.percentile_approx(F.when(is_learned, value), levels, _ACCURACY)
        if target.task == "regression":
            figures["r"] = F.corr(F.when(is_present, value), F.when(is_present, target.number()))
    return figures


def _after_event(df: DataFrame, name: str, dataset: Dataset, is_train: Column) -> dict[str, Column]:
    event = dataset.event_time
    if event is None or kind_of(df.schema[event].dataType) != "datetime":
        return {}
    kind = "date" if any(isinstance(df.schema[part].dataType, T.DateType) for part in (name, event)) else "timestamp"
    value, at = column(name).cast(kind), column(event).cast(kind)
    return {"later": F.count_if(is_train & (value > at)), "compared": F.count_if(is_train & value.isNotNull() & at.isNotNull())}


def constant_columns(found: Profile) -> Iterator[tuple[str, str | None]]:
    """Yield each column with one value in all training rows, or none, and that value."""
    for name, figures in found.columns.items():
        if not figures["train"]:
            yield name, None
        elif figures["train"] == found.train and figures.get("low") is not None and figures["low"] == figures["high"]:
            yield name, figures["low"]
