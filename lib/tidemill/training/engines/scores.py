"""The metrics of `tidemill.evaluation`, from arrays: the same figures, so that trials of both engines stand in one table."""

from __future__ import annotations

import math

import numpy as np

from tidemill.evaluation.curves import EPSILON, areas, count_by_score, ratio
from tidemill.spec.models import QUANTILE_LOSS


def metrics(
    labels: np.ndarray, predicted: np.ndarray, task: str, weights: np.ndarray | None = None, quantile: float | None = None
) -> dict[str, float]:
    """Return every metric of the task.

    Args:
        labels: class indices, or values; a class that the model does not know is beyond its columns. Of anomalies some may be NaN.
        predicted: values, or the probability of each class (n, classes).
        task: which task.
        weights: what each row counts for; None: all alike.
        quantile: that of ``quantileLoss``, which is measured where it is given.

    Raises:
        ValueError: there is no row, no row counts, or a prediction is no number.
    """
    if not len(labels):
        raise ValueError("found no row to validate with, expected at least one")
    # An infinite score has its place in an order, an infinite value of a regression is no prediction.
    is_bad = ~np.isfinite(predicted) if task == "regression" else np.isnan(predicted)
    if is_bad.any():
        bad = int(is_bad.reshape(len(labels), -1).any(axis=1).sum())
        raise ValueError(f"{bad} of {len(labels)} predictions are no numbers; check the features for NaN or infinite values")
    counts = np.ones(len(labels)) if weights is None else weights
    if not counts.sum() > 0:
        raise ValueError(f"the weights of all {len(labels)} rows to validate with are 0, expected some above it")
    if task == "regression":
        return _regression(labels, predicted, counts, quantile)
    if task == "anomaly":
        is_judged = ~np.isnan(labels)
        found = _binary(labels[is_judged], predicted[is_judged, 1], counts[is_judged])
        return {name: found[name] for name in ("areaUnderPR", "areaUnderROC")}
    return _binary(labels, predicted[:, 1], counts) if task == "binary" else _multiclass(labels.astype(np.int64), predicted, counts)


def _log_loss(given: np.ndarray, counts: np.ndarray) -> float:
    return float(np.average(-np.log(np.clip(given, EPSILON, 1 - EPSILON)), weights=counts))


def _binary(labels: np.ndarray, p: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    is_positive = labels == 1
    roc, pr = areas(*count_by_score(p, np.where(is_positive, counts, 0.0), counts))
    is_called = p > 0.5
    return {
        "areaUnderPR": pr,
        "areaUnderROC": roc,
        "accuracy": float(np.average(is_called == is_positive, weights=counts)),
        "f1": ratio(2 * counts[is_called & is_positive].sum(), counts[is_called].sum() + counts[is_positive].sum()),
        "logLoss": _log_loss(np.where(is_positive, p, 1 - p), counts),
    }


def _multiclass(labels: np.ndarray, p: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    called = p.argmax(axis=1)
    size = max(p.shape[1], int(labels.max()) + 1)
    is_hit = called == labels
    hits = np.bincount(labels[is_hit], counts[is_hit], minlength=size)
    actual = np.bincount(labels, counts, minlength=size)
    both = actual + np.bincount(called, counts, minlength=size)
    f1 = np.divide(2 * hits, both, out=np.zeros(size), where=both > 0)
    is_known = labels < p.shape[1]
    given = np.where(is_known, p[np.arange(len(p)), np.where(is_known, labels, 0)], 0.0)
    total = counts.sum()
    return {"f1": float((f1 * actual).sum() / total), "accuracy": float(hits.sum() / total), "logLoss": _log_loss(given, counts)}


def _regression(labels: np.ndarray, predicted: np.ndarray, counts: np.ndarray, quantile: float | None) -> dict[str, float]:
    residuals = labels - predicted
    squares = float(np.average(residuals**2, weights=counts))
    counted = labels[counts > 0]
    spread = (labels - np.average(labels, weights=counts)) ** 2
    variance = float(np.average(spread, weights=counts)) if counted.min() < counted.max() else 0.0  # rounding makes no variance
    found = {"rmse": math.sqrt(squares), "mae": float(np.average(np.abs(residuals), weights=counts)), "r2": 1 - ratio(squares, variance)}
    if quantile is not None:
        losses = np.where(residuals >= 0, quantile * residuals, (quantile - 1) * residuals)
        found[QUANTILE_LOSS] = float(np.average(losses, weights=counts))
    return found
