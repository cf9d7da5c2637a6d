"""What is read of each prediction, by task kind, and what is counted, measured and drawn of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F

from tidemill.evaluation.curve_points import describe_classes, describe_residuals, describe_scores
from tidemill.evaluation.curves import CALIBRATION_BINS, EPSILON, SMALLEST_LABEL, count_by_score, measure_areas
from tidemill.evaluation.estimates import CurvePoint
from tidemill.evaluation.row_counts import (
    TOP_K,
    Arrays,
    CountedRows,
    Places,
    bin_by_mass,
    collect_classes,
    collect_errors,
    collect_scores,
    count_classes,
    count_errors,
    count_scores,
    rank_labels,
    weighted_quantiles,
)

if TYPE_CHECKING:
    from pyspark.sql import Column


class RowKind(ABC):
    """The rows of a task kind, of which batches have ``label``, ``prediction``, ``weight`` and what `select` adds."""

    has_bins = False
    """True where rows are counted in bins, of the `values`."""
    has_areas = False
    """True where areas under curves are measured, which bins of scores do not give exactly."""
    fixed_edges: np.ndarray = np.empty(0)
    """Edges of bins besides those of equal shares."""

    def select(self) -> list[Column]:
        """Return further Spark columns that `read` needs, from ``probability`` VECTOR."""
        return []

    @abstractmethod
    def read(self, batch: pa.RecordBatch) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the columns of a batch, one element per row, and which rows have no usable prediction."""

    def values(self, columns: Arrays) -> np.ndarray | None:
        """Return what is counted in bins, None for nothing."""
        return None

    def find_bins(self, columns: Arrays) -> tuple[np.ndarray, int]:
        """Return the bin of each row and the number of bins, from the rows themselves."""
        values = self.values(columns)
        return (np.zeros(len(columns["weight"]), dtype=np.int64), 1) if values is None else bin_by_mass(values, columns["weight"])

    @abstractmethod
    def collect(self, columns: Arrays, places: Places) -> dict[str, np.ndarray]:
        """Return counts that add up over batches of rows."""

    @abstractmethod
    def count(self, collected: Arrays, draws: np.ndarray, columns: Arrays | None) -> CountedRows:
        """Return the counts of metrics; exact ones where the ``columns`` of all rows are given."""

    @abstractmethod
    def describe(self, collected: Arrays, draws: np.ndarray, columns: Arrays | None) -> Iterator[CurvePoint]:
        """Yield curves and the confusion matrix."""

    def list_details(self, counted: CountedRows) -> dict[tuple[str, int], tuple[float, np.ndarray]]:
        """Return metrics of single classes: metric and class index → value and draws."""
        return {}


