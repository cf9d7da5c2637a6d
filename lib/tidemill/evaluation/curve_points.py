"""Curves for reports, as at most 200 points each, and the confusion matrix; all from the rows or cells of all predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tidemill.evaluation.counts import divide
from tidemill.evaluation.curves import CALIBRATION_BINS, place_scores
from tidemill.evaluation.estimates import CurvePoint, Estimate
from tidemill.evaluation.resampling import Resampler
from tidemill.evaluation.row_counts import Arrays

MAX_POINTS = 200
CONFUSION = "confusion"
"""The name under which cells of the confusion matrix are given: x is the class of the label, y the predicted one, threshold the weight."""
_RESIDUAL_BINS = 50


def describe_scores(rows: Arrays, resampler: Resampler) -> Iterator[CurvePoint]:
    """Yield ROC, precision-recall, gain and lift, the metrics by threshold, calibration and the confusion matrix of two classes."""
    weight, positive = rows["weight"], np.where(rows["is_positive"], rows["weight"], 0.0)
    _, place = np.unique(rows.get("bin", rows["p"]), return_inverse=True)
    totals = [np.bincount(place, values)[::-1] for values in (weight, positive, np.ones(len(place)), rows["p"])]
    is_counted = totals[0] > 0
    whole, ones, elements, scores = (values[is_counted] for values in totals)
    called, hits = np.cumsum(whole), np.cumsum(ones)
    if len(called) and 0 < hits[-1] < called[-1]:
        yield from _describe_ranking(called, hits, scores / elements)
    yield from _describe_calibration(rows, positive, resampler)
    for label in (False, True):
        for prediction in (False, True):
            cell = weight[(rows["is_positive"].astype(bool) == label) & (rows["is_called"].astype(bool) == prediction)]
            yield CurvePoint(CONFUSION, float(label), float(prediction), float(cell.sum()))


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


def _describe_calibration(rows: Arrays, positive: np.ndarray, resampler: Resampler) -> Iterator[CurvePoint]:
    places = place_scores(rows["p"])
    (n, n_of_draws), (ones, ones_of_draws), (score, _) = (
        resampler.count(places, CALIBRATION_BINS, values) for values in (rows["weight"], positive, rows["score"])
    )
    counts = np.bincount(places, rows["rows"], minlength=CALIBRATION_BINS)
    for place in np.flatnonzero(n > 0):
        lower, upper = _interval(ones[place] / n[place], np.asarray(divide(ones_of_draws[:, place], n_of_draws[:, place])))
        yield CurvePoint("calibration", score[place] / n[place], ones[place] / n[place], None, int(counts[place]), lower, upper)


def _interval(value: float, draws: np.ndarray) -> tuple[float | None, float | None]:
    return Estimate(float(value), draws if len(draws) else None).interval or (None, None)


def describe_classes(rows: Arrays) -> Iterator[CurvePoint]:
    """Yield the confusion matrix of several classes, without empty cells."""
    label, called = rows["label"].astype(np.int64), rows["prediction"].astype(np.int64)
    size = int(max(label.max(initial=0), called.max(initial=0))) + 1
    cells = np.bincount(label * size + called, rows["weight"], minlength=size * size)
    for place in np.flatnonzero(cells > 0):
        yield CurvePoint(CONFUSION, float(place // size), float(place % size), float(cells[place]))


def describe_residuals(rows: Arrays, resampler: Resampler) -> Iterator[CurvePoint]:
    """Yield the mean residual by predicted value, in bins of about equal share, and the quantiles of the residuals."""
    prediction, residual, weight = rows["prediction"], rows["residual"], rows["weight"]
    if not weight.sum() > 0:
        return
    shares = np.linspace(0, 1, _RESIDUAL_BINS + 1)[1:-1]
    places = np.searchsorted(np.unique(np.quantile(prediction, shares, method="inverted_cdf")), prediction)
    size = int(places.max()) + 1
    (n, n_of_draws), (sums, sums_of_draws) = (resampler.count(places, size, values) for values in (weight, residual * weight))
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
