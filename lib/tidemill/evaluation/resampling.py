"""Poisson bootstrap by resampling units: each row (or group of rows) belongs to a unit, and a draw weights every unit at once.

A unit is a hash of the row's key, or of its group where rows of a group belong together, so that it does not depend on how the rows are
spread over partitions. Draw number k gives each unit the same weight whatever is measured: draws of two models or of two slices are
paired. A metric that is a formula of sums has, in each draw, the same formula of the weighted sums of the units; the rows are read once.

Source: Chamandy et al., Estimating uncertainty for massive data streams, 2012 (Poisson bootstrap; units as "buckets").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy import sparse

UNITS = 512
"""Resampling units. With m units the width of an interval varies by about 1/√(2m) (3 %) from one hash to another."""
SEED = 20_151


@lru_cache(maxsize=4)
def draw_unit_weights(draws: int, units: int = UNITS, seed: int = SEED) -> np.ndarray:
    """Return the weight of each unit in each draw, Poisson with mean 1: (draws, units)."""
    weights = np.random.Generator(np.random.PCG64(seed)).poisson(1.0, (draws, units)).astype(np.float64)
    weights.setflags(write=False)
    return weights


@dataclass(frozen=True)
class Resampler:
    """Sums over rows or cells in each draw.

    ``units`` is the unit of each row or cell, and ``unit_rows`` the number of rows of each unit, also of rows that are not in the slice: a
    draw is scaled to the number of all rows, without which totals would vary with it. Where ``units`` is None, the rows of a cell are
    resampled independently: a sum over n rows of nearly equal values is n times Poisson with mean n; ``rows`` is the (effective) number of
    rows of each cell then.
    """

    draws: int
    units: np.ndarray | None
    unit_rows: np.ndarray | None = None
    rows: np.ndarray | None = None
    seed: int = SEED

    def sum(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of the columns of ``values`` (n, columns): of all rows (columns), and of each draw (draws, columns)."""
        if self.units is None:
            return values.sum(axis=0), self._cell_weights @ values
        by_unit = np.column_stack([np.bincount(self.units, column, minlength=len(self._unit_rows)) for column in values.T])
        return by_unit.sum(axis=0), self._unit_weights @ by_unit

    def count(self, places: np.ndarray, size: int, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of the weights at each of ``size`` places: of all rows (size), and of each draw (draws, size)."""
        if self.units is None:
            by_cell = sparse.csr_array((weights, (np.arange(len(places)), places)), shape=(len(places), size))
            return np.bincount(places, weights, minlength=size), self._cell_weights @ by_cell
        n_units = len(self._unit_rows)
        by_unit = np.bincount(self.units * size + places, weights, minlength=n_units * size).reshape(n_units, size)
        return by_unit.sum(axis=0), self._unit_weights @ by_unit

    @property
    def _unit_rows(self) -> np.ndarray:
        assert self.units is not None
        return np.bincount(self.units, minlength=UNITS) if self.unit_rows is None else self.unit_rows

    @cached_property
    def _unit_weights(self) -> np.ndarray:
        """The weight of each unit in each draw: (draws, units)."""
        weights, rows = draw_unit_weights(self.draws, len(self._unit_rows), self.seed), self._unit_rows
        drawn = weights @ rows
        return weights * (rows.sum() / np.maximum(drawn, np.finfo(np.float64).tiny))[:, None]

    @cached_property
    def _cell_weights(self) -> np.ndarray:
        """The weight of each cell in each draw, with mean 1: (draws, cells)."""
        assert self.rows is not None
        generator = np.random.Generator(np.random.PCG64(self.seed))
        return generator.poisson(self.rows, (self.draws, len(self.rows))) / np.maximum(self.rows, np.finfo(np.float64).tiny)
