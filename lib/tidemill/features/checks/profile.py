"""The first pass over the dataset, one aggregate for all judged columns.

It says how often a column is null, whether it varies, when it is known, and how a number goes along with the label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.features.checks.coded import is_chosen
from tidemill.features.checks.subjects import Subjects
from tidemill.features.checks.target import Target

# Values of a number that part its rows into bins of about equal size; one that is frequent has a bin of its own. Rows of one bin count as
# half right and half wrong, so that an AUC is at most half the share of a bin off: about 1/BINS.
BINS = 1000
# The bins of more rows than this are those of about as many of them, which come to the driver.
_QUANTILE_ROWS, _QUANTILE_VALUES = 20_000, 5_000_000
# Java compiles an aggregate into one method while it has fewer than a hundred fields.
_AT_ONCE = 7


@dataclass(frozen=True)
class Profile:
    """Rows of each split, labelled training rows, and the figures of each column by its name."""

    train: int
    test: int
    learned: int
    columns: Mapping[str, Mapping[str, Any]]


def profile(codes: DataFrame, judged: Subjects, target: Target) -> Profile:
    """Read every judged column of ``codes`` once, and a share of the rows of numbers a second time.

    Figures of a column: ``train`` and ``test`` (rows in which it is not null), ``hash`` (the same for columns that are equal in every
    training row), ``low`` and ``high`` of the training rows; where the label is known ``present``, of two classes ``one`` (rows of
    class 1 in which it is not null) and ``low_0`` to ``high_1``; of a regression ``null_sum`` and of its numbers ``r``; of numbers
    ``bins``; of instants ``later`` and ``compared`` (rows behind ``event_time``, and rows in which both are known).
    """
    is_train = F.col("is_train")
    totals = [F.count_if(is_train).alias("train"), F.count_if(~is_train).alias("test"), F.count_if(_is_learned()).alias("learned")]
    row = codes.agg(*totals).collect()[0].asDict()
    columns: dict[str, dict[str, Any]] = {name: {} for name in judged.all}
    for start in range(0, len(judged.all), _AT_ONCE):
        part = list(enumerate(judged.all))[start : start + _AT_ONCE]
        wanted = [value.alias(f"{key}.{place}") for place, name in part for key, value in _figures(place, name, judged, target).items()]
        for key, value in codes.agg(*wanted).collect()[0].asDict().items():
            figure, _, number = key.partition(".")
            columns[judged.all[int(number)]][figure] = value
    for name, bins in _bins(codes, judged, row["learned"]).items():
        columns[name]["bins"] = bins
    return Profile(row["train"], row["test"], row["learned"], columns)


def _is_learned() -> Column:
    return F.col("is_train") & F.col("y").isNotNull()


def _figures(place: int, name: str, judged: Subjects, target: Target) -> dict[str, Column]:
    value, is_train, is_learned = F.col(f"c{place}"), F.col("is_train"), _is_learned()
    figures = {**_everywhere(value, is_train), **_against_label(value, is_learned, target)}
    if name in judged.numbers and target.kind.predicts_number:
        figures["r"] = F.corr(F.when(is_learned, value), F.when(is_learned, F.col("y")))
    if name in judged.instants:
        behind = F.when(is_train, F.col(f"l{place}"))
        figures["later"], figures["compared"] = F.count_if(behind), F.count(behind)
    return figures


def sampled(codes: DataFrame, rows: int, wanted: int) -> DataFrame:
    """Return the labelled training rows, or about ``wanted`` of them, chosen by the hash of the key."""
    learned = codes.where(_is_learned())
    return learned if rows <= wanted else learned.where(is_chosen(F.col("row"), rows, wanted))


def constant_columns(found: Profile) -> Iterator[tuple[str, bool]]:
    """Yield each column with one value in all training rows, or none, and whether it has a value."""
    for name, figures in found.columns.items():
        if not figures["train"]:
            yield name, False
        elif figures["train"] == found.train and figures["low"] == figures["high"]:
            yield name, True


def _everywhere(value: Column, is_train: Column) -> dict[str, Column]:
    seen = F.when(is_train, value)
    # Each row has a key of its own, so that the hash of both stands for the row and the value together.
    both = F.when(is_train, F.xxhash64(F.col("row"), value))
    return {
        "train": F.count(seen),
        "test": F.count(F.when(~is_train, value)),
        "low": F.min(seen),
        "high": F.max(seen),
        "hash": F.bit_xor(both),
    }


def _against_label(value: Column, is_learned: Column, target: Target) -> dict[str, Column]:
    is_present = is_learned & value.isNotNull()
    figures = {"present": F.count_if(is_present)}
    if target.kind.has_two_classes:
        figures["one"] = F.count_if(is_present & (F.col("y") == 1))
        for digit in (0, 1):
            seen = F.when(is_learned & (F.col("y") == digit), value)
            figures[f"low_{digit}"], figures[f"high_{digit}"] = F.min(seen), F.max(seen)
    if target.kind.predicts_number:
        figures["null_sum"] = F.sum(F.when(is_learned & value.isNull(), F.col("y")))
    return figures


def _bins(codes: DataFrame, judged: Subjects, learned: int) -> dict[str, list[float]]:
    """Return the values between the bins of each number; of a share of the rows where they are many."""
    if not judged.numbers or not learned:
        return {}
    rows = min(_QUANTILE_ROWS, max(_QUANTILE_VALUES // len(judged.numbers), BINS))
    table = sampled(codes, learned, rows).select(*[f"c{place}" for place in range(len(judged.numbers))]).toArrow()
    levels = [place / BINS for place in range(1, BINS)]
    found = {}
    for place, name in enumerate(judged.numbers):
        values = table.column(place).drop_null().to_numpy()
        found[name] = np.quantile(values, levels, method="inverted_cdf").tolist() if len(values) else []
    return found
