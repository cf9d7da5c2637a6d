"""The second pass: how well the values of a column predict the label, estimated out of fold.

The training rows are grouped into cells, one per column and value (for numbers: per bin), with rows and labels counted by fold. A cell's
estimate for a fold uses the other folds alone, so that an id, whose values occur once, predicts nothing. Cells stay in Spark; one row per
column is collected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.ml.feature import Bucketizer
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from tidemill.features.checks.checked_columns import CheckedColumns
from tidemill.features.checks.column_statistics import CheckStatistics, sample_labelled_rows
from tidemill.features.checks.encoding import FOLDS
from tidemill.features.checks.label_statistics import LabelStatistics

# The size of the sample, chosen by a hash of the key, if there are more rows: an AUC is then exact to about 0.003.
MAX_ROWS = 100_000
_ROWS_OF_A_BIN = 20  # about how many rows a wide bin holds
_LITTLE = 0.01  # the weight of the overall mean in each cell, in rows: it places unseen values between the others


def unpivot(codes: DataFrame, checked: CheckedColumns, stats: CheckStatistics) -> DataFrame:
    """Return one row per labelled training row and column: ``place`` of the column, ``code`` of the value, ``fold``, ``y``."""
    places = [f"c{place}" for place in range(len(checked.grouped))]
    rows = sample_labelled_rows(codes, stats.learned, MAX_ROWS).select("fold", "y", *places)
    numbers = places[: len(checked.numbers)]
    if numbers:
        splits = [bin_edges(stats.columns[name]["bins"]) for name in checked.numbers]
        bins = [f"b{name}" for name in numbers]
        bucketizer = Bucketizer(inputCols=numbers, outputCols=bins, splitsArray=splits, handleInvalid="keep")
        # The Bucketizer's last bin, one beyond the splits, holds the nulls.
        values = [
            F.nullif(F.col(name), F.lit(float(len(edges) - 1))).cast("bigint").alias(place)
            for name, edges, place in zip(bins, splits, numbers, strict=True)
        ]
        rows = bucketizer.transform(rows).select("fold", "y", *values, *places[len(numbers) :])
    return rows.select("fold", "y", F.posexplode(F.array(*places)).alias("place", "code"))


def coarse_steps(checked: CheckedColumns, stats: CheckStatistics) -> list[int]:
    """Return for each column how many neighbouring bins make one wide bin; 1 for columns that have no bins."""
    most_bins = max(stats.learned / _ROWS_OF_A_BIN, 1.0)
    numbers = [math.ceil((len(bin_edges(stats.columns[name]["bins"])) - 1) / most_bins) for name in checked.numbers]
    return [*numbers, *(1 for _ in checked.values)]


def add_bin_levels(cells: DataFrame, steps: Sequence[int]) -> DataFrame:
    """Add ``level``: 0 for the cells as they are, 1 for the same cells in wide bins, for columns that have them."""
    step = F.get(F.array(*[F.lit(value) for value in steps]), F.col("place"))
    fine = F.struct(F.lit(0).alias("level"), F.col("code").alias("code"))
    wide = F.struct(F.lit(1).alias("level"), F.floor(F.col("code") / step).cast("bigint").alias("code"))
    both = F.when(step > 1, F.array(fine, wide)).otherwise(F.array(fine))
    others = [name for name in cells.columns if name not in ("place", "code")]
    return cells.select("place", F.explode(both).alias("c"), *others).select("place", "c.level", "c.code", *others)


def explain_number(rows: DataFrame, label: LabelStatistics, checked: CheckedColumns, steps: Sequence[int]) -> dict[str, Mapping[str, Any]]:
    """Return the statistics of each column for a label that is a number or one of two classes.

    ``groups`` is the AUC, or R², of the out-of-fold estimates, for numbers the better of fine and wide bins; for two classes ``order`` is
    the AUC of the number itself, over the rows that have one.
    """
    folds, names = range(FOLDS), checked.grouped
    by_fold = rows.groupBy("place", "code", "fold").agg(
        F.count("*").alias("n"), F.sum("y").alias("s"), F.sum(F.col("y") * F.col("y")).alias("q")
    )
    parts = [
        F.sum(F.when(F.col("fold") == fold, F.col(letter)).otherwise(0)).alias(f"{letter}{fold}") for letter in ("n", "s") for fold in folds
    ]
    fine = by_fold.groupBy("place", "code").agg(*parts, F.sum("q").alias("q"))
    totals = [name for name in fine.columns if name not in ("place", "code")]
    cells = add_bin_levels(fine, steps).groupBy("place", "level", "code").agg(*[F.sum(name).alias(name) for name in totals])
    n, s = (sum((F.col(f"{letter}{fold}") for fold in folds), start=F.lit(0)) for letter in ("n", "s"))
    if label.kind.predicts_number:
        return _explained_variance(
            cells.select("place", "level", n.alias("n"), s.alias("s"), "q", _error_reduction(n, s).alias("gain")), names
        )
    out_of_fold = [_out_of_fold_points(fold, n, s, label.share_of_one) for fold in folds]
    in_order = F.struct(F.lit("order").alias("kind"), F.col("code").cast("double").alias("at"), n.alias("n"), s.alias("s"))
    points = cells.select("place", "level", "code", F.explode(F.array(in_order, *out_of_fold)).alias("p")).select(
        "place", "level", "code", "p.*"
    )
    has_order = F.col("code").isNotNull() & (F.col("level") == 0) & (F.col("place") < len(checked.numbers))
    points = points.where((F.col("n") > 0) & ((F.col("kind") == "groups") | has_order))
    areas = compute_auc(points.groupBy("place", "kind", "level", "at").agg(F.sum("n").alias("n"), F.sum("s").alias("s")))
    figures: dict[str, dict[str, Any]] = {name: {} for name in names}
    for row in areas.collect():
        keep_greatest(figures[names[row["place"]]], row["kind"], row["area"])
    return dict(figures)


def compute_auc(points: DataFrame) -> DataFrame:
    """Return ``place``, ``kind``, ``level`` and ``area``: the AUC by the order of ``at``; null without both classes.

    Ties count as one half, as in the Mann-Whitney statistic.
    """
    before = Window.partitionBy("place", "kind", "level").orderBy("at").rowsBetween(Window.unboundedPreceding, -1)
    zeros = F.col("n") - F.col("s")
    ranked = points.select(
        "place", "kind", "level", "s", zeros.alias("z"), F.coalesce(F.sum(zeros).over(before), F.lit(0.0)).alias("below")
    )
    right = F.sum(F.col("s") * (F.col("below") + F.col("z") / 2))
    return ranked.groupBy("place", "kind", "level").agg((right / F.nullif(F.sum("s") * F.sum("z"), F.lit(0.0))).alias("area"))


def bin_edges(bins: Sequence[float]) -> list[float]:
    """Return the edges of the bins; a bin includes its upper edge, which the Bucketizer's bins do not, hence `nextafter`."""
    edges = sorted({math.nextafter(edge, math.inf) for edge in bins} - {math.inf})
    return [-math.inf, *(edges or [0.0]), math.inf]


