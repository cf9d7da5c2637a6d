"""How well groups of rows are told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.ml.evaluation import ClusteringEvaluator
from pyspark.sql import functions as F

from tidemill.errors import StepError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class OneCluster(StepError):
    """All rows lie in one cluster, so that there is nothing to tell apart."""


def silhouette(predictions: DataFrame, features: str) -> float:
    """Return the mean silhouette of all rows: 1 where clusters are far apart, 0 where they touch, less where rows are in the wrong one.

    Of a row it is ``(b - a) / max(a, b)``: ``a`` the mean squared Euclidean distance to the others of its cluster, ``b`` that to the
    rows of the nearest other one; of a row that is alone 0.

    Source: Rousseeuw: Silhouettes, J. Comput. Appl. Math. 20 (1987); computed as MLlib's ClusteringEvaluator does, in one pass.

    Args:
        predictions: ``prediction`` (the cluster) and the vectors that clusters were made of.
        features: the column of the vectors.

    Raises:
        StepError: there is no row; `OneCluster`: all of them are in one cluster.
    """
    found = predictions.groupBy("prediction").count().collect()
    rows = sum(row["count"] for row in found)
    if not rows:
        raise StepError("metrics: found no row to evaluate, expected at least one; check the split")
    if any(row["prediction"] is None for row in found):
        raise StepError("metrics: rows were given no cluster; check the features for NaN or infinite values")
    if len(found) == 1:
        raise OneCluster(f"found one cluster only, of all {rows:,} rows: expected at least two to tell apart; try more clusters, or scale")
    evaluator = ClusteringEvaluator(featuresCol=features, distanceMeasure="squaredEuclidean", metricName="silhouette")
    return float(evaluator.evaluate(predictions.select(features, F.col("prediction").cast("double").alias("prediction"))))


def cluster_sizes(predictions: DataFrame) -> dict[tuple[str, int], int]:
    """Return the rows of each split and cluster; ``predictions`` has ``split`` and ``prediction``."""
    found = predictions.groupBy("split", F.col("prediction").cast("int").alias("cluster")).count().collect()
    return {(row["split"], row["cluster"]): row["count"] for row in sorted(found, key=lambda row: (row["split"], row["cluster"]))}
