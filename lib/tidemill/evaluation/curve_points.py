"""Curves for reports, as at most 200 points each, and the confusion matrix; all from the rows or cells of all predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tidemill.evaluation.counts import divide
from tidemill.evaluation.estimates import CurvePoint, Estimate
from tidemill.evaluation.resampling import UNITS, count_by_unit
from tidemill.evaluation.row_counts import Arrays

MAX_POINTS = 200
CONFUSION = "confusion"
"""The name under which cells of the confusion matrix are given: x is the class of the label, y the predicted one, threshold the weight."""
_RESIDUAL_BINS = 50


def describe_scores(collected: Arrays, draws: np.ndarray) -> Iterator[CurvePoint]:
    """Yield ROC, precision-recall, gain and lift, the metrics by threshold, calibration and the confusion matrix of two classes."""
    whole, ones = (values[::-1] for values in collected["bins"].T)
    is_counted = whole > 0
    called, hits = np.cumsum(whole[is_counted]), np.cumsum(ones[is_counted])
    if len(called) and 0 < hits[-1] < called[-1]:
        yield from _describe_ranking(called, hits, collected["score_lowest"][::-1][is_counted])
    yield from _describe_calibration(collected, draws)
    n, positive, n_called, hit = (float(total) for total in collected["sums"].sum(axis=0)[:4])
    cells = {(0, 0): n - positive - n_called + hit, (0, 1): n_called - hit, (1, 0): positive - hit, (1, 1): hit}
    for (label, prediction), weight in cells.items():
        yield CurvePoint(CONFUSION, float(label), float(prediction), weight)


def _describe_ranking(called: np.ndarray, hits: np.ndarray, thresholds: np.ndarray) -> Iterator[CurvePoint]:
    n, positive = float(called[-1]), float(hits[-1])
    chosen = _choose_points(called / n + hits / positive)
    yield CurvePoint("roc", 0.0, 0.0)
    yield CurvePoint("gain", 0.0, 0.0)
    for place in chosen:
        threshold, flagged, recall = float(thresholds[place]), float(called[place]) / n, float(hits[place]) / positive
        precision = float(hits[place] / called[place])
        yield CurvePoint("roc", float(called[place] - hits[place]) / (n - positive), recall, threshold)
        yield CurvePoint("pr", recall, precision, threshold)
        yield CurvePoint("gain", flagged, recall, threshold)
        yield CurvePoint("lift", flagged, recall / flagged, threshold)
        yield CurvePoint("precision", threshold, precision, threshold)
        yield CurvePoint("recall", threshold, recall, threshold)
        yield CurvePoint("share_flagged", threshold, flagged, threshold)


def _choose_points(mass: np.ndarray) -> np.ndarray:
    """Return the places of points that have about the same mass between them, among them the first and the last."""
    if len(mass) < MAX_POINTS:
        return np.arange(len(mass))
    places = np.searchsorted(mass, np.linspace(mass[0], mass[-1], MAX_POINTS - 1))
    return np.unique(np.clip(places, 0, len(mass) - 1))


def _describe_calibration(collected: Arrays, draws: np.ndarray) -> Iterator[CurvePoint]:
    n, ones, score = collected["calibration"].sum(axis=0).T
    of_draws = np.tensordot(draws, collected["calibration"], axes=1)
    shares = np.asarray(divide(of_draws[:, :, 1], of_draws[:, :, 0]))
    for place in np.flatnonzero(n > 0):
        lower, upper = _interval(ones[place] / n[place], shares[:, place])
        rows = int(collected["slot_rows"][place])
        yield CurvePoint("calibration", float(score[place] / n[place]), float(ones[place] / n[place]), None, rows, lower, upper)


def _interval(value: float, draws: np.ndarray) -> tuple[float | None, float | None]:
    return Estimate(float(value), draws if len(draws) else None).ends


def describe_classes(cells: np.ndarray) -> Iterator[CurvePoint]:
    """Yield the confusion matrix of several classes, without empty cells."""
    for label, prediction in zip(*np.nonzero(cells), strict=True):
        yield CurvePoint(CONFUSION, float(label), float(prediction), float(cells[label, prediction]))


def describe_residuals(rows: Arrays, draws: np.ndarray) -> Iterator[CurvePoint]:
    """Yield the mean residual by predicted value, in bins of about equal share, and the quantiles of the residuals."""
    prediction, residual, weight, units = rows["prediction"], rows["residual"], rows["weight"], rows["unit"]
    if not weight.sum() > 0:
        return
    shares = np.linspace(0, 1, _RESIDUAL_BINS + 1)[1:-1]
    places = np.searchsorted(np.unique(np.quantile(prediction, shares, method="inverted_cdf")), prediction)
    size = int(places.max()) + 1
    by_unit = [count_by_unit(units, UNITS, places, size, values) for values in (weight, residual * weight)]
    n, sums = (each.sum(axis=0) for each in by_unit)
    n_of_draws, sums_of_draws = (draws @ each for each in by_unit)
    predicted, counts = np.bincount(places, prediction * weight, minlength=size), np.bincount(places, minlength=size)
    for place in np.flatnonzero(n > 0):
        mean = float(sums[place] / n[place])
        lower, upper = _interval(mean, np.asarray(divide(sums_of_draws[:, place], n_of_draws[:, place])))
        yield CurvePoint("residuals", float(predicted[place] / n[place]), mean, None, int(counts[place]), lower, upper)
    order = np.argsort(residual, kind="stable")
    cumulative = np.cumsum(weight[order])
    for level in range(1, 100):
        at = int(np.searchsorted(cumulative, level / 100 * cumulative[-1]))
        yield CurvePoint("residual_quantiles", level / 100, float(residual[order[min(at, len(order) - 1)]]))


def is_point(point: CurvePoint) -> bool:
    """Return True for a point whose coordinates are numbers."""
    return math.isfinite(point.x) and math.isfinite(point.y)