def _error_reduction(n: Column, s: Column) -> Column:
    """Return the squared errors of a cell minus the squares of its labels: n m² - 2 m s, where m is the mean of the other folds."""
    gains = []
    for fold in range(FOLDS):
        mine, sum_ = F.col(f"n{fold}"), F.col(f"s{fold}")
        estimate = F.when(n > mine, (s - sum_) / F.nullif(n - mine, F.lit(0))).otherwise(0.0)
        gains.append(mine * estimate * estimate - 2 * estimate * sum_)
    return sum(gains, start=F.lit(0.0))


def _explained_variance(cells: DataFrame, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    figures: dict[str, dict[str, Any]] = {}
    for row in cells.groupBy("place", "level").agg(*[F.sum(name).alias(name) for name in ("n", "s", "q", "gain")]).collect():
        spread = row["q"] - row["s"] ** 2 / row["n"]
        if spread > 0:
            keep_greatest(figures.setdefault(names[row["place"]], {}), "groups", 1 - (row["q"] + row["gain"]) / spread)
    return dict(figures)


def keep_greatest(figures: dict[str, Any], key: str, value: float | None) -> None:
    """Store the value under the key if it is greater than the stored one."""
    if value is not None and (figures.get(key) is None or value > figures[key]):
        figures[key] = value


def _out_of_fold_points(fold: int, n: Column, s: Column, share: float) -> Column:
    """Return the out-of-fold estimate of a cell for one fold, as a ROC point: the smoothed share of ones in the other folds."""
    mine, sum_ = F.col(f"n{fold}"), F.col(f"s{fold}")
    estimate = F.round((s - sum_ + _LITTLE * share) / (n - mine + _LITTLE), 5)
    return F.struct(F.lit("groups").alias("kind"), estimate.alias("at"), mine.alias("n"), sum_.alias("s"))
