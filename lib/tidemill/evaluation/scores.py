"""Scores of two classes counted in Spark: exact areas at any size, while the driver sees a bounded number of counts and never rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F

from tidemill.evaluation.counts import BinaryCounts
from tidemill.evaluation.curves import (
    CALIBRATION_BINS,
    EPSILON,
    bin_scores,
    count_by_score,
    measure_areas,
    partial_areas,
    partial_precision,
    ratio,
    whole_areas,
)
from tidemill.runtime.caching import cache_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


# The most distinct scores whose counts are collected, a few megabytes; more are measured in Spark.
MAX_SCORES_ON_DRIVER = 200_000
# Distinct scores that one Spark task measures.
SCORES_PER_TASK = 250_000
_TOTALS = ("rows", "bad", "n", "positive", "called", "hit", "loss", "squares")


def _counts_of(sums: np.ndarray, areas: tuple[float, float, float]) -> tuple[int, int, BinaryCounts]:
    """Return the number of rows, that of rows without a score, and the counts, of a vector of `_sum_groups` and of the areas."""
    rows, bad, n, positive, called, hit, loss, squares = (float(total) for total in sums[: len(_TOTALS)])
    bins = sums[len(_TOTALS) :].reshape(CALIBRATION_BINS, -1)
    return int(rows), int(bad), BinaryCounts(n, positive, called, hit, loss, squares, bins, *areas)


def count_scores(rows: DataFrame, weight: str) -> DataFrame:
    """Count rows by score and by whether they are called positive.

    Args:
        rows: ``p``, ``is_positive`` and ``is_called`` BOOLEAN, and the weight.
        weight: the column of sample weights.

    Returns:
        ``p`` (null where it is null or NaN), ``is_called``, ``rows``, ``n`` and ``positive``; the last two are sums of weights.
    """
    p, counts = F.col("p"), F.col(weight).cast("double")
    return rows.groupBy(F.when(~F.isnan(p), p).alias("p"), "is_called").agg(
        F.count("*").alias("rows"), F.sum(counts).alias("n"), F.sum(F.when(F.col("is_positive"), counts).otherwise(0.0)).alias("positive")
    )


def measure_scores(groups: DataFrame) -> tuple[int, int, BinaryCounts]:
    """Return the number of rows, that of rows without a score, and the counts, of the groups of `count_scores`.

    Up to 200,000 groups are measured on the driver. More are sorted by Spark, and each Spark task measures one range of scores, given the
    counts of the ranges before it. Their results add up to the exact area.
    """
    with cache_frame(groups) as counted:
        table = counted.limit(MAX_SCORES_ON_DRIVER + 1).toArrow()
        if table.num_rows <= MAX_SCORES_ON_DRIVER:
            known = table.filter(table["p"].is_valid())
            p, positive, n = (known[name].to_numpy() for name in ("p", "positive", "n"))
            curve = count_by_score(p, positive, n)
            return _counts_of(_sum_groups([table]), measure_areas(*curve))
        sums = counted.mapInArrow(_sum_partition, "sums ARRAY<DOUBLE>, groups DOUBLE").toArrow()  # one row per partition
        parts = math.ceil(float(np.sum(sums["groups"].to_numpy())) / SCORES_PER_TASK)
        totals = sums["sums"].combine_chunks().flatten().to_numpy().reshape(sums.num_rows, -1).sum(axis=0)
        return _counts_of(totals, _areas_by_task(counted, parts))


def _sum_groups(tables: Iterable[pa.Table]) -> np.ndarray:
    """Return the sums of all groups: those of `_TOTALS`, then those of the bins, row by row."""
    whole = np.zeros(len(_TOTALS) + 3 * CALIBRATION_BINS)
    for table in tables:
        has_score = table["p"].is_valid().to_numpy()
        is_called = table["is_called"].fill_null(False).to_numpy()
        rows, n, positive = (table[name].to_numpy() for name in ("rows", "n", "positive"))
        p = table["p"].fill_null(0.5).to_numpy()
        of_positive, of_negative = (-np.log(np.clip(side, EPSILON, 1 - EPSILON)) for side in (p, 1 - p))
        loss = positive * of_positive + (n - positive) * of_negative
        within = np.clip(p, 0.0, 1.0)
        squares = positive * (1 - within) ** 2 + (n - positive) * within**2
        parts = (rows, rows[~has_score], n, positive, n[is_called], positive[is_called], loss[has_score], squares[has_score])
        bins = bin_scores(within[has_score], n[has_score].astype(float), positive[has_score].astype(float))
        whole += np.concatenate([[values.sum() for values in parts], bins.ravel()])
    return whole


def _sum_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield one row: the sums of a partition, and how many groups it has."""
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    sums = pa.array([_sum_groups(tables).tolist()], pa.list_(pa.float64()))
    yield pa.RecordBatch.from_pydict({"sums": sums, "groups": [float(sum(map(len, tables)))]})


def _areas_by_task(groups: DataFrame, parts: int) -> tuple[float, float, float]:
    """Return both areas and the average precision, measured by Spark tasks, for more scores than the driver should hold."""
    curve = groups.where("p IS NOT NULL").groupBy("p").agg(F.sum("n").alias("n"), F.sum("positive").alias("positive")).where("n > 0")
    falling = F.col("p").desc()
    ordered = curve.repartitionByRange(parts, falling).sortWithinPartitions(falling).withColumn("part", F.spark_partition_id())
    with cache_frame(ordered) as stretches:
        totals = stretches.groupBy("part").agg(F.max("p").alias("p"), F.sum("n").alias("n"), F.sum("positive").alias("positive")).collect()
        before: dict[int, tuple[float, float]] = {}
        tp = fp = 0.0
        for total in sorted(totals, key=lambda row: -row["p"]):
            before[total["part"]] = tp, fp
            tp, fp = tp + total["positive"], fp + total["n"] - total["positive"]

        def measure(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            filled = [batch for batch in batches if len(batch)]
            if filled:
                table = pa.Table.from_batches(filled)
                positive, n = (table[name].to_numpy() for name in ("positive", "n"))
                counts = positive, n - positive, *before[table["part"][0].as_py()]
                roc, pr = partial_areas(*counts)
                yield pa.RecordBatch.from_pydict({"roc": [roc], "pr": [pr], "precision": [partial_precision(*counts)]})

        task_areas = stretches.mapInArrow(measure, "roc DOUBLE, pr DOUBLE, precision DOUBLE").toArrow()
    roc, pr, precision = (float(np.sum(task_areas[name].to_numpy())) for name in ("roc", "pr", "precision"))
    return *whole_areas(roc, pr, tp, fp), ratio(precision, tp)
