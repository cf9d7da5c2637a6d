"""Evaluation of clustering and anomaly detection on the test rows, and their baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.dataset.splits import hash_columns
from tidemill.errors import StepError
from tidemill.evaluation import Estimate, Measurement, compute_metrics
from tidemill.evaluation.curve_points import CONFUSION
from tidemill.evaluation.mass_volume import MAX_ROWS, mass_volume
from tidemill.evaluation.measurement import ALL_ROWS, Pass, measure_slices
from tidemill.evaluation.row_kinds import ScoredRows
from tidemill.evaluation.unsupervised import SingleClusterError, cluster_sizes
from tidemill.features.text.arrow import dense_rows
from tidemill.learners.model import LearnedModel
from tidemill.model_registry.predict import (
    EvaluationColumns,
    EvaluationRows,
    constant_evaluation_rows,
    encode_label,
    evaluation_rows,
    model_outputs,
)
from tidemill.runtime.caching import cache_frame
from tidemill.steps.evaluate.evaluator import UNIT, Evaluator, hash_units

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

    from tidemill.model_registry import Manifest
    from tidemill.steps.result import StepContext
    from tidemill.tasks import Metric


_SEED = 7
_PARTS = 1_000_000
_ORDER = "_tidemill_order"


class ClusterEvaluator(Evaluator):
    """Measures the silhouette of the test rows; the baseline has all rows in one cluster."""

    def __init__(self, context: StepContext, dataset: DataFrame, own_metrics: Sequence[Metric]) -> None:
        """Select the rows; nothing is computed yet."""
        self._dataset, self._test = dataset, dataset.where(F.col("split") == "test")

    def count_rows(self, manifest: Manifest) -> int:
        """Return the number of test rows."""
        return self._test.count()

    def measure(self, model: PipelineModel, manifest: Manifest) -> Measurement:
        """Return the silhouette, 0 where all rows are in one cluster."""
        features = _find_vector_column(model)
        try:
            outputs = model_outputs(model, manifest, self._test, [], [features, "prediction"])
            return Measurement.of_values(compute_metrics(outputs, manifest.task, features=features))
        except SingleClusterError:
            return Measurement.of_values({"silhouette": 0.0})

    def baseline(self, manifest: Manifest) -> Measurement:
        """Return the silhouette of all rows in one cluster."""
        return Measurement.of_values({"silhouette": 0.0})

    def measure_slices(self, model: PipelineModel, manifest: Manifest) -> list[dict[str, Any]]:
        """Return the rows of each cluster in train and test; ``slice`` is ``cluster=<number>``."""
        rows = self._dataset.where(F.col("split").isin("train", "test"))
        sizes = cluster_sizes(model_outputs(model, manifest, rows, ["split"], ["prediction"]))
        return [
            {"split": split, "slice": f"cluster={cluster}", "metric": "rows", "value": float(n)} for (split, cluster), n in sizes.items()
        ]


class AnomalyEvaluator(Evaluator):
    """Measures the mass volume of the test rows and, with a label, the areas under the curves of the labelled rows."""

    def __init__(self, context: StepContext, dataset: DataFrame, own_metrics: Sequence[Metric]) -> None:
        """Select the rows; nothing is computed yet."""
        self._test, self._own, self._pipeline = dataset.where(F.col("split") == "test"), own_metrics, context.spec.pipeline

    def count_rows(self, manifest: Manifest) -> int:
        """Return the number of test rows."""
        return self._test.count()

    def measure(self, model: PipelineModel, manifest: Manifest) -> Measurement:
        """Return the metrics of a model; those of the label have intervals."""
        volume = _compute_mass_volume(model, manifest, self._test, self._pipeline.dataset.key)
        labelled = self._select_labelled(manifest)
        if labelled is None:
            return Measurement.of_values({"massVolume": volume})
        return self._measure(evaluation_rows(model, manifest, labelled, self._columns), manifest, volume)

    def baseline(self, manifest: Manifest) -> Measurement:
        """Return the metrics of a model with the same score for all rows, which calls none an anomaly."""
        labelled = self._select_labelled(manifest)
        if labelled is None:
            return Measurement.of_values({"massVolume": 1.0})
        return self._measure(constant_evaluation_rows(0.0, (0.5, 0.5), manifest, labelled, self._columns), manifest, 1.0)

    @property
    def _columns(self) -> EvaluationColumns:
        return EvaluationColumns(str(self._pipeline.dataset.label), carried=(UNIT,))

    def _select_labelled(self, manifest: Manifest) -> DataFrame | None:
        """Select the labelled rows, with their resampling unit; None where there is none."""
        declared = self._pipeline.dataset
        if declared.label is None:
            return None
        unit = hash_units(declared).alias(UNIT)
        labelled = self._test.where(encode_label(manifest, column(declared.label)) < manifest.n_classes).select("*", unit)
        return None if labelled.isEmpty() else labelled

    def _measure(self, evaluated: EvaluationRows, manifest: Manifest, volume: float) -> Measurement:
        nothing = F.array().cast("array<string>").alias("slices")
        plan = Pass(manifest.kind, ScoredRows(), manifest.n_classes, self._pipeline.evaluation.bootstrap, self._own)
        with cache_frame(evaluated.rows.withColumnRenamed(UNIT, "unit").select("*", nothing)) as rows:
            measured = measure_slices(rows, plan)[ALL_ROWS]
        points = [point for point in measured.points if point.curve != CONFUSION]
        return Measurement(measured.rows, {**measured.estimates, "massVolume": Estimate(volume)}, points=points)


def describe_clusters(slices: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """Return a note on the clusters and their training rows."""
    training_clusters = [f"{str(row['slice']).partition('=')[2]} ({row['value']:,.0f} rows)" for row in slices if row["split"] == "train"]
    return (f"clusters of the training rows: {', '.join(training_clusters)}",) if training_clusters else ()


def _find_vector_column(model: PipelineModel) -> str:
    """Return the column of the vectors that the model's last stage reads."""
    return next(str(stage.getOrDefault("featuresCol")) for stage in reversed(model.stages) if stage.hasParam("featuresCol"))


def _compute_mass_volume(model: PipelineModel, manifest: Manifest, test: DataFrame, key: Sequence[str]) -> float:
    """Compute the mass volume of a sample of about 10,000 test rows, by a hash of the key; only their vectors come to the driver.

    Raises:
        StepError: there are no test rows.
    """
    row_hash = hash_columns(key, _SEED, stream="mass and volume")
    rows = test.count()
    sample = test if rows <= MAX_ROWS else test.where(F.pmod(row_hash, F.lit(_PARTS)) < round(MAX_ROWS / rows * _PARTS))
    features = _find_vector_column(model)
    table = model_outputs(model, manifest, sample.withColumn(_ORDER, row_hash), [_ORDER], [features]).toArrow()
    if not table.num_rows:
        raise StepError("dataset: there are no test rows, expected some to evaluate on; check dataset.split")
    order = np.argsort(table.column(_ORDER).to_numpy(), kind="stable")
    vectors = dense_rows(table.column(features).combine_chunks())[order]
    scorer = next(stage for stage in reversed(model.stages) if isinstance(stage, LearnedModel)).scorer()
    return mass_volume(lambda points: scorer.predict(points)[:, 1], vectors, _SEED)
