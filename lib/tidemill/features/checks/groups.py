"""The second pass: what the values of a column say about the label of rows that were not asked.

The training rows are taken apart into cells, one a value (of numbers: one a bin) and column, with rows and labels counted by fold. What a
cell says about a fold is learnt from the other folds, so that an id, of which each value is seen once, says nothing. Cells stay in Spark;
one row a column comes to the driver.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.ml.feature import Bucketizer
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.features.checks.profile import Profile, value_of
from tidemill.features.checks.subjects import Subjects
from tidemill.features.checks.target import Target
from tidemill.spec.models import Dataset

# Beyond so many rows a share of them is looked at, chosen by a hash of the key.
MOST_ROWS = 1_000_000
FOLDS = 5
_ROWS_OF_A_BIN = 20  # a bin that says something about the rows of other folds holds about so many, where there are so many
_LITTLE = 0.01  # how many rows of the average a cell begins with: enough to place an unseen value between the others
_SHARES = 1_000_000


def tall(marked: DataFrame, subjects: Subjects, dataset: Dataset, target: Target, found: Profile) -> DataFrame:
    """Return one row a value of a labelled training row: ``place`` of the column, ``code``, ``fold``, ``y`` (``cls`` of many classes)."""
    rows = marked.where((F.col("split") == "train") & column(target.name).isNotNull())
    if found.learned > MOST_ROWS:
        share = F.pmod(F.xxhash64(*[column(key).cast("string") for key in dataset.key], F.lit("checks")), F.lit(_SHARES))
        rows = rows.where(share < round(MOST_ROWS / found.learned * _SHARES))
    y = F.xxhash64(column(target.name).cast("string")) if target.task == "multiclass" else target.number() - F.lit(target.mean)
    numbers = [f"_n{place}" for place in range(len(subjects.numbers))]
    coded = rows.select(
        F.pmod(F.col("fold"), F.lit(FOLDS)).alias("fold"),
        y.alias("y"),
        *[value_of(rows, name).alias(short) for name, short in zip(subjects.numbers, numbers, strict=True)],
        *[_code(rows, name).alias(f"_v{place}") for place, name in enumerate(subjects.values)],
    )
    if numbers:
        splits = [_splits(found.columns[name]["bins"]) for name in subjects.numbers]
        bins = [f"{short}b" for short in numbers]
        bucketizer = Bucketizer(inputCols=numbers, outputCols=bins, splitsArray=splits, handleInvalid="keep")
        # The Bucketizer's last bin, one beyond the splits, is for what is null.
        values = [
            F.nullif(F.col(name), F.lit(float(len(edges) - 1))).cast("bigint").alias(short)
            for name, edges, short in zip(bins, splits, numbers, strict=True)
        ]
        coded = bucketizer.transform(coded).select("fold", "y", *values, *[f"_v{place}" for place in range(len(subjects.values))])
    columns = [F.col(name) for name in coded.columns[2:]]
    return coded.select("fold", "y", F.posexplode(F.array(*columns)).alias("place", "code"))


def coarse_steps(subjects: Subjects, found: Profile) -> list[int]:
    """Return for each column how many neighbouring bins make one that holds a few rows; 1 where its values are few already."""
    wanted = max(found.learned / _ROWS_OF_A_BIN, 1.0)
    numbers = [math.ceil((len(_splits(found.columns[name]["bins"])) - 1) / wanted) for name in subjects.numbers]
    return [*numbers, *(1 for _ in subjects.values)]


def levels(cells: DataFrame, steps: Sequence[int]) -> DataFrame:
    """Add ``level``: 0 are the cells as they are, 1 the same in wider bins, where there are such."""
    step = F.get(F.array(*[F.lit(value) for value in steps]), F.col("place"))
    fine = F.struct(F.lit(0).alias("level"), F.col("code").alias("code"))
    wide = F.struct(F.lit(1).alias("level"), F.floor(F.col("code") / step).cast("bigint").alias("code"))
    both = F.when(step > 1, F.array(fine, wide)).otherwise(F.array(fine))
    others = [name for name in cells.columns if name not in ("place", "code")]
    return cells.select("place", F.explode(both).alias("c"), *others).select("place", "c.level", "c.code", *others)


def one_number(rows: DataFrame, target: Target, judged: Subjects, steps: Sequence[int]) -> dict[str, Mapping[str, Any]]:
    """Return the figures of each column for a label that is a number or one of two classes.

    ``groups`` is the AUC of what other folds say, or the R² of it, numbers in fine or in wider bins; for two classes ``order`` is the
    AUC of a number in its order, among rows in which there is one.
    """
    folds, names = range(FOLDS), judged.grouped
    counts = [F.count_if(F.col("fold") == fold).alias(f"n{fold}") for fold in folds]
    sums = [F.sum(F.when(F.col("fold") == fold, F.col("y")).otherwise(0.0)).alias(f"s{fold}") for fold in folds]
    fine = rows.groupBy("place", "code").agg(*counts, *sums, F.sum(F.col("y") * F.col("y")).alias("q"))
    totals = [name for name in fine.columns if name not in ("place", "code")]
    cells = levels(fine, steps).groupBy("place", "level", "code").agg(*[F.sum(name).alias(name) for name in totals])
    n, s = (sum((F.col(f"{letter}{fold}") for fold in folds), start=F.lit(0)) for letter in ("n", "s"))
    if target.task == "regression":
        return _explained(cells.select("place", "level", n.alias("n"), s.alias("s"), "q", _gain(n, s).alias("gain")), names)
    said = [_said(fold, n, s, target.share_of_one) for fold in folds]
    in_order = F.struct(F.lit("order").alias("kind"), F.col("code").cast("double").alias("at"), n.alias("n"), s.alias("s"))
    points = cells.select("place", "level", "code", F.explode(F.array(in_order, *said)).alias("p")).select("place", "level", "code", "p.*")
    has_order = F.col("code").isNotNull() & (F.col("level") == 0) & (F.col("place") < len(judged.numbers))
    points = points.where((F.col("n") > 0) & ((F.col("kind") == "groups") | has_order))
    areas = area(points.groupBy("place", "kind", "level", "at").agg(F.sum("n").alias("n"), F.sum("s").alias("s")))
    figures: dict[str, dict[str, Any]] = {name: {} for name in names}
    for row in areas.collect():
        keep_best(figures[names[row["place"]]], row["kind"], row["area"])
    return dict(figures)


def area(points: DataFrame) -> DataFrame:
    """Return ``place``, ``kind``, ``level`` and ``area``: the area under the ROC curve by the order of ``at``; null without both classes.

    Points of one ``at`` count as half right, as in the statistic of Mann and Whitney.
    """
    before = Window.partitionBy("place", "kind", "level").orderBy("at").rowsBetween(Window.unboundedPreceding, -1)
    zeros = F.col("n") - F.col("s")
    ranked = points.select(
        "place", "kind", "level", "s", zeros.alias("z"), F.coalesce(F.sum(zeros).over(before), F.lit(0.0)).alias("below")
    )
    right = F.sum(F.col("s") * (F.col("below") + F.col("z") / 2))
    return ranked.groupBy("place", "kind", "level").agg((right / F.nullif(F.sum("s") * F.sum("z"), F.lit(0.0))).alias("area"))


def _splits(bins: Sequence[float] | None) -> list[float]:
    """Return the bounds of the bins; a bin holds the values up to and with its upper one, which the Bucketizer leaves out."""
    edges = sorted({math.nextafter(edge, math.inf) for edge in bins or ()})
    return [-math.inf, *(edges or [0.0]), math.inf]


def _code(df: DataFrame, name: str) -> Column:
    """Return a BIGINT that stands for the value; null stays null."""
    value = column(name)
    return F.when(value.isNotNull(), F.xxhash64(value))


def _gain(n: Column, s: Column) -> Column:
    """Return what the squared errors of a cell have beside the squares of the label: n m² - 2 m s, m the mean of other folds."""
    gains = []
    for fold in range(FOLDS):
        mine, sum_ = F.col(f"n{fold}"), F.col(f"s{fold}")
        told = F.when(n > mine, (s - sum_) / F.nullif(n - mine, F.lit(0))).otherwise(0.0)
        gains.append(mine * told * told - 2 * told * sum_)
    return sum(gains, start=F.lit(0.0))


def _explained(cells: DataFrame, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    figures: dict[str, dict[str, Any]] = {}
    for row in cells.groupBy("place", "level").agg(*[F.sum(name).alias(name) for name in ("n", "s", "q", "gain")]).collect():
        spread = row["q"] - row["s"] ** 2 / row["n"]
        if spread > 0:
            keep_best(figures.setdefault(names[row["place"]], {}), "groups", 1 - (row["q"] + row["gain"]) / spread)
    return dict(figures)


def keep_best(figures: dict[str, Any], key: str, value: float | None) -> None:
    """Put the value under the key where it is greater than what stands there."""
    if value is not None and (figures.get(key) is None or value > figures[key]):
        figures[key] = value


def _said(fold: int, n: Column, s: Column, share: float) -> Column:
    """Return what other folds say of a cell, as a point: the share of ones among them, with a little of the average."""
    mine, sum_ = F.col(f"n{fold}"), F.col(f"s{fold}")
    told = F.round((s - sum_ + _LITTLE * share) / (n - mine + _LITTLE), 5)
    return F.struct(F.lit("groups").alias("kind"), told.alias("at"), mine.alias("n"), sum_.alias("s"))
