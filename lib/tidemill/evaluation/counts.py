"""What the metrics of a task are made of: a bounded number of counts of the predictions, here from arrays, in `metrics` from Spark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from tidemill.evaluation.curves import EPSILON, areas, count_by_score, ratio
from tidemill.tasks import METRICS, Metric, PredictedRows, TaskKind


@dataclass(frozen=True)
class BinaryCounts:
    """What all rows, the positive, those called positive and those rightly called positive count for; the sum of the log losses.

    ``sums`` of each class of counts are those of the terms of one's own metric.
    """

    n: float
    positive: float
    called: float
    hit: float
    loss: float
    area_under_roc: float
    area_under_pr: float
    sums: Mapping[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """The share of rows that are called what they are."""
        return (self.n - self.positive - self.called + 2 * self.hit) / self.n

    @property
    def f1(self) -> float:
        """F1 of the positive class."""
        return ratio(2 * self.hit, self.positive + self.called)

    @property
    def log_loss(self) -> float:
        """The mean log loss."""
        return self.loss / self.n


@dataclass(frozen=True)
class ClassCounts:
    """What the rows of each class, those called it, and those rightly called it count for; the sum of the log losses."""

    actual: np.ndarray
    called: np.ndarray
    hits: np.ndarray
    loss: float
    sums: Mapping[str, float] = field(default_factory=dict)

    @property
    def n(self) -> float:
        """What all rows count for."""
        return float(self.actual.sum())

    @property
    def accuracy(self) -> float:
        """The share of rows that are called what they are."""
        return float(self.hits.sum()) / self.n

    @property
    def f1(self) -> float:
        """The mean of the classes' F1, weighted by their rows: MLlib's default."""
        both = self.actual + self.called
        return float((np.divide(2 * self.hits, both, out=np.zeros(len(both)), where=both > 0) * self.actual).sum()) / self.n

    @property
    def log_loss(self) -> float:
        """The mean log loss."""
        return self.loss / self.n


@dataclass(frozen=True)
class ErrorCounts:
    """What the rows count for, and sums over their residuals; ``variance`` is that of the labels, 0 where they are alike."""

    n: float
    squares: float
    absolutes: float
    variance: float
    quantile_losses: float | None = None
    sums: Mapping[str, float] = field(default_factory=dict)

    @property
    def rmse(self) -> float:
        """The root of the mean squared error."""
        return math.sqrt(self.squares / self.n)

    @property
    def mae(self) -> float:
        """The mean absolute error."""
        return self.absolutes / self.n

    @property
    def r2(self) -> float:
        """The explained share of the variance."""
        return 1 - ratio(self.squares / self.n, self.variance)

    @property
    def quantile_loss(self) -> float | None:
        """The mean loss of the declared quantile."""
        return None if self.quantile_losses is None else self.quantile_losses / self.n


Counts: TypeAlias = BinaryCounts | ClassCounts | ErrorCounts


def measure_counts(
    counts: Counts, kind: TaskKind, own: Sequence[Metric] = (), sums: Mapping[str, Mapping[str, float]] | None = None
) -> dict[str, float]:
    """Return the metrics of the kind that are formulas of its counts: the built-in ones and ``own``, by name.

    ``sums`` are those of the terms of own metrics: metric → term → sum.
    """
    values = {}
    for metric in (*METRICS.all_built_in().values(), *own):
        if kind in metric.tasks and metric.value is not None:
            value = metric.value(replace(counts, sums=sums[metric.name]) if sums and metric.name in sums else counts)
            if value is not None:
                values[metric.name] = float(value)
    return values


def sum_terms(own: Sequence[Metric], rows: PredictedRows, weights: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the weighted sums of the terms of own metrics: metric → term → sum."""
    return {
        metric.name: {name: float(np.dot(np.asarray(values, dtype=float), weights)) for name, values in metric.terms(rows).items()}
        for metric in own
        if metric.terms is not None
    }


