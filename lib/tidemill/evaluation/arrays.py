"""Metrics of arrays of predictions, equal to what Spark computes for a frame: the engine `tasks` validates with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tidemill.errors import StepError
from tidemill.evaluation.counts import BinaryCounts, ClassCounts, ErrorCounts, MetricCounts, measure_counts
from tidemill.evaluation.curves import (
    EPSILON,
    SMALLEST_LABEL,
    bin_scores,
    count_by_score,
    measure_areas,
)
from tidemill.evaluation.row_counts import TOP_K, rank_labels, weighted_quantiles
from tidemill.tasks import Metric, PredictedRows, TaskKind


def compute_terms(own: Sequence[Metric], rows: PredictedRows) -> dict[str, dict[str, np.ndarray]]:
    """Return the terms of custom metrics: metric → term → a number for each row.

    Raises:
        StepError: the terms of a metric cannot be computed, or are not a number for each row.
    """
    computed: dict[str, dict[str, np.ndarray]] = {}
    for metric in own:
        if metric.terms is None:
            continue
        try:
            terms = {name: np.asarray(values, dtype=float) for name, values in metric.terms(rows).items()}
        except Exception as error:
            raise StepError(f"the terms of the metric {metric.name!r} failed: {type(error).__name__}: {error}") from error
        for name, values in terms.items():
            if values.shape != rows.label.shape:
                found = f"an array of shape {values.shape}"
                raise StepError(
                    f"the term {name!r} of the metric {metric.name!r} must be a number for each of {len(rows.label)} rows, found {found}"
                )
        computed[metric.name] = terms
    return computed


def sum_terms(own: Sequence[Metric], rows: PredictedRows, weights: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the weighted sums of the terms of custom metrics: metric → term → sum.

    Raises:
        StepError: the terms of a metric cannot be computed, or are not a number for each row.
    """
    terms_by_metric = compute_terms(own, rows).items()
    return {metric: {name: float(np.dot(values, weights)) for name, values in terms.items()} for metric, terms in terms_by_metric}


def compute_array_metrics(
    labels: np.ndarray,
    predicted: np.ndarray,
    task: str,
    weights: np.ndarray | None = None,
    quantile: float | None = None,
    own: Sequence[Metric] = (),
    is_called: np.ndarray | None = None,
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
        is_called: which rows of two classes are called positive; None: those whose probability is above 0.5.

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
        is_called = None if is_called is None else is_called[is_judged]
    counts: MetricCounts
    if kind.predicts_number:
        counts = _count_errors(labels, predicted, weights, quantile)
        rows = PredictedRows(labels, predicted, np.empty((len(labels), 0)))
    elif kind.has_many_classes:
        counts = _count_classes(labels.astype(np.int64), predicted, weights)
        rows = PredictedRows(labels, predicted.argmax(axis=1).astype(float), predicted)
    else:
        is_called = predicted[:, 1] > 0.5 if is_called is None else is_called
        counts = _count_binary(labels, predicted[:, 1], weights, is_called)
        rows = PredictedRows(labels, is_called.astype(float), predicted)
    return measure_counts(counts, kind, own, sum_terms(own, rows, weights))


def _log_losses(of_label: np.ndarray, weights: np.ndarray) -> float:
    return float(np.dot(-np.log(np.clip(of_label, EPSILON, 1 - EPSILON)), weights))


def _count_binary(labels: np.ndarray, p: np.ndarray, weights: np.ndarray, is_called: np.ndarray) -> BinaryCounts:
    is_positive = labels == 1
    positive, within = np.where(is_positive, weights, 0.0), np.clip(p, 0.0, 1.0)
    roc, pr, precision = measure_areas(*count_by_score(p, positive, weights))
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
        average_precision=precision,
    )


def _count_classes(labels: np.ndarray, p: np.ndarray, weights: np.ndarray) -> ClassCounts:
    called = p.argmax(axis=1)
    size = max(p.shape[1], int(labels.max()) + 1)
    is_hit, (of_label, rank) = called == labels, rank_labels(p, labels)
    return ClassCounts(
        actual=np.bincount(labels, weights, minlength=size),
        called=np.bincount(called, weights, minlength=size),
        hits=np.bincount(labels[is_hit], weights[is_hit], minlength=size),
        within={str(k): float(weights[rank < k].sum()) for k in TOP_K if k < p.shape[1]},
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
        absolute_quantiles=weighted_quantiles(np.abs(residuals), weights),
    )
