"""Weights of linear models for many penalties: each minimum is approached from the one before, by steps of Newton's method.

The curvature is what costs: it is made of a sample of the rows, and kept from step to step and from penalty to penalty as long as it
serves. It decides how many steps are taken, never where they end: the slope is always that of all rows, and a minimum is one where that
slope is nothing. So a penalty has the same weights alone as on a path, to the tolerance.

Source: the step with a kept curvature is the chord method of Ortega and Rheinboldt: Iterative Solution of Nonlinear Equations (1970),
section 7.1; with a penalty on absolute values, the proximal step of Lee, Sun, Saunders: Proximal Newton-type methods, SIAM J. Optim. 24
(2014).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.linalg.blas import dsyrk
from scipy.special import expit


class Loss(Protocol):
    """What a row's margin costs, given its label."""

    def value(self, margins: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the cost of each row."""
        ...

    def slope(self, margins: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return its first derivative by the margin."""
        ...

    def curvature(self, margins: np.ndarray) -> np.ndarray:
        """Return its second derivative by the margin."""
        ...


class LogLoss:
    """Of two classes, 0 and 1; the margin is the logit of class 1."""

    def value(self, margins: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the cost of each row."""
        return np.log1p(np.exp(-np.abs(margins))) + np.maximum(margins, 0) - labels * margins

    def slope(self, margins: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return its first derivative by the margin."""
        return np.asarray(expit(margins) - labels)

    def curvature(self, margins: np.ndarray) -> np.ndarray:
        """Return its second derivative by the margin."""
        p = expit(margins)
        return np.asarray(p * (1 - p))


class SquaredLoss:
    """Half the square of the residual."""

    def value(self, margins: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the cost of each row."""
        return np.asarray((margins - labels) ** 2 / 2)

    def slope(self, margins: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return its first derivative by the margin."""
        return margins - labels

    def curvature(self, margins: np.ndarray) -> np.ndarray:
        """Return its second derivative by the margin."""
        return np.ones_like(margins)


# The curvature has so many squared numbers: beyond, steps without it are cheaper.
MOST_SLOTS = 500
# Of this many rows, and more where there are many slots, the curvature is nearly that of all.
_LEAST_SAMPLE = 50_000
_ROWS_A_SLOT = 100
# Rows are gone through in blocks whose numbers stay in a core's cache, and whose room is not asked of the system again and again.
_BLOCK = 8_192
_DENSE_BLOCK = 1_024
# A slot is full where more than this share of the rows have a value; so many steps over full slots take as long as one product of two
# values of others.
_FULL, _STEPS_A_PRODUCT = 0.25, 60
# A step that leaves more of the slope than this asks for the curvature where it has come to, which costs as much as twenty steps; where
# half of the steps are over it is asked for sooner.
_GOOD_STEP, _GOOD_LATE_STEP = 0.7, 0.25
_SHORTEST = 2.0**-20
_ENOUGH = 1e-4
_JITTER = 1e-10


@dataclass(frozen=True)
class Penalty:
    """``strength (ratio |w|₁ + (1 - ratio) / 2 |w|²)``, of all weights but the intercept."""

    strength: float
    ratio: float = 0.0

    @property
    def on_absolutes(self) -> float:
        """What |w|₁ costs."""
        return self.strength * self.ratio

    @property
    def on_squares(self) -> float:
        """What |w|² / 2 costs."""
        return self.strength * (1 - self.ratio)

    def of(self, weights: np.ndarray) -> float:
        """Return the penalty of weights."""
        return self.on_absolutes * float(np.abs(weights).sum()) + self.on_squares / 2 * float(weights @ weights)


class Path:
    """The minima of ``mean(loss) + penalty``, one after the other.

    Args:
        features: (rows, slots), at most MOST_SLOTS of them, of about the same spread. Weights belong to what lies between a value and the
            mean of its slot, so that a slot far from 0 is learned as well as any; ``bias`` is that of the values as they are.
        labels: as the loss wants them.
        weights: what each row counts for; None: all alike.
        loss: of a row's margin.
    """

    def __init__(self, features: Any, labels: np.ndarray, weights: np.ndarray | None, loss: Loss) -> None:
        """Begin with no weights at all."""
        self._features, self._labels, self._loss = features, np.asarray(labels, dtype=np.float64), loss
        count = len(self._labels)
        self._shares = np.full(count, 1.0 / count) if weights is None else np.asarray(weights, dtype=np.float64) / np.sum(weights)
        self._transposed = features.T
        self._means = np.asarray(self._transposed @ self._shares)
        self._products: _Whole | _Parted | None = None
        self._by_margin = np.empty(count)
        self._sample = min(count, max(_LEAST_SAMPLE, _ROWS_A_SLOT * features.shape[1]))
        self.start()

    @property
    def bias(self) -> float:
        """What a row of zeros has for a margin."""
        return self._intercept - float(self._means @ self.weights)

    def start(self) -> None:
        """Go back to no weights at all."""
        self._curvature: np.ndarray | None = None
        self.weights = np.zeros(self._features.shape[1])
        self._intercept = 0.0
        self._margins = np.zeros(len(self._labels))

    def minimise(self, penalty: Penalty, *, steps: int, tolerance: float) -> bool:
        """Go on to the minimum with ``penalty``, in at most so many steps; return whether it was reached."""
        value, before = self._value(self._margins, self.weights, penalty), np.inf
        for step in range(steps + 1):
            slope, of_intercept = self._slope()
            left = max(_outside(slope, self.weights, penalty), abs(of_intercept))
            if left <= tolerance:
                return True
            if step == steps:
                break
            if self._curvature is None or left > (_GOOD_STEP if 2 * step < steps else _GOOD_LATE_STEP) * before:
                # What a sample says is asked once: where it misleads, as it may of rare categories, all rows are.
                self._curvature = self._curved(self._sample if self._curvature is None else len(self._labels))
            moved = self._walk(slope, of_intercept, penalty, value)
            if moved is None:  # no way down: as near as the numbers allow
                return left <= 100 * tolerance
            value, before = moved, left
        return False

    def _walk(self, slope: np.ndarray, of_intercept: float, penalty: Penalty, value: float) -> float | None:
        """Take the step, or a part of it that leads down; return the value there, None where there is none."""
        assert self._curvature is not None
        target, by_intercept = _minimum(self._curvature, slope, of_intercept, self.weights, penalty)
        step = target - self.weights
        along = np.asarray(self._features @ step) + (by_intercept - float(self._means @ step))
        gain = float(slope @ step) + of_intercept * by_intercept + penalty.of(target) - penalty.of(self.weights)
        length = 1.0
        while length > _SHORTEST:
            margins, weights = self._margins + length * along, self.weights + length * step
            found = self._value(margins, weights, penalty)
            if found <= value + _ENOUGH * length * min(gain, 0.0) and found < value:
                self._margins, self.weights, self._intercept = margins, weights, self._intercept + length * by_intercept
                return found
            length /= 2
        return None

    def _value(self, margins: np.ndarray, weights: np.ndarray, penalty: Penalty) -> float:
        costs = (self._shares[part] @ self._loss.value(margins[part], self._labels[part]) for part in _blocks(len(margins), _BLOCK))
        return float(sum(costs)) + penalty.of(weights)

    def _slope(self) -> tuple[np.ndarray, float]:
        """Return the derivatives of the mean loss by the weights and the intercept."""
        by_margin = self._by_margin
        for part in _blocks(len(by_margin), _BLOCK):
            np.multiply(self._shares[part], self._loss.slope(self._margins[part], self._labels[part]), out=by_margin[part])
        of_intercept = float(by_margin.sum())
        return np.asarray(self._transposed @ by_margin) - self._means * of_intercept, of_intercept

    def _curved(self, count: int) -> np.ndarray:
        """Return the second derivatives of the mean loss, the intercept last, of the first ``count`` rows, which are a sample."""
        heights = self._shares[:count] * self._loss.curvature(self._margins[:count]) / self._shares[:count].sum()
        if self._products is None or self._products.rows < count:
            self._products = products_of(self._features[:count], self._means)
        inner, edge = self._products.of(heights)
        size = len(edge)
        found = np.zeros((size + 1, size + 1))
        found[:size, :size] = inner
        found[size, :size] = found[:size, size] = edge
        found[size, size] = heights.sum()
        return _raised(found)


class _Whole:
    """The products of slots, row by row; of sparse rows with their zeros."""

    def __init__(self, features: Any, means: np.ndarray) -> None:
        """Take the rows, and the mean of each slot."""
        self._features, self._means, self.rows = features, means, features.shape[0]

    def of(self, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``centred.T @ diag(heights) @ centred`` and ``centred.T @ heights``; of the first rows, as many as there are heights."""
        size, roots = len(self._means), np.sqrt(heights)[:, None]
        block = np.empty((_DENSE_BLOCK, size))
        inner, edge = np.zeros((size, size), order="F"), np.zeros(size)
        for part in _blocks(len(heights), _DENSE_BLOCK):
            rows, raised = self._features[part], block[: part.stop - part.start]
            np.subtract(rows.toarray(out=raised) if sp.issparse(rows) else rows, self._means, out=raised)
            raised *= roots[part]
            inner = dsyrk(1.0, raised.T, beta=1.0, c=inner, overwrite_c=1)
            edge += roots[part, 0] @ raised
        return np.triu(inner) + np.triu(inner, 1).T, edge


class _Parted:
    """The products of slots of sparse rows, in two: ``full`` slots, in which most rows have a value, with their zeros, and thin ones."""

    def __init__(self, features: Any, means: np.ndarray, full: np.ndarray) -> None:
        """Take the slots ``full`` apart from the others."""
        self.rows, size = features.shape
        self._full, self._thin = full, np.setdiff1d(np.arange(size), full)
        # Centred before they are multiplied: what is left of a slot of one value must be nothing. Thin slots are always far from that.
        self._dense, self._sparse = features[:, full].toarray() - means[full], features[:, self._thin]
        self._means = np.where(np.isin(np.arange(size), full), 0.0, means)
        held = np.diff(self._sparse.indptr)
        # A row that holds fewer has zeros in the first slot for the rest.
        self._places = np.zeros((held.max(initial=0), self.rows), dtype=np.int32)
        self._values = np.zeros(self._places.shape)
        row = np.repeat(np.arange(self.rows), held)
        nth = np.arange(len(self._sparse.indices)) - np.repeat(self._sparse.indptr[:-1], held)
        self._places[nth, row], self._values[nth, row] = self._sparse.indices, self._sparse.data

    def of(self, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what `_Whole.of` does; values of thin slots are centred when they have been multiplied."""
        count, size = len(heights), len(self._means)
        dense, sparse = self._dense[:count], self._sparse[:count]
        inner, along, total = np.zeros((size, size)), np.zeros(size), float(heights.sum())
        for part in _blocks(count, _BLOCK):
            raised = dense[part] * heights[part, None]
            inner[np.ix_(self._full, self._full)] += dense[part].T @ raised
            inner[np.ix_(self._thin, self._full)] += sparse[part].T @ raised
        inner[np.ix_(self._full, self._thin)] = inner[np.ix_(self._thin, self._full)].T
        inner[np.ix_(self._thin, self._thin)] = self._crossed(heights)
        along[self._full], along[self._thin] = heights @ dense, sparse.T @ heights
        crossed = np.outer(self._means, along)
        return inner - crossed - crossed.T + total * np.outer(self._means, self._means), along - total * self._means

    def _crossed(self, heights: np.ndarray) -> np.ndarray:
        """Return the products of the values of each row in thin slots, by the two slots."""
        count, size = len(heights), len(self._thin)
        found = np.zeros(size * size)
        for first in range(len(self._places)):
            places, raised = self._places[first, :count].astype(np.int64) * size, self._values[first, :count] * heights
            for second in range(first, len(self._places)):
                both = raised * self._values[second, :count] * (0.5 if first == second else 1.0)
                found += np.bincount(places + self._places[second, :count], both, minlength=size * size)
        half = found.reshape(size, size)
        return half + half.T


def products_of(features: Any, means: np.ndarray) -> _Whole | _Parted:
    """Return what makes products of slots: in two parts where that is fewer steps than by whole rows, and takes little more room."""
    if not sp.issparse(features):
        return _Whole(features, means)
    rows, size = features.shape
    is_full = np.bincount(features.indices, minlength=size) > _FULL * rows
    full, before = np.flatnonzero(is_full), np.concatenate([[0], np.cumsum(~is_full[features.indices])])
    held = int(np.diff(before[features.indptr]).max(initial=0))
    steps = len(full) ** 2 + _STEPS_A_PRODUCT * held * (held + len(full) / 4)
    is_even = held * rows <= 2 * before[-1]
    return _Parted(features, means, full) if steps < size**2 and is_even else _Whole(features, means)


def _raised(curved: np.ndarray) -> np.ndarray:
    """Return the matrix with a little more on its diagonal, each place in proportion to itself, so that it can be taken apart."""
    places = np.diag_indices(len(curved))
    curved[places] += _JITTER * np.where(curved[places] > 0, curved[places], 1.0)
    return curved


def _blocks(count: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, count)) for first in range(0, count, size))


def penalised(path: Path, penalties: Sequence[Penalty], *, steps: int, tolerance: float) -> Iterator[tuple[int, np.ndarray, float]]:
    """Yield the place, weights and intercept of each penalty, the strongest first.

    One whose minimum is not reached from its neighbour's in ``steps`` is approached again from no weights, as it would be alone.
    """
    order = sorted(range(len(penalties)), key=lambda place: (penalties[place].ratio, -penalties[place].strength))
    for place in order:
        if not path.minimise(penalties[place], steps=steps, tolerance=tolerance) and place != order[0]:
            path.start()
            path.minimise(penalties[place], steps=steps, tolerance=tolerance)
        yield place, path.weights.copy(), path.bias


def _outside(slope: np.ndarray, weights: np.ndarray, penalty: Penalty) -> float:
    """Return by how much the slope of loss and penalty differs from nothing, at most, over the weights."""
    whole = slope + penalty.on_squares * weights
    bound = penalty.on_absolutes
    settled = np.maximum(np.abs(whole) - bound, 0.0)
    return float(np.where(weights == 0, settled, np.abs(whole + bound * np.sign(weights))).max(initial=0.0))


def _minimum(curved: np.ndarray, slope: np.ndarray, of_intercept: float, weights: np.ndarray, penalty: Penalty) -> tuple[np.ndarray, float]:
    """Return the weights at which the parabola with this slope and curvature, and the penalty, are least, and the intercept's step."""
    last = curved[:-1, -1]
    if not penalty.on_absolutes:
        whole = curved.copy()
        whole[np.diag_indices(len(weights))] += penalty.on_squares
        downhill = np.append(slope + penalty.on_squares * weights, of_intercept)
        step = -cho_solve(cho_factor(whole), downhill)
        return weights + step[:-1], float(step[-1])
    # The intercept goes where it costs least, whatever the weights are; what is left is a parabola in them alone.
    inner = curved[:-1, :-1] - np.outer(last, last) / curved[-1, -1]
    inner = _raised(inner)
    wanted = inner @ weights - (slope - last * of_intercept / curved[-1, -1])
    target = _elastic(inner, wanted, weights, penalty)
    return target, float(-(of_intercept + last @ (target - weights)) / curved[-1, -1])


def _elastic(inner: np.ndarray, wanted: np.ndarray, weights: np.ndarray, penalty: Penalty) -> np.ndarray:
    """Return the v of the least ``v'inner v / 2 - wanted'v + penalty(v)``, by coordinate descent on a matrix with that square."""
    from sklearn.linear_model import ElasticNet

    lower = cholesky(inner, lower=True)
    root = np.sqrt(len(weights))
    model = ElasticNet(alpha=penalty.strength, l1_ratio=penalty.ratio, fit_intercept=False, tol=1e-9, max_iter=10_000, warm_start=True)
    model.coef_ = weights.copy()
    model.fit(root * lower.T, root * solve_triangular(lower, wanted, lower=True))
    return np.asarray(model.coef_)