def compute_array_metrics(
    labels: np.ndarray,
    predicted: np.ndarray,
    task: str,
    weights: np.ndarray | None = None,
    quantile: float | None = None,
    own: Sequence[Metric] = (),
) -> dict[str, float]:
    """Return the metrics of a kind of task from arrays, equal to what `compute_metrics` returns for a frame.

    Args:
        labels: class indices, or values; a class that the model does not know is beyond its columns. Of anomalies some may be NaN.
        predicted: values, or the probability of each class (n, classes).
        task: the kind of task.
        weights: what each row counts for; None: all alike.
        quantile: that of ``quantileLoss``, which is measured where it is given.
        own: metrics that are not built in.

    Raises:
        ValueError: there is no row, no row counts, or a prediction is no number.
    """
    kind = TaskKind(task)
    if not len(labels):
        raise ValueError("found no row to validate with, expected at least one")
    # An infinite score has its place in an order, an infinite value of a regression is no prediction.
    is_bad = ~np.isfinite(predicted) if kind.predicts_number else np.isnan(predicted)
    if is_bad.any():
        bad = int(is_bad.reshape(len(labels), -1).any(axis=1).sum())
        raise ValueError(f"{bad} of {len(labels)} predictions are no numbers; check the features for NaN or infinite values")
    weights = np.ones(len(labels)) if weights is None else weights
    if not weights.sum() > 0:
        raise ValueError(f"the weights of all {len(labels)} rows to validate with are 0, expected some above it")
    if kind.finds_anomalies:
        is_judged = ~np.isnan(labels)
        labels, predicted, weights = labels[is_judged], predicted[is_judged], weights[is_judged]
    counts: Counts
    if kind.predicts_number:
        counts = _count_errors(labels, predicted, weights, quantile)
        rows = PredictedRows(labels, predicted, np.empty((len(labels), 0)))
    elif kind.has_many_classes:
        counts = _count_classes(labels.astype(np.int64), predicted, weights)
        rows = PredictedRows(labels, predicted.argmax(axis=1).astype(float), predicted)
    else:
        counts = _count_binary(labels, predicted[:, 1], weights)
        rows = PredictedRows(labels, (predicted[:, 1] > 0.5).astype(float), predicted)
    return measure_counts(counts, kind, own, sum_terms(own, rows, weights))


def _log_losses(given: np.ndarray, weights: np.ndarray) -> float:
    return float(np.dot(-np.log(np.clip(given, EPSILON, 1 - EPSILON)), weights))


def _count_binary(labels: np.ndarray, p: np.ndarray, weights: np.ndarray) -> BinaryCounts:
    is_positive, is_called = labels == 1, p > 0.5
    roc, pr = areas(*count_by_score(p, np.where(is_positive, weights, 0.0), weights))
    return BinaryCounts(
        n=float(weights.sum()),
        positive=float(weights[is_positive].sum()),
        called=float(weights[is_called].sum()),
        hit=float(weights[is_called & is_positive].sum()),
        loss=_log_losses(np.where(is_positive, p, 1 - p), weights),
        area_under_roc=roc,
        area_under_pr=pr,
    )


def _count_classes(labels: np.ndarray, p: np.ndarray, weights: np.ndarray) -> ClassCounts:
    called = p.argmax(axis=1)
    size = max(p.shape[1], int(labels.max()) + 1)
    is_hit, is_known = called == labels, labels < p.shape[1]
    given = np.where(is_known, p[np.arange(len(p)), np.where(is_known, labels, 0)], 0.0)
    return ClassCounts(
        actual=np.bincount(labels, weights, minlength=size),
        called=np.bincount(called, weights, minlength=size),
        hits=np.bincount(labels[is_hit], weights[is_hit], minlength=size),
        loss=_log_losses(given, weights),
    )


def _count_errors(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray, quantile: float | None) -> ErrorCounts:
    residuals, n = labels - predicted, float(weights.sum())
    counted = labels[weights > 0]
    spread = (labels - np.average(labels, weights=weights)) ** 2
    losses = None
    if quantile is not None:
        losses = float(np.dot(np.where(residuals >= 0, quantile * residuals, (quantile - 1) * residuals), weights))
    return ErrorCounts(
        n=n,
        squares=float(np.dot(residuals**2, weights)),
        absolutes=float(np.dot(np.abs(residuals), weights)),
        variance=float(np.average(spread, weights=weights)) if counted.min() < counted.max() else 0.0,  # rounding makes no variance
        quantile_losses=losses,
    )
