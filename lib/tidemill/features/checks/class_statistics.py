"""How well the values of a column predict a label of many classes, estimated out of fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.features.checks.checked_columns import CheckedColumns
from tidemill.features.checks.encoding import FOLDS
from tidemill.features.checks.label_statistics import LabelStatistics
from tidemill.features.checks.value_statistics import add_bin_levels, keep_greatest


def explain_classes(rows: DataFrame, label: LabelStatistics, checked: CheckedColumns, steps: Sequence[int]) -> dict[str, Mapping[str, Any]]:
    """Return the statistics of each column for a label of many classes.

    ``groups`` is the share of rows whose class is the most frequent class of their value in the other folds; ``is_copy`` is true if each
    value has one class and there are as many values as classes, without nulls.
    """
    folds, names = range(FOLDS), checked.grouped
    counts = [F.count_if(F.col("fold") == fold).alias(f"n{fold}") for fold in folds]
    fine = rows.groupBy("place", "code", "y").agg(*counts)
    cells = add_bin_levels(fine, steps).groupBy("place", "level", "code", "y").agg(*[F.sum(f"n{fold}").alias(f"n{fold}") for fold in folds])
    n = sum((F.col(f"n{fold}") for fold in folds), start=F.lit(0))
    most = F.xxhash64(F.lit(label.most).cast("string"))
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
    by_column = by_value.groupBy("place", "level").agg(
        (F.sum("right") / F.sum("n")).alias("groups"),
        F.count_if(is_value).alias("values"),
        F.max(F.when(is_value, F.col("classes"))).alias("classes"),
        F.approx_count_distinct(F.when(is_value, F.col("class"))).alias("different"),
    )
    figures: dict[str, dict[str, Any]] = {name: {"is_copy": False} for name in names}
    for row in by_column.collect():
        of_column = figures[names[row["place"]]]
        keep_greatest(of_column, "groups", row["groups"])
        of_column["is_copy"] |= row["level"] == 0 and row["classes"] == 1 and row["values"] == len(label.counts) == row["different"]
    return dict(figures)
