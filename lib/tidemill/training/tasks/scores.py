"""The metrics of `tidemill.evaluation`, from arrays: the same figures, so that trials of both engines stand in one table."""

from __future__ import annotations

import math

import numpy as np

from tidemill.evaluation.metrics import BINS_PER_LOGIT, EPSILON, MAX_BIN, areas, ratio
from tidemill.logits import logits


def metrics(labels: np.ndarray, predicted: np.ndarray, task: str) -> dict[str, float]:
    """Return every metric of the task.

    Args:
        labels: class indices, or values; a class that the model does not know is beyond its columns. Of anomalies some may be NaN.
        predicted: values, or the probability of each class (n, classes).
        task: which task.

    Raises:
        ValueError: there is no row, or a prediction is no number.
    """
    if not len(labels):
        raise ValueError("found no row to validate with, expected at least one")
    if not np.isfinite(predicted).all():
        bad = int((~np.isfinite(predicted.reshape(len(labels), -1))).any(axis=1).sum())
        raise ValueError(f"{bad} of {len(labels)} predictions are no numbers; check the features for NaN or infinite values")
    if task == "regression":
        return _regression(labels, predicted)
    if task == "anomaly":
        is_judged = ~np.isnan(labels)
        found = _binary(labels[is_judged], predicted[is_judged, 1])
        return {name: found[name] for name in ("areaUnderPR", "areaUnderROC")}
    return _binary(labels, predicted[:, 1]) if task == "binary" else _multiclass(labels.astype(np.int64), predicted)


def _log_loss(given: np.ndarray) -> float:
    return float(-np.log(np.clip(given, EPSILON, 1 - EPSILON)).mean())


def _binary(labels: np.ndarray, p: np.ndarray) -> dict[str, float]:
    is_positive = labels == 1
    bins = np.clip(logits(p) * BINS_PER_LOGIT, -MAX_BIN, MAX_BIN)
    # Halves go away from zero, as Spark rounds them.
    bins = (np.sign(bins) * np.floor(np.abs(bins) + 0.5)).astype(np.int64) + MAX_BIN
    size = 2 * MAX_BIN + 1
    counts, positives = np.bincount(bins, minlength=size), np.bincount(bins[is_positive], minlength=size)
    held = np.flatnonzero(counts)[::-1]
    roc, pr = areas(positives[held].astype(float), (counts - positives)[held].astype(float))
    is_called = p > 0.5
    hits = int((is_called & is_positive).sum())
    return {
        "areaUnderPR": pr,
        "areaUnderROC": roc,
        "accuracy": float((is_called == is_positive).mean()),
        "f1": ratio(2 * hits, int(is_called.sum()) + int(is_positive.sum())),
        "logLoss": _log_loss(np.where(is_positive, p, 1 - p)),
    }


def _multiclass(labels: np.ndarray, p: np.ndarray) -> dict[str, float]:
    called = p.argmax(axis=1)
    size = max(p.shape[1], int(labels.max()) + 1)
    hits = np.bincount(labels[called == labels], minlength=size).astype(float)
    actual = np.bincount(labels, minlength=size).astype(float)
    both = actual + np.bincount(called, minlength=size)
    f1 = np.divide(2 * hits, both, out=np.zeros(size), where=both > 0)
    is_known = labels < p.shape[1]
    given = np.where(is_known, p[np.arange(len(p)), np.where(is_known, labels, 0)], 0.0)
    return {"f1": float((f1 * actual).sum() / len(labels)), "accuracy": float(hits.sum() / len(labels)), "logLoss": _log_loss(given)}


def _regression(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    residuals = labels - predicted
    squares, variance = float((residuals**2).mean()), float(labels.var())
    return {"rmse": math.sqrt(squares), "mae": float(np.abs(residuals).mean()), "r2": 1 - ratio(squares, variance)}
