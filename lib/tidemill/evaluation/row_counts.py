"""Counts of the rows of one slice, with their bootstrap draws: from arrays of rows, or of cells of rows that were added up before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from tidemill.evaluation.counts import BinaryCounts, ClassCounts, ErrorCounts, MetricCounts, divide
from tidemill.evaluation.curves import (
    CALIBRATION_BINS,
    areas_by_draw,
    areas_under_curves,
    bound_area_errors,
    count_by_score,
    partial_precision,
    place_scores,
    ratio,
)
from tidemill.evaluation.resampling import Resampler

BOOTSTRAP_BINS = 512
"""Bins in which draws count scores or errors. A draw differs from the exact value by the same tiny amount as the whole, which is
taken off."""

ABSOLUTE_LEVELS = (50, 75, 90, 95, 99)
"""The quantiles of the absolute error, in per cent."""

Arrays: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class CountedRows:
    """The counts of rows, those of each draw (None without draws), and how far metrics may be off, 0 where they are exact."""

    point: MetricCounts
    draws: MetricCounts | None
    bounds: Mapping[str, float] = field(default_factory=dict)


def count_scored(rows: Arrays, resampler: Resampler, *, are_cells: bool = False) -> CountedRows:
    """Count rows of two classes.

    Args:
        rows: ``p``, ``is_positive``, ``is_called``, ``weight``, ``unit``, and ``loss``, ``square`` and ``score``, which are multiplied by
            the weight; one element per row or cell; of cells also ``bin``, ascending with the score.
        resampler: sums over the rows or cells in each draw.
        are_cells: True if an element counts rows of neighbouring scores together.
    """
    p, unit, weight = rows["p"], rows["unit"], rows["weight"]
    ranked = rows["bin"] if are_cells else p
    positive = np.where(rows["is_positive"], weight, 0.0)
    called, hit = (np.where(rows["is_called"], values, 0.0) for values in (weight, positive))
    sums = sum_by_unit(unit, np.column_stack([weight, positive, called, hit, rows["loss"], rows["square"]]))
    places = place_scores(p)
    bins = np.stack([count_by_unit(unit, places, CALIBRATION_BINS, values) for values in (weight, positive, rows["score"])], axis=2)
    curve = count_by_score(ranked, positive, weight)
    areas = (*areas_under_curves(*curve), ratio(partial_precision(*curve), float(curve[0].sum())))
    n, positives, calls, hits, loss, squares = map(float, sums.sum(axis=0))
    point = BinaryCounts(n, positives, calls, hits, loss, squares, bins.sum(axis=0), *areas)
    names = ("areaUnderROC", "areaUnderPR", "averagePrecision")
    bounds = dict(zip(names, bound_area_errors(*curve), strict=True)) if are_cells and len(curve[0]) else {}
    if not len(weights):
        return CountedRows(point, None, bounds)
    n, positives, calls, hits, loss, squares = (weights @ sums).T
    areas_of_draws = _areas_of_draws(ranked, positive, weight, unit, weights, areas)
    draws = BinaryCounts(n, positives, calls, hits, loss, squares, np.tensordot(weights, bins, axes=1), *areas_of_draws)
    return CountedRows(point, draws, bounds)


def _areas_of_draws(
    p: np.ndarray, positive: np.ndarray, weight: np.ndarray, unit: np.ndarray, weights: np.ndarray, areas: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the areas of each draw from scores in bins, moved by the difference that the bins make to the whole."""
    place, size = _bin_by_mass(p, weight, positive)
    by_unit = [count_by_unit(unit, place, size, values)[:, ::-1] for values in (positive, weight - positive)]
    of_draws = areas_by_draw(*(weights @ counts for counts in by_unit))
    of_whole = areas_by_draw(*(counts.sum(axis=0, keepdims=True) for counts in by_unit))
    roc, pr, precision = (draws + (exact - whole) for draws, exact, whole in zip(of_draws, areas, of_whole, strict=True))
    return roc, pr, precision


