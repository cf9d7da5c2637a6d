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
"""Bins in which draws count scores or errors. The small difference that the bins make to the whole is taken off every draw."""

ABSOLUTE_LEVELS = (50, 75, 90, 95, 99)
"""The quantiles of the absolute error, in per cent."""

TOP_K = (2, 3, 5)
"""The numbers of most probable classes among which the label may be."""

Arrays: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class CountedRows:
    """The counts of rows, those of each draw (None without draws), and how far metrics may be off; what is not named is exact."""

    point: MetricCounts
    draws: MetricCounts | None
    bounds: Mapping[str, float] = field(default_factory=dict)


def count_scored(rows: Arrays, resampler: Resampler) -> CountedRows:
    """Count rows of two classes.

    Args:
        rows: one element per row or cell: ``p``, ``is_positive``, ``is_called``, ``weight``, and ``loss``, ``square`` and ``score``, which
            are multiplied by the weight; of cells, which count rows of neighbouring scores together, also ``bin``, ascending with ``p``.
        resampler: sums over the rows or cells in each draw.
    """
    p, weight = rows["p"], rows["weight"]
    ranked = rows.get("bin", p)
    positive = np.where(rows["is_positive"], weight, 0.0)
    called, hit = (np.where(rows["is_called"], values, 0.0) for values in (weight, positive))
    sums, sums_of_draws = resampler.sum(np.column_stack([weight, positive, called, hit, rows["loss"], rows["square"]]))
    places = place_scores(p)
    bins, bins_of_draws = (
        np.stack(parts, axis=-1)
        for parts in zip(*(resampler.count(places, CALIBRATION_BINS, values) for values in (weight, positive, rows["score"])), strict=True)
    )
    curve = count_by_score(ranked, positive, weight)
    areas = (*areas_under_curves(*curve), ratio(partial_precision(*curve), float(curve[0].sum())))
    bounds = dict(zip(("areaUnderROC", "areaUnderPR", "averagePrecision"), bound_area_errors(*curve), strict=True))
    point = _binary_counts(sums, bins, areas)
    if resampler.draws:
        areas_of_draws = _areas_of_draws(ranked, positive, weight, resampler, areas)
        draws = _binary_counts(sums_of_draws, bins_of_draws, areas_of_draws)
    return CountedRows(point, draws if resampler.draws else None, bounds if "bin" in rows else {})


def _binary_counts(sums: np.ndarray, bins: np.ndarray, areas: tuple[Any, Any, Any]) -> BinaryCounts:
    n, positive, called, hit, loss, squares = sums.T
    return BinaryCounts(n, positive, called, hit, loss, squares, bins, *areas)