def read_column(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """Return a column as an array of doubles, with NaN for null."""
    values: np.ndarray = batch.column(name).to_numpy(zero_copy_only=False)
    return values.astype(np.float64)


def read_probabilities(batch: pa.RecordBatch, n_classes: int) -> np.ndarray:
    """Return the probabilities (n, classes), with NaN where there are none."""
    column = batch.column("probability")
    probabilities = np.full((len(batch), n_classes), np.nan)
    is_there = column.is_valid().to_numpy(zero_copy_only=False)
    probabilities[is_there] = column.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(int(is_there.sum()), n_classes)
    return probabilities


@dataclass(frozen=True)
class ScoredRows(RowKind):
    """Rows of two classes."""

    has_bins = True
    has_areas = True
    fixed_edges = np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS

    def select(self) -> list[Column]:
        """Return the probability of class 1."""
        return [vector_to_array(F.col("probability"))[1].alias("p")]

    def read(self, batch: pa.RecordBatch) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the columns of a batch, and which rows have no usable prediction."""
        p, weight, prediction = (read_column(batch, name) for name in ("p", "weight", "prediction"))
        is_bad = np.isnan(p) | np.isnan(prediction)
        p = np.where(is_bad, 0.5, p)
        is_positive, within = read_column(batch, "label") == 1, np.clip(p, 0.0, 1.0)
        of_label = np.clip(np.where(is_positive, p, 1 - p), EPSILON, 1 - EPSILON)
        columns = {"p": p, "is_positive": is_positive, "is_called": prediction == 1, "loss": -np.log(of_label) * weight}
        return columns | {"square": (is_positive - within) ** 2 * weight, "score": within * weight, "weight": weight}, is_bad

    def values(self, columns: Arrays) -> np.ndarray:
        """Return the scores."""
        return columns["p"]

    def find_bins(self, columns: Arrays) -> tuple[np.ndarray, int]:
        """Return the bin of each row and the number of bins."""
        return bin_by_mass(columns["p"], columns["weight"], np.where(columns["is_positive"], columns["weight"], 0.0))

    def collect(self, columns: Arrays, places: Places) -> dict[str, np.ndarray]:
        """Return counts that add up over batches of rows."""
        return collect_scores(columns, places)

    def count(self, collected: Arrays, draws: np.ndarray, columns: Arrays | None) -> CountedRows:
        """Return the counts of metrics."""
        areas = None
        if columns is not None:
            positive = np.where(columns["is_positive"], columns["weight"], 0.0)
            areas = measure_areas(*count_by_score(columns["p"], positive, columns["weight"]))
        return count_scores(collected, draws, areas)

    def describe(self, collected: Arrays, draws: np.ndarray, columns: Arrays | None) -> Iterator[CurvePoint]:
        """Yield curves and the confusion matrix."""
        return describe_scores(collected, draws)


@dataclass(frozen=True)
class ClassifiedRows(RowKind):
    """Rows of several classes."""

    n_classes: int

    def select(self) -> list[Column]:
        """Return the probabilities."""
        return [vector_to_array(F.col("probability")).alias("probability")]

    def read(self, batch: pa.RecordBatch) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the columns of a batch, and which rows have no usable prediction."""
        p, weight = read_probabilities(batch, self.n_classes), read_column(batch, "weight")
        label, prediction = read_column(batch, "label"), read_column(batch, "prediction")
        is_bad = np.isnan(p).any(axis=1) | np.isnan(prediction)
        of_label, rank = rank_labels(p, label)
        of_label = np.where(is_bad, 1.0, of_label)
        columns = {"label": label, "prediction": np.where(is_bad, 0.0, prediction), "weight": weight}
        columns["loss"] = -np.log(np.clip(of_label, EPSILON, 1 - EPSILON)) * weight
        return columns | {f"within_{k}": np.where(rank < k, weight, 0.0) for k in TOP_K}, is_bad

    def collect(self, columns: Arrays, places: Places) -> dict[str, np.ndarray]:
        """Return counts that add up over batches of rows."""
        return collect_classes(columns, places, self.n_classes)

    def count(self, collected: Arrays, draws: np.ndarray, columns: Arrays | None) -> CountedRows:
        """Return the counts of metrics."""
        return count_classes(collected, draws, self.n_classes)

    def describe(self, collected: Arrays, draws: np.ndarray, columns: Arrays | None) -> Iterator[CurvePoint]:
        """Yield the confusion matrix."""
        return describe_classes(collected["confusion"])

    def list_details(self, counted: CountedRows) -> dict[tuple[str, int], tuple[float, np.ndarray]]:
        """Return precision, recall and F1 of each class."""
        details: dict[tuple[str, int], tuple[float, np.ndarray]] = {}
        for metric in ("precision", "recall", "f1"):
            values = getattr(counted.point, f"{metric}_by_class")
            draws = np.empty((0, len(values))) if counted.draws is None else getattr(counted.draws, f"{metric}_by_class")
            details |= {(metric, place): (float(values[place]), draws[:, place]) for place in range(self.n_classes)}
        return details


@dataclass(frozen=True)
class RegressionRows(RowKind):
    """Rows of a regression; ``center`` is any number near the labels, from which their squares are measured."""

    quantile: float | None
    center: float
    has_bins = True

    def read(self, batch: pa.RecordBatch) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the columns of a batch, and which rows have no usable prediction."""
        label, prediction, weight = (read_column(batch, name) for name in ("label", "prediction", "weight"))
        is_bad = ~np.isfinite(label - prediction)
        residual = np.where(is_bad, 0.0, label - prediction)
        absolute, distance = np.abs(residual), label - self.center
        level = 0.5 if self.quantile is None else self.quantile
        columns = {"label": label, "prediction": np.where(is_bad, 0.0, prediction), "residual": residual, "weight": weight}
        columns |= {"absolute": absolute, "absolutes": absolute * weight, "square": residual**2 * weight}
        columns["percentage"] = absolute / np.maximum(np.abs(label), SMALLEST_LABEL) * weight
        columns["quantile_loss"] = np.maximum(level * residual, (level - 1) * residual) * weight
        return columns | {"label_sum": distance * weight, "label_square": distance**2 * weight}, is_bad

    def values(self, columns: Arrays) -> np.ndarray:
        """Return the absolute errors."""
        return columns["absolute"]

    def collect(self, columns: Arrays, places: Places) -> dict[str, np.ndarray]:
        """Return counts that add up over batches of rows."""
        return collect_errors(columns, places)

    def count(self, collected: Arrays, draws: np.ndarray, columns: Arrays | None) -> CountedRows:
        """Return the counts of metrics."""
        exact: Mapping[str, float] | None = None if columns is None else weighted_quantiles(columns["absolute"], columns["weight"])
        return count_errors(collected, draws, self.quantile, exact)

    def describe(self, collected: Arrays, draws: np.ndarray, columns: Arrays | None) -> Iterator[CurvePoint]:
        """Yield the curves of the residuals, for which all rows are needed."""
        if columns is not None:
            yield from describe_residuals(columns, draws)
