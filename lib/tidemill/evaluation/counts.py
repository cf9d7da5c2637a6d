"""The counts that metrics are computed from: a bounded number per set of predictions, here from arrays, in `metrics` from Spark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from tidemill.errors import StepError
from tidemill.evaluation.curves import (
    EPSILON,
    SMALLEST_LABEL,
    areas_under_curves,
    bin_scores,
    count_by_score,
    partial_precision,
    ratio,
)
from tidemill.tasks import METRICS, Metric, PredictedRows, TaskKind


@dataclass(frozen=True)
class BinaryCounts:
    """Sums over rows of two classes, and the areas under their curves.

    ``n``, ``positive``, ``called`` and ``hit`` are the weights of all rows, the positive ones, those called positive and those rightly
    called positive; ``loss`` is the sum of the log losses, ``squares`` that of the squared differences between score and class. ``bins``
    has a row for each bin of scores: the weights of its rows, of its positive rows, and of its rows times their scores.

    ``sums`` of each class of counts are those of the terms of a custom metric.
    """

    n: float
    positive: float
    called: float
    hit: float
    loss: float
    squares: float
    bins: np.ndarray
    area_under_roc: float
    area_under_pr: float
    average_precision: float
    sums: Mapping[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """The share of rows that are called what they are."""
        return (self.n - self.positive - self.called + 2 * self.hit) / self.n

    @property
    def precision(self) -> float:
        """The share of positive rows among those called positive; 0 if there are none (as in scikit-learn)."""
        return ratio(self.hit, self.called) if self.called else 0.0

    @property
    def recall(self) -> float:
        """The share of the positive rows that are called positive."""
        return ratio(self.hit, self.positive)

    @property
    def specificity(self) -> float:
        """The share of the negative rows that are called negative."""
        return ratio(self.n - self.positive - self.called + self.hit, self.n - self.positive)

    @property
    def balanced_accuracy(self) -> float:
        """The mean of recall and specificity; where a class is absent, the one of the other class (as in scikit-learn)."""
        return float(np.nanmean([self.recall, self.specificity]))

    @property
    def f1(self) -> float:
        """F1 of the positive class."""
        return ratio(2 * self.hit, self.positive + self.called)

    @property
    def mcc(self) -> float:
        """Matthews' correlation coefficient; 0 where all rows are of one class, or are called one (as in scikit-learn)."""
        spread = self.positive * (self.n - self.positive) * self.called * (self.n - self.called)
        return (self.hit * self.n - self.positive * self.called) / math.sqrt(spread) if spread > 0 else 0.0

    @property
    def log_loss(self) -> float:
        """The mean log loss."""
        return self.loss / self.n

    @property
    def brier(self) -> float:
        """The mean squared difference between score and class."""
        return self.squares / self.n

    @property
    def expected_calibration_error(self) -> float:
        """The mean difference between the mean score and the share of positive rows of a bin, weighted by the rows of the bins."""
        return float(np.abs(self.bins[:, 1] - self.bins[:, 2]).sum()) / self.n


@dataclass(frozen=True)
class ClassCounts:
    """The weights of the rows of each class, of those called it, and of those rightly called it; the sum of the log losses."""

    actual: np.ndarray
    called: np.ndarray
    hits: np.ndarray
    loss: float
    sums: Mapping[str, float] = field(default_factory=dict)

    @property
    def n(self) -> float:
        """The weight of all rows."""
        return float(self.actual.sum())

    @property
    def accuracy(self) -> float:
        """The share of rows that are called what they are."""
        return float(self.hits.sum()) / self.n

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that there are."""
        is_there = self.actual > 0
        return float((self.hits[is_there] / self.actual[is_there]).mean())

    @property
    def f1_by_class(self) -> np.ndarray:
        """F1 of each class, 0 where it is neither there nor called."""
        both = self.actual + self.called
        return np.divide(2 * self.hits, both, out=np.zeros(len(both)), where=both > 0)

    @property
    def f1(self) -> float:
        """The mean of the classes' F1, weighted by their rows: MLlib's default."""
        return float(self.f1_by_class @ self.actual) / self.n

    @property
    def macro_f1(self) -> float:
        """The mean of the F1 of the classes that are there or called."""
        return float(self.f1_by_class[self.actual + self.called > 0].mean())

    @property
    def mcc(self) -> float:
        """Matthews' correlation coefficient over all classes; 0 where all rows are of one class, or are called one."""
        n = self.n
        spread = (n**2 - float(self.actual @ self.actual)) * (n**2 - float(self.called @ self.called))
        return (float(self.hits.sum()) * n - float(self.actual @ self.called)) / math.sqrt(spread) if spread > 0 else 0.0

    @property
    def log_loss(self) -> float:
        """The mean log loss."""
        return self.loss / self.n


