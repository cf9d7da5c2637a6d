"""Evaluation of clustering and anomaly detection on the test rows, and their baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.ml.functions import array_to_vector
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.dataset.splits import hash_columns
from tidemill.errors import StepError
from tidemill.evaluation import Measurement, compute_metrics
from tidemill.evaluation.mass_volume import MAX_ROWS, mass_volume
from tidemill.evaluation.unsupervised import SingleClusterError, cluster_sizes
from tidemill.features.text.arrow import dense_rows
from tidemill.learners.model import LearnedModel
from tidemill.model_registry.predict import encode_label, labelled_predictions, model_outputs
from tidemill.steps.evaluate.evaluator import Evaluator

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
        self._test, self._declared, self._own = dataset.where(F.col("split") == "test"), context.spec.pipeline.dataset, own_metrics

    def count_rows(self, manifest: Manifest) -> int:
        """Return the number of test rows."""
        return self._test.count()

    def measure(self, model: PipelineModel, manifest: Manifest) -> Measurement:
        """Return the metrics of a model."""
        volume = {"massVolume": _compute_mass_volume(model, manifest, self._test, self._declared.key)}
        labelled = _select_labelled(manifest, self._test, self._declared.label)
        if labelled is None or labelled.isEmpty():
            return Measurement.of_values(volume)
        predictions = labelled_predictions(model, manifest, labelled, str(self._declared.label))
        return Measurement.of_values({**compute_metrics(predictions, manifest.task, own=self._own), **volume})

    def baseline(self, manifest: Manifest) -> Measurement:
        """Return the metrics of a model with the same score for all rows, which calls none an anomaly."""
        labelled = _select_labelled(manifest, self._test, self._declared.label)
        if labelled is None or labelled.isEmpty():
            return Measurement.of_values({"massVolume": 1.0})
        label = encode_label(manifest, column(str(self._declared.label))).alias("label")
        constant = labelled.select(
            label, F.lit(0.0).alias("prediction"), array_to_vector(F.array(F.lit(0.5), F.lit(0.5))).alias("probability")
        )
        return Measurement.of_values({**compute_metrics(constant, manifest.task, own=self._own), "massVolume": 1.0})


def describe_clusters(slices: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """Return a note on the clusters and their training rows."""
    training_clusters = [f"{str(row['slice']).partition('=')[2]} ({row['value']:,.0f} rows)" for row in slices if row["split"] == "train"]
    return (f"clusters of the training rows: {', '.join(training_clusters)}",) if training_clusters else ()


def _select_labelled(manifest: Manifest, test: DataFrame, label: str | None) -> DataFrame | None:
    """Select the labelled rows; None where no label is declared."""
    return None if label is None else test.where(encode_label(manifest, column(label)) < manifest.n_classes)


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
