"""The areas under the ROC and the precision-recall curve, exact, from rows counted by score; used by both engines."""

from __future__ import annotations

import math

import numpy as np

EPSILON = 1e-15  # MLlib's bound of the log loss

CALIBRATION_BINS = 15
"""The bins of equal width of the expected calibration error.

Source: Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks, ICML 2017.
"""
SMALLEST_LABEL = float(np.finfo(np.float64).eps)
"""What the absolute value of a label counts as at least in a percentage error: scikit-learn's bound."""


def ratio(a: float, b: float) -> float:
    """Return ``a / b``, NaN where ``b`` is 0."""
    return float(a) / float(b) if b else math.nan


def count_by_score(scores: np.ndarray, positive: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of the positive and the negative rows of each distinct score, by descending score.

    Only equal scores are ties; infinite scores are treated like others. Scores with a weight of 0 are left out, since they add no point to
    a curve.

    Args:
        scores: a number each, none of them NaN.
        positive: the weight of the positive class in each row or group of rows.
        n: the total weight of each row or group of rows.
    """
    distinct, place = np.unique(scores, return_inverse=True)
    whole = np.bincount(place, n, minlength=len(distinct))[::-1]
    ones = np.bincount(place, positive, minlength=len(distinct))[::-1]
    counted = whole > 0
    return ones[counted], (whole - ones)[counted]


def areas_under_curves(positives: np.ndarray, negatives: np.ndarray) -> tuple[float, float]:
    """Return the areas under the ROC and the precision-recall curve from counts by descending score; NaN where a class is absent.

    The precision-recall curve is MLlib's: it starts at recall 0 with the precision of the highest score, and straight lines join the
    points of the distinct scores.
    """
    return whole_areas(*partial_areas(positives, negatives), float(positives.sum()), float(negatives.sum()))


def measure_areas(positives: np.ndarray, negatives: np.ndarray) -> tuple[float, float, float]:
    """Return both areas and the average precision from counts by descending score."""
    precision = ratio(partial_precision(positives, negatives), float(positives.sum()))
    return *areas_under_curves(positives, negatives), precision


def partial_areas(positives: np.ndarray, negatives: np.ndarray, tp: float = 0.0, fp: float = 0.0) -> tuple[float, float]:
    """Return what a range of scores adds to both areas, in rows, where ``tp`` and ``fp`` are the counts of all higher scores.

    The areas of ranges add up exactly, so a table of any size can be measured range by range.
    """
    if not len(positives):
        return 0.0, 0.0
    hits, alarms = np.r_[tp, tp + np.cumsum(positives)], np.r_[fp, fp + np.cumsum(negatives)]
    precision = np.divide(hits, hits + alarms, out=np.zeros(len(hits)), where=hits + alarms > 0)
    if tp + fp == 0:
        precision[0] = precision[1]
    return float(np.trapezoid(hits, alarms)), float(np.trapezoid(precision, hits))


def partial_precision(positives: np.ndarray, negatives: np.ndarray, tp: float = 0.0, fp: float = 0.0) -> float:
    """Return what a range of scores adds to the average precision, in positive rows; see `partial_areas` for the arguments.

    Average precision is the sum over the distinct scores of the precision there times the recall that is gained there: scikit-learn's
    ``average_precision_score``.
    """
    hits, alarms = tp + np.cumsum(positives), fp + np.cumsum(negatives)
    precision = np.divide(hits, hits + alarms, out=np.zeros(len(hits)), where=hits + alarms > 0)
    return float(positives @ precision)


def whole_areas(roc: float, pr: float, positives: float, negatives: float) -> tuple[float, float]:
    """Return the areas as shares of the unit square, from the sums of `partial_areas` and the weight of each class."""
    return ratio(roc, positives * negatives), ratio(pr, positives)


def areas_by_draw(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the areas under the ROC and the precision-recall curve and the average precision of each draw.

    Args:
        positives: the weight of the positive rows at each score, by descending score: (draws, scores).
        negatives: the same for the negative rows.
    """
    hits, alarms = np.cumsum(positives, axis=1), np.cumsum(negatives, axis=1)
    called = hits + alarms
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    # Scores without weight in a draw add no point: before the first point the curve has the precision of that point.
    first = np.argmax(called > 0, axis=1)
    leading = np.arange(precision.shape[1]) < first[:, None]
    start = np.take_along_axis(precision, first[:, None], axis=1)
    precision = np.where(leading, start, precision)
    before = np.concatenate([start, precision[:, :-1]], axis=1)
    roc = ((hits - positives / 2) * negatives).sum(axis=1)
    pr = ((precision + before) / 2 * positives).sum(axis=1)
    steps = (precision * positives).sum(axis=1)
    whole_positive, whole_negative = hits[:, -1], alarms[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return roc / (whole_positive * whole_negative), pr / whole_positive, steps / whole_positive


def bound_area_errors(positives: np.ndarray, negatives: np.ndarray) -> tuple[float, float, float]:
    """Return how far both areas and the average precision may be off where the scores of each bin were counted together.

    Within a bin the rows may be in any order: all positive ones first, or last; the precision lies between those of the two.
    """
    hits, alarms = np.cumsum(positives), np.cumsum(negatives)
    roc = ratio(float(positives @ negatives) / 2, float(hits[-1] * alarms[-1]))
    called_before = hits - positives + alarms - negatives
    best = np.divide(hits, called_before + positives, out=np.ones_like(hits), where=called_before + positives > 0)
    worst_called = called_before + negatives
    worst = np.divide(hits - positives, worst_called, out=best.copy(), where=worst_called > 0)
    pr = ratio(float(((best - worst) * positives).sum()), float(hits[-1]))
    return roc, pr, pr


def bin_scores(p: np.ndarray, n: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return the sums of ``n``, of ``positive`` and of ``n`` times ``p`` in each bin of scores between 0 and 1."""
    places = place_scores(p)
    return np.column_stack([np.bincount(places, values, minlength=CALIBRATION_BINS) for values in (n, positive, n * p)])


def place_scores(p: np.ndarray) -> np.ndarray:
    """Return the calibration bin of each score: equal widths between 0 and 1, the upper edge belongs to a bin."""
    return np.clip(np.ceil(np.clip(p, 0.0, 1.0) * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
