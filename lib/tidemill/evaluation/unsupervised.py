"""The silhouette and the sizes of clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.ml.evaluation import ClusteringEvaluator
from pyspark.sql import functions as F

from tidemill.errors import StepError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class SingleClusterError(StepError):
    """All rows are in one cluster, so no silhouette is defined."""


def silhouette(predictions: DataFrame, features: str) -> float:
    """Return the mean silhouette of all rows: 1 if clusters are far apart, 0 if they touch, negative if rows are in the wrong cluster.

    For a row it is ``(b - a) / max(a, b)``: ``a`` is the mean squared Euclidean distance to the other rows of its cluster, ``b`` that to
    the rows of the nearest other cluster; 0 for a row alone in its cluster.

    Source: Rousseeuw: Silhouettes, J. Comput. Appl. Math. 20 (1987); computed as MLlib's ClusteringEvaluator does, in one pass.

    Args:
        predictions: ``prediction`` (the cluster) and the vectors that were clustered.
        features: the column of the vectors.

    Raises:
        StepError: there is no row; `SingleClusterError`: all rows are in one cluster.
    """
    clusters = predictions.groupBy("prediction").count().collect()
    rows = sum(row["count"] for row in clusters)
    if not rows:
        raise StepError("metrics: found no row to evaluate, expected at least one; check the split")
    if any(row["prediction"] is None for row in clusters):
        raise StepError("metrics: some rows have no cluster; check the features for NaN or infinite values")
    if len(clusters) == 1:
        raise SingleClusterError(
            f"found one cluster only, of all {rows:,} rows, expected at least two; try more clusters, or scale the features"
        )
    evaluator = ClusteringEvaluator(featuresCol=features, distanceMeasure="squaredEuclidean", metricName="silhouette")
    return float(evaluator.evaluate(predictions.select(features, F.col("prediction").cast("double").alias("prediction"))))


def cluster_sizes(predictions: DataFrame) -> dict[tuple[str, int], int]:
    """Return the number of rows of each split and cluster; ``predictions`` has ``split`` and ``prediction``."""
    sizes = predictions.groupBy("split", F.col("prediction").cast("int").alias("cluster")).count().collect()
    return {(row["split"], row["cluster"]): row["count"] for row in sorted(sizes, key=lambda row: (row["split"], row["cluster"]))}