def _areas_of_draws(
    ranked: np.ndarray, positive: np.ndarray, weight: np.ndarray, resampler: Resampler, areas: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the areas of each draw from scores in bins."""
    place, size = _bin_by_mass(ranked, weight, positive)
    (ones, ones_of_draws), (zeros, zeros_of_draws) = (resampler.count(place, size, values) for values in (positive, weight - positive))
    of_draws = areas_by_draw(ones_of_draws[:, ::-1], zeros_of_draws[:, ::-1])
    of_whole = areas_by_draw(ones[None, ::-1], zeros[None, ::-1])
    roc, pr, precision = (draws + (exact - whole) for draws, exact, whole in zip(of_draws, areas, of_whole, strict=True))
    return roc, pr, precision


def _bin_by_mass(values: np.ndarray, weight: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the bin of each value, ascending, and the number of bins: each has about the same share of rows and of positive rows.

    Where positive rows are rare, the few scores among which they are get bins of their own.
    """
    distinct, place = np.unique(values, return_inverse=True)
    if len(distinct) <= BOOTSTRAP_BINS:
        return place, len(distinct)
    counts = np.bincount(place, weight, minlength=len(distinct))
    mass = counts / max(float(counts.sum()), math.ulp(0.0))
    if positive.sum() > 0:
        mass = (mass + np.bincount(place, positive, minlength=len(distinct)) / positive.sum()) / 2
    middle = np.cumsum(mass) - mass / 2
    _, bins = np.unique(np.minimum((middle * BOOTSTRAP_BINS).astype(np.int64), BOOTSTRAP_BINS - 1), return_inverse=True)
    return bins[place], int(bins[-1]) + 1


def count_classified(rows: Arrays, resampler: Resampler, n_classes: int) -> CountedRows:
    """Count rows of several classes.

    Args:
        rows: one element per row or cell: ``label`` and ``prediction``, class indices; ``weight``; multiplied by the weight ``loss``, and
            for each k of `TOP_K` ``within_<k>``, 1 where the label is among the k most probable classes.
        resampler: sums over the rows or cells in each draw.
        n_classes: number of classes that the model knows; a label beyond them has the index after the last.
    """
    label, called, weight = rows["label"].astype(np.int64), rows["prediction"].astype(np.int64), rows["weight"]
    size = max(n_classes, int(label.max(initial=0)) + 1)
    levels = [str(k) for k in TOP_K if k < n_classes]
    hits = np.where(label == called, weight, 0.0)
    by_class = [resampler.count(places, size, values) for places, values in ((label, weight), (called, weight), (label, hits))]
    sums = resampler.sum(np.column_stack([rows["loss"], *(rows[f"within_{k}"] for k in levels)]))

    def counts(side: int) -> ClassCounts:
        loss, *within = sums[side].T
        actual, predicted, right = (both[side] for both in by_class)
        return ClassCounts(actual, predicted, right, loss, dict(zip(levels, within, strict=True)))

    return CountedRows(counts(0), counts(1) if resampler.draws else None)


_ERROR_SUMS = ("square", "absolutes", "percentage", "quantile_loss", "label_sum", "label_square")


def count_errors(rows: Arrays, resampler: Resampler, quantile: float | None) -> CountedRows:
    """Count the errors of a regression.

    Args:
        rows: one element per row or cell: ``absolute``, the absolute error or its mean in a cell; ``absolute_lowest``,
            ``absolute_highest``, ``label_lowest`` and ``label_highest``, the ranges in a cell; ``weight``; and multiplied by the weight
            ``square``, ``absolutes``, ``percentage``, ``quantile_loss``, ``label_sum`` and ``label_square`` (the label's distance from
            any one number, and its square).
        resampler: sums over the rows or cells in each draw.
        quantile: the quantile of ``quantileLoss``; None: none.
    """
    weight = rows["weight"]
    sums, sums_of_draws = resampler.sum(np.column_stack([weight, *(rows[name] for name in _ERROR_SUMS)]))
    is_counted = weight > 0
    lowest, highest = rows["label_lowest"][is_counted], rows["label_highest"][is_counted]
    is_constant = not len(lowest) or bool(lowest.min() == highest.max())
    place, size = _bin_by_mass(rows["absolute"], weight, np.zeros(1))
    in_bins, bins_of_draws = resampler.count(place, size, weight)
    ranges, exact = _bin_ranges(rows, place, size), weighted_quantiles(rows["absolute"], weight)
    binned, of_draws = (_quantiles_of_bins(totals, ranges) for totals in (in_bins[None, :], bins_of_draws))
    moved = {level: of_draws[level] + (exact[level] - binned[level]) for level in exact}

    def counts(totals: np.ndarray, quantiles: Mapping[str, Any]) -> ErrorCounts:
        n, square, absolute, percentage, quantile_loss, label_sum, label_square = totals.T
        variance = np.asarray(divide(label_square, n)) - np.asarray(divide(label_sum, n)) ** 2
        spread = np.zeros_like(variance) if is_constant else np.maximum(variance, 0.0)
        return ErrorCounts(n, square, absolute, spread, percentage, None if quantile is None else quantile_loss, quantiles)

    widths = {_error_metric(level): _width_around(rows, value) for level, value in exact.items()}
    bounds = {name: width for name, width in widths.items() if width > 0}
    return CountedRows(counts(sums, exact), counts(sums_of_draws, moved) if resampler.draws else None, bounds)


def _error_metric(level: str) -> str:
    return "medianAbsoluteError" if level == "50" else f"absoluteErrorQuantile{level}"


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
    np.minimum.at(lowest, place, rows["absolute_lowest"])
    np.maximum.at(highest, place, rows["absolute_highest"])
    return lowest, highest


def _quantiles_of_bins(weights: np.ndarray, ranges: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the quantiles of each draw from the weights of its bins, (draws, bins); within a bin errors are spread evenly."""
    lowest, highest = ranges
    if not weights.size:
        return {str(level): np.full(len(weights), math.nan) for level in ABSOLUTE_LEVELS}
    cumulative = np.cumsum(weights, axis=1)
    total, draws = cumulative[:, -1], np.arange(len(weights))
    quantiles = {}
    for level in ABSOLUTE_LEVELS:
        target = level / 100 * total
        place = np.minimum((cumulative < target[:, None]).sum(axis=1), weights.shape[1] - 1)
        within = weights[draws, place]
        share = np.clip(divide(target - (cumulative[draws, place] - within), within, otherwise=0.0), 0.0, 1.0)
        quantiles[str(level)] = np.where(total > 0, lowest[place] + share * (highest[place] - lowest[place]), math.nan)
    return quantiles


def _width_around(rows: Arrays, value: float) -> float:
    """Return the width of the cells that a quantile lies in, 0 for single rows."""
    is_around = (
        (rows["absolute_lowest"] <= value) & (value <= rows["absolute_highest"]) & (rows["absolute_lowest"] < rows["absolute_highest"])
    )
    return float(rows["absolute_highest"][is_around].max() - rows["absolute_lowest"][is_around].min()) if is_around.any() else 0.0
