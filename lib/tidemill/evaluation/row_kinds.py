"""What is read of each prediction, by task kind: columns of rows, the cells in which many rows are added up, and their counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tidemill.evaluation.curve_points import describe_classes, describe_residuals, describe_scores
from tidemill.evaluation.curves import EPSILON, SMALLEST_LABEL
from tidemill.evaluation.estimates import CurvePoint
from tidemill.evaluation.resampling import Resampler
from tidemill.evaluation.row_counts import TOP_K, Arrays, CountedRows, count_classified, count_errors, count_scored


class RowKind(ABC):
    """The rows of a task kind.

    Class attributes, names of DOUBLE columns: ``places`` say in which cell a row is counted; ``sums``, multiplied by the weight, are added
    up in a cell; of ``means`` the mean is kept, and of ``ranges`` the smallest and the greatest value, as ``<name>_lowest`` and
    ``<name>_highest``.
    """

    places: tuple[str, ...]
    sums: tuple[str, ...]
    means: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    further: tuple[str, ...] = ()
    """Columns that only single rows have."""
    has_areas: bool = False
    """True where areas under curves are measured, which bins of scores do not give exactly."""
    is_additive: bool = False
    """True where the sums of a cell hardly vary within it, so that its rows can be resampled without units."""

    @abstractmethod
    def read(self, batch: pa.RecordBatch) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the columns of a batch, and which rows have no usable prediction.

        The batch has ``label``, ``prediction``, ``probability`` (ARRAY<DOUBLE>, for classification) and ``weight``.
        """

    @abstractmethod
    def count(self, rows: Arrays, resampler: Resampler) -> CountedRows:
        """Count rows or cells; see `tidemill.evaluation.row_counts`."""

    def list_details(self, counted: CountedRows) -> dict[tuple[str, int], tuple[float, np.ndarray]]:
        """Return metrics of single classes, with their draws: metric and class index → value and draws."""
        return {}

    def describe(self, rows: Arrays, resampler: Resampler) -> Iterator[CurvePoint]:
        """Yield the curves and the confusion matrix; see `tidemill.evaluation.curve_points`."""
        yield from ()

    def place(self, columns: Mapping[str, np.ndarray], edges: np.ndarray) -> np.ndarray:
        """Return the bin of each row between ``edges``, for rows that are to be added up; 0 where the kind needs none."""
        return np.zeros(len(columns["weight"]))

    @property
    def edge_column(self) -> str | None:
        """The column whose values are put in bins, None where there is none."""
        return None


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

    places = ("bin", "is_positive", "is_called")
    sums = ("loss", "square", "score")
    means = ("p",)
    has_areas = True
    is_additive = True

    def read(self, batch: pa.RecordBatch) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the columns of a batch, and which rows have no usable prediction."""
        p, weight = read_probabilities(batch, 2)[:, 1], read_column(batch, "weight")
        prediction = read_column(batch, "prediction")
        is_bad = np.isnan(p) | np.isnan(prediction)
        p = np.where(is_bad, 0.5, p)
        is_positive, within = read_column(batch, "label") == 1, np.clip(p, 0.0, 1.0)
        of_label = np.clip(np.where(is_positive, p, 1 - p), EPSILON, 1 - EPSILON)
        columns = {"p": p, "is_positive": is_positive, "is_called": prediction == 1, "loss": -np.log(of_label) * weight}
        return columns | {"square": (is_positive - within) ** 2 * weight, "score": within * weight, "weight": weight}, is_bad

    def count(self, rows: Arrays, resampler: Resampler) -> CountedRows:
        """Count rows or cells."""
        return count_scored(rows, resampler)

    def describe(self, rows: Arrays, resampler: Resampler) -> Iterator[CurvePoint]:
        """Yield the curves and the confusion matrix."""
        yield from describe_scores(rows, resampler)

    def place(self, columns: Mapping[str, np.ndarray], edges: np.ndarray) -> np.ndarray:
        """Return the bin of each score."""
        return np.searchsorted(edges, columns["p"]).astype(np.float64)

    @property
    def edge_column(self) -> str | None:
        """The score."""
        return "p"


@dataclass(frozen=True)
class ClassifiedRows(RowKind):
    """Rows of several classes."""

    n_classes: int
    places = ("label", "prediction")
    sums = ("loss", *(f"within_{k}" for k in TOP_K))

    def read(self, batch: pa.RecordBatch) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the columns of a batch, and which rows have no usable prediction."""
        p, weight = read_probabilities(batch, self.n_classes), read_column(batch, "weight")
        label, prediction = read_column(batch, "label"), read_column(batch, "prediction")
        is_bad = np.isnan(p).any(axis=1) | np.isnan(prediction)
        is_known = (label >= 0) & (label < self.n_classes)
        of_label = np.where(is_known, p[np.arange(len(p)), np.where(is_known, label, 0).astype(np.int64)], 0.0)
        of_label = np.where(is_bad, 1.0, of_label)
        same = (p == of_label[:, None]) & (np.arange(self.n_classes) > label[:, None])
        rank = np.where(is_known, ((p > of_label[:, None]) | same).sum(axis=1), self.n_classes)
        columns = {"label": label, "prediction": np.where(is_bad, 0.0, prediction), "weight": weight}
        columns["loss"] = -np.log(np.clip(of_label, EPSILON, 1 - EPSILON)) * weight
        return columns | {f"within_{k}": np.where(rank < k, weight, 0.0) for k in TOP_K}, is_bad

    def count(self, rows: Arrays, resampler: Resampler) -> CountedRows:
        """Count rows or cells."""
        return count_classified(rows, resampler, self.n_classes)

    def list_details(self, counted: CountedRows) -> dict[tuple[str, int], tuple[float, np.ndarray]]:
        """Return precision, recall and F1 of each class."""
        details: dict[tuple[str, int], tuple[float, np.ndarray]] = {}
        for metric in ("precision", "recall", "f1"):
            values = getattr(counted.point, f"{metric}_by_class")
            draws = np.empty((0, len(values))) if counted.draws is None else getattr(counted.draws, f"{metric}_by_class")
            details |= {(metric, place): (float(values[place]), draws[:, place]) for place in range(min(self.n_classes, len(values)))}
        return details

    def describe(self, rows: Arrays, resampler: Resampler) -> Iterator[CurvePoint]:
        """Yield the confusion matrix."""
        yield from describe_classes(rows)


