"""The first pass over the dataset, one aggregate for all checked columns.

It measures how often a column is null, whether it varies, whether it is later than the event, and how a number correlates with the label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.features.checks.checked_columns import CheckedColumns
from tidemill.features.checks.encoding import is_chosen
from tidemill.features.checks.label_statistics import LabelStatistics

# Numbers are divided into bins of about equal size; a frequent value has its own bin. Rows of one bin count as ties, so that an AUC is at
# most half the share of a bin off: about 1/BINS.
BINS = 1000
# The size of the sample, collected on the driver, that bins are computed from.
_QUANTILE_ROWS, _QUANTILE_VALUES = 20_000, 5_000_000
# Java compiles an aggregate into one method as long as it has fewer than a hundred fields.
_COLUMNS_PER_AGGREGATE = 7


@dataclass(frozen=True)
class CheckStatistics:
    """The number of rows of each split and of labelled training rows, and the statistics of each column by name."""

    train: int
    test: int
    learned: int
    columns: Mapping[str, Mapping[str, Any]]


def compute_statistics(codes: DataFrame, checked: CheckedColumns, label: LabelStatistics) -> CheckStatistics:
    """Read every checked column of ``codes`` once, and a sample of the numbers a second time.

    Statistics of a column: ``train`` and ``test`` (rows in which it is not null), ``hash`` (the same for columns that are equal in every
    training row), ``low`` and ``high`` of the training rows; where the label is known ``present``, of two classes ``one`` (rows of
    class 1 in which it is not null) and ``low_0`` to ``high_1``; of a regression ``null_sum`` and of its numbers ``r``; of numbers
    ``bins``; of instants ``later`` and ``compared`` (rows later than ``event_time``, and rows in which both are known).
    """
    is_train = F.col("is_train")
    totals = [F.count_if(is_train).alias("train"), F.count_if(~is_train).alias("test"), F.count_if(_is_learned()).alias("learned")]
    row = codes.agg(*totals).collect()[0].asDict()
    columns: dict[str, dict[str, Any]] = {name: {} for name in checked.all}
    for start in range(0, len(checked.all), _COLUMNS_PER_AGGREGATE):
        part = list(enumerate(checked.all))[start : start + _COLUMNS_PER_AGGREGATE]
        aggregates = [value.alias(f"{key}.{place}") for place, name in part for key, value in _figures(place, name, checked, label).items()]
        for key, value in codes.agg(*aggregates).collect()[0].asDict().items():
            figure, _, number = key.partition(".")
            columns[checked.all[int(number)]][figure] = value
    for name, bins in _bins(codes, checked, row["learned"]).items():
        columns[name]["bins"] = bins
    return CheckStatistics(row["train"], row["test"], row["learned"], columns)


def _is_learned() -> Column:
    return F.col("is_train") & F.col("y").isNotNull()


def _figures(place: int, name: str, checked: CheckedColumns, label: LabelStatistics) -> dict[str, Column]:
    value, is_train, is_learned = F.col(f"c{place}"), F.col("is_train"), _is_learned()
    figures = {**_general_figures(value, is_train), **_label_figures(value, is_learned, label)}
    if name in checked.numbers and label.kind.predicts_number:
        figures["r"] = F.corr(F.when(is_learned, value), F.when(is_learned, F.col("y")))
    if name in checked.instants:
        is_later = F.when(is_train, F.col(f"l{place}"))
        figures["later"], figures["compared"] = F.count_if(is_later), F.count(is_later)
    return figures


def sample_labelled_rows(codes: DataFrame, rows: int, sample_size: int) -> DataFrame:
    """Return the labelled training rows, or about ``sample_size`` of them, chosen by the hash of the key."""
    learned = codes.where(_is_learned())
    return learned if rows <= sample_size else learned.where(is_chosen(F.col("row"), rows, sample_size))


def find_constant_columns(stats: CheckStatistics) -> Iterator[tuple[str, bool]]:
    """Yield each column with one value in all training rows, or none, and whether it has a value."""
    for name, figures in stats.columns.items():
        if not figures["train"]:
            yield name, False
        elif figures["train"] == stats.train and figures["low"] == figures["high"]:
            yield name, True


def _general_figures(value: Column, is_train: Column) -> dict[str, Column]:
    in_train = F.when(is_train, value)
    # Keys are unique, so the hash of key and value identifies both.
    both = F.when(is_train, F.xxhash64(F.col("row"), value))
    return {
        "train": F.count(in_train),
        "test": F.count(F.when(~is_train, value)),
        "low": F.min(in_train),
        "high": F.max(in_train),
        "hash": F.bit_xor(both),
    }


def _label_figures(value: Column, is_learned: Column, label: LabelStatistics) -> dict[str, Column]:
    is_present = is_learned & value.isNotNull()
    figures = {"present": F.count_if(is_present)}
    if label.kind.has_two_classes:
        figures["one"] = F.count_if(is_present & (F.col("y") == 1))
        for digit in (0, 1):
            of_class = F.when(is_learned & (F.col("y") == digit), value)
            figures[f"low_{digit}"], figures[f"high_{digit}"] = F.min(of_class), F.max(of_class)
    if label.kind.predicts_number:
        figures["null_sum"] = F.sum(F.when(is_learned & value.isNull(), F.col("y")))
    return figures


def _bins(codes: DataFrame, checked: CheckedColumns, learned: int) -> dict[str, list[float]]:
    """Return the values between the bins of each number, from a sample if there are many rows."""
    if not checked.numbers or not learned:
        return {}
    rows = min(_QUANTILE_ROWS, max(_QUANTILE_VALUES // len(checked.numbers), BINS))
    table = sample_labelled_rows(codes, learned, rows).select(*[f"c{place}" for place in range(len(checked.numbers))]).toArrow()
    levels = [place / BINS for place in range(1, BINS)]
    bins = {}
    for place, name in enumerate(checked.numbers):
        values = table.column(place).drop_null().to_numpy()
        bins[name] = np.quantile(values, levels, method="inverted_cdf").tolist() if len(values) else []
    return bins