@dataclass(frozen=True)
class ErrorCounts:
    """The weight of all rows, and sums over their residuals; ``variance`` is that of the labels, 0 if they are all equal."""

    n: float
    squares: float
    absolutes: float
    variance: float
    percentages: float
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
    def mape(self) -> float:
        """The mean absolute error as a share of the label's absolute value, which counts as 2.2e-16 at least (as in scikit-learn)."""
        return self.percentages / self.n

    @property
    def r2(self) -> float:
        """The explained share of the variance."""
        return 1 - ratio(self.squares / self.n, self.variance)

    @property
    def quantile_loss(self) -> float | None:
        """The mean loss of the declared quantile."""
        return None if self.quantile_losses is None else self.quantile_losses / self.n


MetricCounts: TypeAlias = BinaryCounts | ClassCounts | ErrorCounts


def measure_counts(
    counts: MetricCounts, kind: TaskKind, own: Sequence[Metric] = (), sums: Mapping[str, Mapping[str, float]] | None = None
) -> dict[str, float]:
    """Return the metrics of the task kind that are formulas of its counts: the built-in ones and ``own``, by name.

    ``sums`` are those of the terms of custom metrics: metric → term → sum.
    """
    values = {}
    for metric in (*METRICS.all_built_in().values(), *own):
        if kind in metric.tasks and metric.value is not None:
            try:
                value = metric.value(replace(counts, sums=sums[metric.name]) if sums and metric.name in sums else counts)
                if value is not None or not metric.is_built_in:
                    values[metric.name] = float(value)  # type: ignore[arg-type]  # None of a custom metric is an error of its own
            except Exception as error:
                raise StepError(f"the metric {metric.name!r} failed: {type(error).__name__}: {error}") from error
    return values


def sum_terms(own: Sequence[Metric], rows: PredictedRows, weights: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the weighted sums of the terms of custom metrics: metric → term → sum.

    Raises:
        StepError: the terms of a metric cannot be computed, or are not a number for each row.
    """
    sums: dict[str, dict[str, float]] = {}
    for metric in own:
        if metric.terms is None:
            continue
        try:
            terms = {name: np.asarray(values, dtype=float) for name, values in metric.terms(rows).items()}
        except Exception as error:
            raise StepError(f"the terms of the metric {metric.name!r} failed: {type(error).__name__}: {error}") from error
        for name, values in terms.items():
            if values.shape != weights.shape:
                found = f"an array of shape {values.shape}"
                raise StepError(
                    f"the term {name!r} of the metric {metric.name!r} must be a number for each of {len(weights)} rows, found {found}"
                )
        sums[metric.name] = {name: float(np.dot(values, weights)) for name, values in terms.items()}
    return sums


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
        labels: class indices, or values; a class that the model does not know has an index beyond its columns. For anomalies some may
            be NaN.
        predicted: values, or the probability of each class (n, classes).
        task: the kind of task.
        weights: the sample weights; None: 1 each.
        quantile: the quantile of ``quantileLoss``; None: not computed.
        own: custom metrics.

    Raises:
        ValueError: there is no row, all weights are 0, or a prediction is not a number.
    """
    kind = TaskKind(task)
    if not len(labels):
        raise ValueError("found no row to validate with, expected at least one")
    # An infinite score can be ranked; an infinite value of a regression is no prediction.
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
    counts: MetricCounts
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


def _log_losses(of_label: np.ndarray, weights: np.ndarray) -> float:
    return float(np.dot(-np.log(np.clip(of_label, EPSILON, 1 - EPSILON)), weights))


def _count_binary(labels: np.ndarray, p: np.ndarray, weights: np.ndarray) -> BinaryCounts:
    is_positive, is_called = labels == 1, p > 0.5
    positive, within = np.where(is_positive, weights, 0.0), np.clip(p, 0.0, 1.0)
    curve = count_by_score(p, positive, weights)
    roc, pr = areas_under_curves(*curve)
    return BinaryCounts(
        n=float(weights.sum()),
        positive=float(weights[is_positive].sum()),
        called=float(weights[is_called].sum()),
        hit=float(weights[is_called & is_positive].sum()),
        loss=_log_losses(np.where(is_positive, p, 1 - p), weights),
        squares=float(((is_positive - within) ** 2) @ weights),
        bins=bin_scores(within, weights, positive),
        area_under_roc=roc,
        area_under_pr=pr,
        average_precision=ratio(partial_precision(*curve), float(positive.sum())),
    )


def _count_classes(labels: np.ndarray, p: np.ndarray, weights: np.ndarray) -> ClassCounts:
    called = p.argmax(axis=1)
    size = max(p.shape[1], int(labels.max()) + 1)
    is_hit, is_known = called == labels, labels < p.shape[1]
    of_label = np.where(is_known, p[np.arange(len(p)), np.where(is_known, labels, 0)], 0.0)
    return ClassCounts(
        actual=np.bincount(labels, weights, minlength=size),
        called=np.bincount(called, weights, minlength=size),
        hits=np.bincount(labels[is_hit], weights[is_hit], minlength=size),
        loss=_log_losses(of_label, weights),
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
        percentages=float(np.dot(np.abs(residuals) / np.maximum(np.abs(labels), SMALLEST_LABEL), weights)),
        quantile_losses=losses,
    )
