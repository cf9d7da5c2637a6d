"""What the values of a column say about a label of many classes, learnt from other folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.features.checks.coded import FOLDS
from tidemill.features.checks.groups import keep_best, levels
from tidemill.features.checks.subjects import Subjects
from tidemill.features.checks.target import Target


def many_classes(rows: DataFrame, target: Target, judged: Subjects, steps: Sequence[int]) -> dict[str, Mapping[str, Any]]:
    """Return the figures of each column for a label of many classes.

    ``groups`` is the share of rows whose class is the most frequent one of their value in other folds; ``is_copy`` is true where each
    value has one class and there are as many values as classes, nulls left out.
    """
    folds, names = range(FOLDS), judged.grouped
    counts = [F.count_if(F.col("fold") == fold).alias(f"n{fold}") for fold in folds]
    fine = rows.groupBy("place", "code", "y").agg(*counts)
    cells = levels(fine, steps).groupBy("place", "level", "code", "y").agg(*[F.sum(f"n{fold}").alias(f"n{fold}") for fold in folds])
    n = sum((F.col(f"n{fold}") for fold in folds), start=F.lit(0))
    most = F.xxhash64(F.lit(target.most).cast("string"))
    right = []
    for fold in folds:
        mine, others = F.col(f"n{fold}"), n - F.col(f"n{fold}")
        known = F.max_by(mine, F.struct(others, "y"))
        unknown = F.sum(F.when(F.col("y") == most, mine).otherwise(0))
        right.append(F.when(F.max(others) > 0, known).otherwise(unknown))
    by_value = cells.groupBy("place", "level", "code").agg(
        sum(right, start=F.lit(0)).alias("right"), F.sum(n).alias("n"), F.count("*").alias("classes"), F.first("y").alias("class")
    )
    is_value = F.col("code").isNotNull()
    found = by_value.groupBy("place", "level").agg(
        (F.sum("right") / F.sum("n")).alias("groups"),
        F.count_if(is_value).alias("values"),
        F.max(F.when(is_value, F.col("classes"))).alias("classes"),
        F.approx_count_distinct(F.when(is_value, F.col("class"))).alias("different"),
    )
    figures: dict[str, dict[str, Any]] = {name: {"is_copy": False} for name in names}
    for row in found.collect():
        known_of = figures[names[row["place"]]]
        keep_best(known_of, "groups", row["groups"])
        known_of["is_copy"] |= row["level"] == 0 and row["classes"] == 1 and row["values"] == len(target.counts) == row["different"]
    return dict(figures)
