"""Poisson bootstrap by resampling units: each row (or group of rows) belongs to a unit, and a draw weights every unit at once.

A unit is a hash of the row's key, or of its group where rows of a group belong together, so that it does not depend on how the rows are
spread over partitions. Draw number k gives each unit the same weight whatever is measured: draws of two models or of two slices are
paired. A metric that is a formula of sums has, in each draw, the same formula of the weighted sums of the units; the rows are read once.

Source: Chamandy et al., Estimating uncertainty for massive data streams, 2012 (Poisson bootstrap; units as "buckets").
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

UNITS = 512
"""Resampling units. With m units the width of an interval varies by about 1/√(2m) (3 %) from one hash to another."""
SEED = 20_151


@lru_cache(maxsize=4)
def _draw_poisson(draws: int, units: int, seed: int) -> np.ndarray:
    weights = np.random.Generator(np.random.PCG64(seed)).poisson(1.0, (draws, units)).astype(np.float64)
    weights.setflags(write=False)
    return weights


def draw_unit_weights(draws: int, unit_rows: np.ndarray, seed: int = SEED) -> np.ndarray:
    """Return the weight of each unit in each draw: (draws, units); Poisson with mean 1, scaled to the number of rows.

    Args:
        draws: number of draws.
        unit_rows: the rows of each unit, also of rows that are not in the slice that is measured. Without the scaling, totals would vary
            with the number of rows that a draw happens to have; means and other ratios are the same with and without.
        seed: the seed of the draws.
    """
    weights = _draw_poisson(draws, len(unit_rows), seed)
    drawn = np.maximum(weights @ unit_rows, np.finfo(np.float64).tiny)
    return weights * (unit_rows.sum() / drawn)[:, None]


def sum_by_unit(units: np.ndarray, n_units: int, values: np.ndarray) -> np.ndarray:
    """Return the sums of the columns of ``values`` (n, columns) over the rows of each unit: (units, columns)."""
    if not values.shape[1]:
        return np.zeros((n_units, 0))
    return np.column_stack([np.bincount(units, column, minlength=n_units) for column in values.T])


def count_by_unit(units: np.ndarray, n_units: int, places: np.ndarray, size: int, weights: np.ndarray) -> np.ndarray:
    """Return the sums of the weights of each unit at each of ``size`` places: (units, size)."""
    return np.bincount(units * size + places, weights, minlength=n_units * size).reshape(n_units, size)
