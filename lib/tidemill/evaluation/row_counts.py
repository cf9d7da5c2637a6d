"""Counts of the rows of one slice by resampling unit, which add up over batches of rows, and the counts of metrics made of them."""

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
    bound_area_errors,
    measure_areas,
    place_scores,
)
from tidemill.evaluation.resampling import count_by_unit, sum_by_unit

BINS = 512
"""Bins in which scores or errors are counted: about equal shares of the rows and of the positive rows in each."""

ABSOLUTE_LEVELS = (50, 75, 90, 95, 99)
"""The quantiles of the absolute error, in per cent."""

TOP_K = (2, 3, 5)
"""The numbers of most probable classes among which the label may be."""

Arrays: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Places:
    """Where rows are counted: the unit of each row, of ``n_units``, and its bin, of ``n_bins``.

    Counts by unit put ``together`` so many neighbouring bins, since the draws need fewer than the rows.
    """

    units: np.ndarray
    n_units: int
    bins: np.ndarray
    n_bins: int
    together: int = 1

    def sum(self, *columns: np.ndarray) -> np.ndarray:
        """Return the sums of the columns by unit: (units, columns)."""
        return sum_by_unit(self.units, self.n_units, np.column_stack(columns))

    def count(self, places: np.ndarray, size: int, weights: np.ndarray) -> np.ndarray:
        """Return the sums of the weights by unit and place: (units, size)."""
        return count_by_unit(self.units, self.n_units, places, size, weights)

    def count_bins(self, weights: np.ndarray) -> np.ndarray:
        """Return the sums of the weights by unit and bins together: (units, bins / together)."""
        return self.count(self.bins // self.together, -(-self.n_bins // self.together), weights)

    def sum_bins(self, *columns: np.ndarray) -> np.ndarray:
        """Return the sums of the columns by bin: (bins, columns)."""
        return sum_by_unit(self.bins, self.n_bins, np.column_stack(columns))

    def find_range(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and the greatest value of each bin; infinite for an empty one."""
        lowest, highest = np.full(self.n_bins, np.inf), np.full(self.n_bins, -np.inf)
        np.minimum.at(lowest, self.bins, values)
        np.maximum.at(highest, self.bins, values)
        return lowest, highest


def add_collected(one: Arrays, other: Arrays) -> dict[str, np.ndarray]:
    """Return what was collected of two sets of rows together."""
    return {name: _merge(name, values, other[name]) for name, values in one.items()}


def _merge(name: str, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    if name.endswith("_lowest"):
        return np.minimum(one, other)
    return np.maximum(one, other) if name.endswith("_highest") else one + other


@dataclass(frozen=True)
class CountedRows:
    """The counts of rows, those of each draw (None without draws), and how far metrics may be off; what is not named is exact."""

    point: MetricCounts
    draws: MetricCounts | None
    bounds: Mapping[str, float] = field(default_factory=dict)


def bin_by_mass(values: np.ndarray, weight: np.ndarray, positive: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """Return the bin of each value, ascending, and the number of bins: each has about the same share of rows and of positive rows.

    Where positive rows are rare, the few scores among which they are get bins of their own.
    """
    distinct, place = np.unique(values, return_inverse=True)
    if len(distinct) <= BINS:
        return place, len(distinct)
    counts = np.bincount(place, weight, minlength=len(distinct))
    mass = counts / max(float(counts.sum()), math.ulp(0.0))
    if positive is not None and positive.sum() > 0:
        mass = (mass + np.bincount(place, positive, minlength=len(distinct)) / positive.sum()) / 2
    middle = np.cumsum(mass) - mass / 2
    _, bins = np.unique(np.minimum((middle * BINS).astype(np.int64), BINS - 1), return_inverse=True)
    return bins[place], int(bins[-1]) + 1


# --- two classes ---------------------------------------------------------------------------------------------------------------------


def collect_scores(rows: Arrays, places: Places) -> dict[str, np.ndarray]:
    """Count rows of two classes.

    Args:
        rows: ``p``, ``is_positive``, ``is_called``, ``weight``, and ``loss``, ``square`` and ``score``, multiplied by the weight.
        places: their units and bins.
    """
    p, weight = rows["p"], rows["weight"]
    positive = np.where(rows["is_positive"], weight, 0.0)
    called, hit = (np.where(rows["is_called"], values, 0.0) for values in (weight, positive))
    slots = place_scores(p)
    calibration = [places.count(slots, CALIBRATION_BINS, values) for values in (weight, positive, rows["score"])]
    lowest, _ = places.find_range(p)
    return {
        "sums": places.sum(weight, positive, called, hit, rows["loss"], rows["square"]),
        "calibration": np.stack(calibration, axis=-1),
        "slot_rows": np.bincount(slots, minlength=CALIBRATION_BINS),
        "ones": places.count_bins(positive),
        "whole": places.count_bins(weight),
        "bins": places.sum_bins(weight, positive),
        "score_lowest": lowest,
    }


def count_scores(collected: Arrays, draws: np.ndarray, areas: tuple[float, float, float] | None) -> CountedRows:
    """Return the counts of what `collect_scores` gave; ``areas`` are the exact ones, else they are those of the bins.

    ``draws`` are the weights of the units, (draws, units).
    """
    whole, ones = collected["bins"].T
    falling = ones[::-1], (whole - ones)[::-1]
    bounds: dict[str, float] = {}
    if areas is None:
        areas = measure_areas(*falling)
        bounds = dict(zip(AREAS, bound_area_errors(*falling), strict=True))
    point = _binary_counts(collected["sums"].sum(axis=0), collected["calibration"].sum(axis=0), areas)
    if not len(draws):
        return CountedRows(point, None, bounds)
    by_unit = [each[:, ::-1] for each in (collected["ones"], collected["whole"] - collected["ones"])]
    of_draws = areas_by_draw(*(draws @ each for each in by_unit))
    of_whole = areas_by_draw(*(each.sum(axis=0, keepdims=True) for each in by_unit))
    # The bins move the areas a little, those of the whole and of the draws alike.
    moved = [each + (exact - whole_area) for each, exact, whole_area in zip(of_draws, areas, of_whole, strict=True)]
    resampled = _binary_counts(draws @ collected["sums"], np.tensordot(draws, collected["calibration"], axes=1), moved)
    return CountedRows(point, resampled, bounds)


AREAS = ("areaUnderROC", "areaUnderPR", "averagePrecision")


def _binary_counts(sums: np.ndarray, bins: np.ndarray, areas: Any) -> BinaryCounts:
    n, positive, called, hit, loss, squares = sums.T
    return BinaryCounts(n, positive, called, hit, loss, squares, bins, *areas)


# --- several classes -----------------------------------------------------------------------------------------------------------------


def rank_labels(p: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each row's label, 0 for an unknown class, and how many classes come before it, all for an unknown one.

    Of equally probable classes the last comes first (as in scikit-learn). ``p`` are the probabilities, (n, classes).
    """
    n_classes = p.shape[1]
    is_known = (labels >= 0) & (labels < n_classes)
    of_label = np.where(is_known, p[np.arange(len(p)), np.where(is_known, labels, 0).astype(np.int64)], 0.0)
    same = (p == of_label[:, None]) & (np.arange(n_classes) > labels[:, None])
    return of_label, np.where(is_known, ((p > of_label[:, None]) | same).sum(axis=1), n_classes)


def collect_classes(rows: Arrays, places: Places, n_classes: int) -> dict[str, np.ndarray]:
    """Count rows of several classes.

    Args:
        rows: ``label`` and ``prediction``, class indices; ``weight``; multiplied by the weight ``loss``, and for each k of `TOP_K`
            ``within_<k>``, 1 where the label is among the k most probable classes.
        places: their units.
        n_classes: number of classes that the model knows; a label beyond them has the index after the last.
    """
    size = n_classes + 1
    label, called, weight = rows["label"].astype(np.int64), rows["prediction"].astype(np.int64), rows["weight"]
    hits = np.where(label == called, weight, 0.0)
    return {
        "actual": places.count(label, size, weight),
        "called": places.count(called, size, weight),
        "hits": places.count(label, size, hits),
        "sums": places.sum(rows["loss"], *(rows[f"within_{k}"] for k in TOP_K)),
        "confusion": np.bincount(label * size + called, weight, minlength=size * size).reshape(size, size),
    }


def count_classes(collected: Arrays, draws: np.ndarray, n_classes: int) -> CountedRows:
    """Return the counts of what `collect_classes` gave; ``draws`` are the weights of the units, (draws, units)."""
    is_known = bool(collected["actual"][:, n_classes].sum() == 0)

    def counts(weights: np.ndarray) -> ClassCounts:
        actual, called, hits = (
            (weights @ collected[name])[..., : n_classes if is_known else None] for name in ("actual", "called", "hits")
        )
        loss, *within = (weights @ collected["sums"]).T
        levels = {str(k): values for k, values in zip(TOP_K, within, strict=True) if k < n_classes}
        return ClassCounts(actual, called, hits, loss, levels)

    return CountedRows(counts(np.ones(len(collected["sums"]))), counts(draws) if len(draws) else None)


# --- regression ----------------------------------------------------------------------------------------------------------------------

_ERROR_SUMS = ("square", "absolutes", "percentage", "quantile_loss", "label_sum", "label_square")


def collect_errors(rows: Arrays, places: Places) -> dict[str, np.ndarray]:
    """Count the errors of a regression.

    Args:
        rows: ``label``, ``absolute`` (the absolute error), ``weight``, and multiplied by the weight ``square``, ``absolutes``,
            ``percentage``, ``quantile_loss``, ``label_sum``, ``label_square`` (the label's distance from any one number, and its square).
        places: their units and bins.
    """
    weight, label = rows["weight"], rows["label"][rows["weight"] > 0]
    lowest, highest = places.find_range(rows["absolute"])
    return {
        "sums": places.sum(weight, *(rows[name] for name in _ERROR_SUMS)),
        "errors": places.count_bins(weight),
        "bins": places.sum_bins(weight),
        "error_lowest": lowest,
        "error_highest": highest,
        "label_lowest": np.array([label.min(initial=np.inf)]),
        "label_highest": np.array([label.max(initial=-np.inf)]),
    }


def count_errors(collected: Arrays, draws: np.ndarray, quantile: float | None, exact: Mapping[str, float] | None) -> CountedRows:
    """Return the counts of what `collect_errors` gave.

    ``draws`` are the weights of the units, (draws, units); ``quantile`` is that of ``quantileLoss``, None for none; ``exact`` are the
    quantiles of the absolute error, else they are those of the bins.
    """
    is_constant = bool(collected["label_lowest"][0] >= collected["label_highest"][0])
    ranges = collected["error_lowest"], collected["error_highest"]
    bounds: dict[str, float] = {}
    if exact is None:
        exact = {level: float(values[0]) for level, values in _quantiles_of_bins(collected["bins"].T, ranges).items()}
        widths = {_error_metric(level): _width_around(ranges, value) for level, value in exact.items()}
        bounds = {name: width for name, width in widths.items() if width > 0}

    def counts(totals: np.ndarray, quantiles: Mapping[str, Any]) -> ErrorCounts:
        n, square, absolute, percentage, quantile_loss, label_sum, label_square = totals.T
        variance = np.asarray(divide(label_square, n)) - np.asarray(divide(label_sum, n)) ** 2
        spread = np.zeros_like(variance) if is_constant else np.maximum(variance, 0.0)
        return ErrorCounts(n, square, absolute, spread, percentage, None if quantile is None else quantile_loss, quantiles)

    point = counts(collected["sums"].sum(axis=0), exact)
    if not len(draws):
        return CountedRows(point, None, bounds)
    coarse = _join_ranges(ranges, collected["errors"].shape[1])
    binned = _quantiles_of_bins(collected["errors"].sum(axis=0, keepdims=True), coarse)
    of_draws = _quantiles_of_bins(draws @ collected["errors"], coarse)
    moved = {level: of_draws[level] + (value - binned[level]) for level, value in exact.items()}
    return CountedRows(point, counts(draws @ collected["sums"], moved), bounds)


def _join_ranges(ranges: tuple[np.ndarray, np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranges of neighbouring bins together, ``size`` of them."""
    starts = np.arange(size) * -(-len(ranges[0]) // size)
    return np.minimum.reduceat(ranges[0], starts), np.maximum.reduceat(ranges[1], starts)


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


def _quantiles_of_bins(weights: np.ndarray, ranges: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the quantiles of each draw from the weights of its bins, (draws, bins); within a bin errors are spread evenly."""
    lowest, highest = ranges
    cumulative = np.cumsum(weights, axis=1)
    total, draws = cumulative[:, -1], np.arange(len(weights))
    quantiles = {}
    for level in ABSOLUTE_LEVELS:
        target = level / 100 * total
        place = np.minimum((cumulative < target[:, None]).sum(axis=1), weights.shape[1] - 1)
        within = weights[draws, place]
        share = np.clip(divide(target - (cumulative[draws, place] - within), within, otherwise=0.0), 0.0, 1.0)
        with np.errstate(invalid="ignore"):
            quantiles[str(level)] = np.where(total > 0, lowest[place] + share * (highest[place] - lowest[place]), math.nan)
    return quantiles


def _width_around(ranges: tuple[np.ndarray, np.ndarray], value: float) -> float:
    """Return the width of the bins that a quantile lies in."""
    is_around = (ranges[0] <= value) & (value <= ranges[1])
    return float(ranges[1][is_around].max() - ranges[0][is_around].min()) if is_around.any() else 0.0