@dataclass(frozen=True)
class RegressionRows(RowKind):
    """Rows of a regression; ``center`` is any number near the labels, from which their squares are measured."""

    quantile: float | None
    center: float
    places = ("bin",)
    sums = ("square", "absolutes", "percentage", "quantile_loss", "label_sum", "label_square")
    means = ("absolute",)
    ranges = ("absolute", "label")
    further = ("prediction", "residual")

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

    def count(self, rows: Arrays, resampler: Resampler) -> CountedRows:
        """Count rows or cells."""
        own = {f"{name}_{end}": rows[name] for name in self.ranges if name in rows for end in ("lowest", "highest")}
        return count_errors({**own, **rows}, resampler, self.quantile)

    def describe(self, rows: Arrays, resampler: Resampler) -> Iterator[CurvePoint]:
        """Yield the curves of the residuals, which cells do not have."""
        if "residual" in rows:
            yield from describe_residuals(rows, resampler)

    def place(self, columns: Mapping[str, np.ndarray], edges: np.ndarray) -> np.ndarray:
        """Return the bin of each absolute error."""
        return np.searchsorted(edges, columns["absolute"]).astype(np.float64)

    @property
    def edge_column(self) -> str | None:
        """The absolute error."""
        return "absolute"


def column_names(kind: RowKind) -> Sequence[str]:
    """Return the columns that `RowKind.read` gives for each row."""
    return [name for name in dict.fromkeys([*kind.places, *kind.sums, *kind.means, *kind.ranges, *kind.further, "weight"]) if name != "bin"]
