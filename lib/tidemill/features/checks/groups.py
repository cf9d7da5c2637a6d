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

from tidemill.features.checks.coded import FOLDS
from tidemill.features.checks.profile import Profile, sampled
from tidemill.features.checks.subjects import Subjects
from tidemill.features.checks.target import Target

# Beyond so many rows about as many of them are looked at, chosen by a hash of the key: an AUC is then known to about 0.003.
MOST_ROWS = 100_000
_ROWS_OF_A_BIN = 20  # a bin that says something about the rows of other folds holds about so many, where there are so many
_LITTLE = 0.01  # how many rows of the average a cell begins with: enough to place an unseen value between the others


def tall(codes: DataFrame, judged: Subjects, found: Profile) -> DataFrame:
    """Return one row a value of a labelled training row: ``place`` of the column, ``code``, ``fold``, ``y``."""
    places = [f"c{place}" for place in range(len(judged.grouped))]
    rows = sampled(codes, found.learned, MOST_ROWS).select("fold", "y", *places)
    numbers = places[: len(judged.numbers)]
    if numbers:
        splits = [bounds(found.columns[name]["bins"]) for name in judged.numbers]
        bins = [f"b{name}" for name in numbers]
        bucketizer = Bucketizer(inputCols=numbers, outputCols=bins, splitsArray=splits, handleInvalid="keep")
        # The Bucketizer's last bin, one beyond the splits, is for what is null.
        values = [
            F.nullif(F.col(name), F.lit(float(len(edges) - 1))).cast("bigint").alias(place)
            for name, edges, place in zip(bins, splits, numbers, strict=True)
        ]
        rows = bucketizer.transform(rows).select("fold", "y", *values, *places[len(numbers) :])
    return rows.select("fold", "y", F.posexplode(F.array(*places)).alias("place", "code"))


def coarse_steps(subjects: Subjects, found: Profile) -> list[int]:
    """Return for each column how many neighbouring bins make one that holds a few rows; 1 where its values are few already."""
    wanted = max(found.learned / _ROWS_OF_A_BIN, 1.0)
    numbers = [math.ceil((len(bounds(found.columns[name]["bins"])) - 1) / wanted) for name in subjects.numbers]
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
    by_fold = rows.groupBy("place", "code", "fold").agg(
        F.count("*").alias("n"), F.sum("y").alias("s"), F.sum(F.col("y") * F.col("y")).alias("q")
    )
    parts = [
        F.sum(F.when(F.col("fold") == fold, F.col(letter)).otherwise(0)).alias(f"{letter}{fold}") for letter in ("n", "s") for fold in folds
    ]
    fine = by_fold.groupBy("place", "code").agg(*parts, F.sum("q").alias("q"))
    totals = [name for name in fine.columns if name not in ("place", "code")]
    cells = levels(fine, steps).groupBy("place", "level", "code").agg(*[F.sum(name).alias(name) for name in totals])
    n, s = (sum((F.col(f"{letter}{fold}") for fold in folds), start=F.lit(0)) for letter in ("n", "s"))
    if target.kind.predicts_number:
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


def bounds(bins: Sequence[float]) -> list[float]:
    """Return the bounds of the bins; a bin holds the values up to and with its upper one, which the Bucketizer leaves out."""
    edges = sorted({math.nextafter(edge, math.inf) for edge in bins} - {math.inf})
    return [-math.inf, *(edges or [0.0]), math.inf]


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
