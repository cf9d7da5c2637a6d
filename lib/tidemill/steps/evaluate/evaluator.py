"""Evaluators measure models on the test rows: the interface, and the evaluator of tasks that learn a label from features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.errors import StepError
from tidemill.evaluation import Measurement, baseline_metrics, compute_metrics
from tidemill.model_registry.predict import encode_label, labelled_predictions

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

    from tidemill.model_registry import Manifest
    from tidemill.steps.result import StepContext
    from tidemill.tasks import Metric


class Evaluator(ABC):
    """Measures models of a task on the test rows of ``dataset``; a `Task` names its evaluator."""

    @abstractmethod
    def __init__(self, context: StepContext, dataset: DataFrame, own_metrics: Sequence[Metric]) -> None:
        """Select the rows; nothing is computed yet. ``own_metrics`` are computed besides the built-in ones."""

    @abstractmethod
    def count_rows(self, manifest: Manifest) -> int:
        """Return the number of test rows that are measured.

        Raises:
            StepError: there are no usable test rows.
        """

    @abstractmethod
    def measure(self, model: PipelineModel, manifest: Manifest) -> Measurement:
        """Return the metrics of a model."""

    @abstractmethod
    def baseline(self, manifest: Manifest) -> Measurement:
        """Return the metrics of the baseline, which a model must beat."""

    def without_training_rows(self, champion: Manifest) -> Evaluator:
        """Return an evaluator of the test rows that the champion was not trained on, for comparisons with it."""
        return self

    def measure_slices(self, model: PipelineModel, manifest: Manifest) -> list[dict[str, Any]]:
        """Return further rows of ``ops.metrics``, with split, slice, metric and value."""
        return []

    def compare(self, candidate: Mapping[str, float], champion: Mapping[str, float]) -> tuple[str, ...]:
        """Return notes on the comparison of two models."""
        return ()


class LabelEvaluator(Evaluator):
    """Compares predictions with the labels of the labelled test rows."""

    def __init__(self, context: StepContext, dataset: DataFrame, own_metrics: Sequence[Metric]) -> None:
        """Select the rows; nothing is computed yet."""
        pipeline = context.spec.pipeline
        self._test, self._train = (dataset.where(F.col("split") == split) for split in ("test", "train"))
        self._label, self._weight = str(pipeline.dataset.label), pipeline.dataset.weight
        self._options: dict[str, Any] = {
            "weight": "weight" if self._weight else None,
            "quantile": pipeline.training.quantile,
            "own": own_metrics,
        }

    def count_rows(self, manifest: Manifest) -> int:
        """Return the number of labelled test rows.

        Raises:
            StepError: there are none, or a binary label has a value that is not in the training rows.
        """
        is_unknown = F.lit(manifest.classes is not None) & (F.col("label") >= manifest.n_classes)
        row = self._select_labels(self._test, manifest).agg(F.count("*").alias("rows"), F.count_if(is_unknown).alias("unknown")).first()
        rows, unknown = (row["rows"], row["unknown"]) if row is not None else (0, 0)
        if rows == 0:
            raise StepError(f"dataset: no test row has a {self._label}, expected some to evaluate on; check dataset.split and the label")
        if unknown and manifest.kind.has_two_classes:
            known = ", ".join(map(str, manifest.classes or ()))
            raise StepError(
                f"dataset: {self._label} has a value beside {known} in {unknown} test rows, expected two classes; "
                "use `task: multiclass` or clean it"
            )
        return int(rows)

    def measure(self, model: PipelineModel, manifest: Manifest) -> Measurement:
        """Return the metrics of a model."""
        predictions = labelled_predictions(model, manifest, self._test, self._label, self._weight)
        known = predictions.where(F.col("label").isNotNull())
        return Measurement.of_values(compute_metrics(known, manifest.task, manifest.n_classes, **self._options))

    def baseline(self, manifest: Manifest) -> Measurement:
        """Return the metrics of the best constant prediction by the training rows."""
        train, test = (self._select_labels(rows, manifest) for rows in (self._train, self._test))
        return Measurement.of_values(baseline_metrics(train, test, manifest.task, manifest.n_classes, **self._options))

    def _select_labels(self, rows: DataFrame, manifest: Manifest) -> DataFrame:
        weights = [column(self._weight).cast("double").alias("weight")] if self._weight else []
        return rows.select(encode_label(manifest, column(self._label)).alias("label"), *weights).where(F.col("label").isNotNull())
