"""Scores of two classes counted in Spark: exact areas at any size, while the driver sees a bounded number of counts and never rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F

from tidemill.evaluation.curves import EPSILON, areas, count_by_score, partial_areas, whole_areas
from tidemill.runtime.caching import cache_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


# Counts of distinct scores that come to the driver, a few megabytes; those of more are measured where they are.
MOST_SCORES = 200_000
# Distinct scores that one task measures at a time.
SCORES_A_PART = 250_000
_SUMS = ("rows", "bad", "n", "positive", "called", "hit", "loss")


@dataclass(frozen=True)
class ScoreCounts:
    """All rows together: how many, how many without a score, and what all, the positive, the called, and the rightly called count for.

    ``loss`` is the sum of the log losses.
    """

    rows: float
    bad: float
    n: float
    positive: float
    called: float
    hit: float
    loss: float


def count_scores(rows: DataFrame, weight: str) -> DataFrame:
    """Return the rows counted by score and by whether they are called positive.

    Args:
        rows: ``p``, ``is_positive`` and ``is_called`` BOOLEAN, and what a row counts for.
        weight: the column of that.

    Returns:
        ``p`` (null where it is null or NaN), ``is_called``, ``rows``, ``n`` and ``positive``; the last two are what they count for.
    """
    p, counts = F.col("p"), F.col(weight).cast("double")
    return rows.groupBy(F.when(~F.isnan(p), p).alias("p"), "is_called").agg(
        F.count("*").alias("rows"), F.sum(counts).alias("n"), F.sum(F.when(F.col("is_positive"), counts).otherwise(0.0)).alias("positive")
    )


def measure_scores(groups: DataFrame) -> tuple[ScoreCounts, float, float]:
    """Return the sums, and the areas under the ROC and the precision-recall curve, of what `count_scores` gives.

    Up to 200,000 groups are measured on the driver. More are put in order by Spark, and each stretch of the curve is measured by a task
    that is told how many rows lie before it; what they give adds up to the area itself, so that nothing is approximated.
    """
    with cache_frame(groups) as counted:
        table = counted.limit(MOST_SCORES + 1).toArrow()
        if table.num_rows <= MOST_SCORES:
            known = table.filter(table["p"].is_valid())
            p, positive, n = (known[name].to_numpy() for name in ("p", "positive", "n"))
            return _sums([table]), *areas(*count_by_score(p, positive, n))
        columns = ", ".join(f"{name} DOUBLE" for name in (*_SUMS, "groups"))
        sums = counted.mapInArrow(_sums_of_part, columns).toArrow()  # a row a partition
        totals = {name: float(np.sum(sums[name].to_numpy())) for name in sums.column_names}
        parts = math.ceil(totals.pop("groups") / SCORES_A_PART)
        return ScoreCounts(**totals), *_areas_by_part(counted, parts)


def _sums(tables: Iterable[pa.Table]) -> ScoreCounts:
    """Return the sums of groups in any order."""
    whole = dict.fromkeys(_SUMS, 0.0)
    for table in tables:
        has_score = table["p"].is_valid().to_numpy()
        is_called = table["is_called"].fill_null(False).to_numpy()
        rows, n, positive = (table[name].to_numpy() for name in ("rows", "n", "positive"))
        p = table["p"].fill_null(0.5).to_numpy()
        of_positive, of_negative = (-np.log(np.clip(given, EPSILON, 1 - EPSILON)) for given in (p, 1 - p))
        loss = positive * of_positive + (n - positive) * of_negative
        parts = (rows, rows[~has_score], n, positive, n[is_called], positive[is_called], loss[has_score])
        for name, values in zip(_SUMS, parts, strict=True):
            whole[name] += float(values.sum())
    return ScoreCounts(**whole)


def _sums_of_part(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield one row: the sums of a partition, and how many groups it has."""
    held = [pa.Table.from_batches([batch]) for batch in batches]
    sums = _sums(held)
    values = {name: [float(getattr(sums, name))] for name in _SUMS}
    yield pa.RecordBatch.from_pydict({**values, "groups": [float(sum(map(len, held)))]})


def _areas_by_part(groups: DataFrame, parts: int) -> tuple[float, float]:
    """Return both areas of more scores than the driver should hold."""
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
            held = [batch for batch in batches if len(batch)]
            if held:
                table = pa.Table.from_batches(held)
                positive, n = (table[name].to_numpy() for name in ("positive", "n"))
                roc, pr = partial_areas(positive, n - positive, *before[table["part"][0].as_py()])
                yield pa.RecordBatch.from_pydict({"roc": [roc], "pr": [pr]})

        found = stretches.mapInArrow(measure, "roc DOUBLE, pr DOUBLE").toArrow()
    roc, pr = (float(np.sum(found[name].to_numpy())) for name in ("roc", "pr"))
    return whole_areas(roc, pr, tp, fp)