def _bin_by_mass(values: np.ndarray, weight: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the bin of each value, ascending, and the number of bins: each has about the same share of rows and of positive rows.

    Where positive rows are rare, the few scores among which they are get bins of their own.
    """
    distinct, place = np.unique(values, return_inverse=True)
    if len(distinct) <= BOOTSTRAP_BINS:
        return place, len(distinct)
    mass = np.bincount(place, weight, minlength=len(distinct)) / max(weight.sum(), 1e-300)
    if positive.sum() > 0:
        mass = (mass + np.bincount(place, positive, minlength=len(distinct)) / positive.sum()) / 2
    middle = np.cumsum(mass) - mass / 2
    _, bins = np.unique(np.minimum((middle * BOOTSTRAP_BINS).astype(np.int64), BOOTSTRAP_BINS - 1), return_inverse=True)
    return bins[place], int(bins[-1]) + 1


TOP_K = (2, 3, 5)
"""The numbers of most probable classes among which the label may be."""


def count_classified(rows: Arrays, resampler: Resampler, n_classes: int) -> CountedRows:
    """Count rows of several classes.

    Args:
        rows: ``label`` and ``prediction``, class indices; ``rank``, the number of classes that are more probable than the label's;
            ``weight``, ``unit``, and ``loss``, which is multiplied by the weight; one element per row or cell.
        resampler: sums over the rows or cells in each draw.
        n_classes: number of classes that the model knows; a label beyond them has the index after the last.
    """
    label, called, unit, weight = rows["label"].astype(np.int64), rows["prediction"].astype(np.int64), rows["unit"], rows["weight"]
    size = max(n_classes, int(label.max(initial=0)) + 1)
    levels = [k for k in TOP_K if k < n_classes]
    by_class = [count_by_unit(unit, places, size, values) for places, values in _class_counts(label, called, weight)]
    sums = sum_by_unit(unit, np.column_stack([rows["loss"], *(np.where(rows["rank"] < k, weight, 0.0) for k in levels)]))

    def counts(combine: np.ndarray) -> ClassCounts:
        actual, predicted, hits = (combine @ values for values in by_class)
        loss, *within = (combine @ sums).T
        return ClassCounts(actual, predicted, hits, loss, dict(zip(map(str, levels), within, strict=True)))

    return CountedRows(counts(np.ones(UNITS)), counts(weights) if len(weights) else None)


def _class_counts(label: np.ndarray, called: np.ndarray, weight: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(label, weight), (called, weight), (label, np.where(label == called, weight, 0.0))]


def count_errors(rows: Arrays, resampler: Resampler, quantile: float | None, *, are_cells: bool = False) -> CountedRows:
    """Count the errors of a regression.

    Args:
        rows: ``label``; ``absolute``, ``lowest`` and ``highest``, the absolute error, or its mean and range in a cell; ``weight``;
            ``unit``; and multiplied by the weight ``square``, ``absolutes``, ``percentage``, ``quantile_loss``, ``label_sum`` and
            ``label_square`` (the label's distance from any one number, and its square); one element per row or cell.
        resampler: sums over the rows or cells in each draw.
        quantile: the quantile of ``quantileLoss``; None: none.
        are_cells: True if an element counts rows of neighbouring errors together.
    """
    unit, weight = rows["unit"], rows["weight"]
    sums = sum_by_unit(unit, np.column_stack([weight, *(rows[name] for name in _ERROR_SUMS)]))
    labels = rows["label"][weight > 0]
    is_constant = not len(labels) or bool(labels.min() == labels.max())
    place, size = _bin_by_mass(rows["absolute"], weight, np.zeros(1))
    by_unit, ranges = count_by_unit(unit, place, size, weight), _bin_ranges(rows, place, size)
    exact = weighted_quantiles(rows["absolute"], weight)

    def counts(totals: np.ndarray, quantiles: Mapping[str, Any]) -> ErrorCounts:
        n, square, absolute, percentage, quantile_loss, label_sum, label_square = totals.T
        variance = np.asarray(divide(label_square, n)) - np.asarray(divide(label_sum, n)) ** 2
        whole = 0.0 * variance if is_constant else np.maximum(variance, 0.0)
        return ErrorCounts(n, square, absolute, whole, percentage, None if quantile is None else quantile_loss, quantiles)

    point = counts(sums.sum(axis=0), exact)
    bounds = {f"absoluteErrorQuantile{level}": _width_around(rows, exact[level]) for level in exact} if are_cells else {}
    if not len(weights):
        return CountedRows(point, None, bounds)
    binned, of_draws = (_quantiles_of_bins(totals, ranges) for totals in (by_unit.sum(axis=0, keepdims=True), weights @ by_unit))
    moved = {level: of_draws[level] + (exact[level] - binned[level]) for level in exact}
    return CountedRows(point, counts(weights @ sums, moved), bounds)


_ERROR_SUMS = ("square", "absolutes", "percentage", "quantile_loss", "label_sum", "label_square")


def weighted_quantiles(values: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Return the quantiles of the absolute error by level, as scikit-learn weighs them (Hyndman and Fan's definition 2)."""
    is_counted = weight > 0
    values, weight = values[is_counted], weight[is_counted]
    if not len(values):
        return {str(level): math.nan for level in ABSOLUTE_LEVELS}
    order = np.argsort(values, kind="stable")
    values, cumulative = values[order], np.cumsum(weight[order])
    quantiles = {}
    for level in ABSOLUTE_LEVELS:
        target = level / 100 * cumulative[-1]
        place = min(int(np.searchsorted(cumulative, target)), len(values) - 1)
        is_between = cumulative[place] - target <= np.finfo(np.float64).eps * cumulative[-1] and place + 1 < len(values)
        quantiles[str(level)] = float((values[place] + values[place + 1]) / 2 if is_between else values[place])
    return quantiles


def _bin_ranges(rows: Arrays, place: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the greatest absolute error of each bin."""
    lowest, highest = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(lowest, place, rows["lowest"])
    np.maximum.at(highest, place, rows["highest"])
    return lowest, highest


def _quantiles_of_bins(weights: np.ndarray, ranges: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the quantiles of each draw from the weights of its bins, (draws, bins); within a bin errors are spread evenly."""
    lowest, highest = ranges
    if not weights.shape[1]:
        return {str(level): np.full(len(weights), math.nan) for level in ABSOLUTE_LEVELS}
    cumulative = np.cumsum(weights, axis=1)
    total, rows = cumulative[:, -1], np.arange(len(weights))
    quantiles = {}
    for level in ABSOLUTE_LEVELS:
        target = level / 100 * total
        place = np.minimum((cumulative < target[:, None]).sum(axis=1), weights.shape[1] - 1)
        within = weights[rows, place]
        share = np.clip(divide(target - (cumulative[rows, place] - within), within, otherwise=0.0), 0.0, 1.0)
        quantiles[str(level)] = np.where(total > 0, lowest[place] + share * (highest[place] - lowest[place]), math.nan)
    return quantiles


def _width_around(rows: Arrays, value: float) -> float:
    """Return the width of the cells that a quantile lies in."""
    is_around = (rows["lowest"] <= value) & (value <= rows["highest"])
    return float(rows["highest"][is_around].max() - rows["lowest"][is_around].min()) if is_around.any() else 0.0
