"""Evaluators measure models on the test rows: the interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tidemill.dataset.splits import hash_columns
from tidemill.evaluation.resampling import SEED

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import Column, DataFrame

    from tidemill.evaluation import Measurement
    from tidemill.model_registry import Manifest
    from tidemill.spec.models import Dataset
    from tidemill.steps.result import StepContext
    from tidemill.tasks import Metric


UNIT = "_tidemill_unit"
"""The column of `hash_units` beside those of a dataset."""


def hash_units(dataset: Dataset) -> Column:
    """Return the BIGINT hash of what the bootstrap resamples as a whole: a group, else a row."""
    return hash_columns(dataset.unit_columns, SEED, stream="bootstrap")


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
