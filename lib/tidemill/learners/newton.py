"""Weights of linear models for many penalties: Newton's method starts at the minimum of the penalty before.

The curvature is the costly part: it is computed from a sample of the rows, and reused for later steps and penalties as long as steps
converge. It affects only the number of steps: the gradient is always that of all rows, and at a minimum it is 0. So a penalty has the
same weights alone as on a path, within the tolerance.

Source: the step with a reused curvature is the chord method of Ortega and Rheinboldt: Iterative Solution of Nonlinear Equations (1970),
section 7.1; with a penalty on absolute values, the proximal step of Lee, Sun, Saunders: Proximal Newton-type methods, SIAM J. Optim. 2014.
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
    """The loss of a row as a function of its margin and label."""

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
    """The log loss of two classes, 0 and 1; the margin is the logit of class 1."""

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


# The curvature has the square of so many values; for more slots, methods without it are cheaper.
MAX_NEWTON_SLOTS = 500
# The curvature of so many rows, or more for many slots, is close to that of all rows.
_MIN_SAMPLE = 50_000
_ROWS_PER_SLOT = 100
# Blocks of rows fit into the cache of a core, and reuse their memory.
_BLOCK = 8_192
_DENSE_BLOCK = 1_024
# A slot is full where more than this share of the rows has a value; so many operations on full slots cost as much as one product of two
# values of other slots.
_FULL_SHARE, _OPERATIONS_PER_PRODUCT = 0.25, 60
# After a step that leaves a greater share of the gradient than this, the curvature is computed again, which costs as much as twenty steps;
# in the second half of the steps the share is lower.
_GOOD_STEP, _GOOD_LATE_STEP = 0.7, 0.25
_MIN_STEP = 2.0**-20
_SUFFICIENT_DECREASE = 1e-4
_JITTER = 1e-10


@dataclass(frozen=True)
class Penalty:
    """``strength (ratio |w|₁ + (1 - ratio) / 2 |w|²)``, of all weights but the intercept."""

    strength: float
    ratio: float = 0.0

    @property
    def l1(self) -> float:
        """The factor of |w|₁."""
        return self.strength * self.ratio

    @property
    def l2(self) -> float:
        """The factor of |w|² / 2."""
        return self.strength * (1 - self.ratio)

    def of(self, weights: np.ndarray) -> float:
        """Return the penalty of weights."""
        return self.l1 * float(np.abs(weights).sum()) + self.l2 / 2 * float(weights @ weights)


class Path:
    """The minima of ``mean(loss) + penalty``, one after the other.

    Args:
        features: (rows, slots), at most MAX_NEWTON_SLOTS of them, of similar deviations. Weights apply to values minus the mean of the
            slot, so that slots far from 0 converge too; ``bias`` is that of the original values.
        labels: the labels that the loss reads.
        weights: those of the rows; None: all are 1.
        loss: the loss of a row.
    """

    def __init__(self, features: Any, labels: np.ndarray, weights: np.ndarray | None, loss: Loss) -> None:
        """Start with weights of 0."""
        self._features, self._labels, self._loss = features, np.asarray(labels, dtype=np.float64), loss
        count = len(self._labels)
        self._shares = np.full(count, 1.0 / count) if weights is None else np.asarray(weights, dtype=np.float64) / np.sum(weights)
        self._transposed = features.T
        self._means = np.asarray(self._transposed @ self._shares)
        self._products: _DenseProducts | _SplitProducts | None = None
        self._margin_gradient = np.empty(count)
        self._sample = min(count, max(_MIN_SAMPLE, _ROWS_PER_SLOT * features.shape[1]))
        self.start()

    @property
    def bias(self) -> float:
        """The margin of a row of zeros."""
        return self._intercept - float(self._means @ self.weights)

    def start(self) -> None:
        """Reset the weights to 0."""
        self._curvature: np.ndarray | None = None
        self.weights = np.zeros(self._features.shape[1])
        self._intercept = 0.0
        self._margins = np.zeros(len(self._labels))

    def minimise(self, penalty: Penalty, *, steps: int, tolerance: float) -> bool:
        """Move to the minimum with ``penalty``, in at most ``steps`` steps; return whether it was reached."""
        value, before = self._value(self._margins, self.weights, penalty), np.inf
        for step in range(steps + 1):
            slope, intercept_gradient = self._compute_gradient()
            gradient_left = max(_gradient_distance(slope, self.weights, penalty), abs(intercept_gradient))
            if gradient_left <= tolerance:
                return True
            if step == steps:
                break
            if self._curvature is None or gradient_left > (_GOOD_STEP if 2 * step < steps else _GOOD_LATE_STEP) * before:
                # A sample is used once: where it misleads, as for rare categories, all rows are used.
                self._curvature = self._compute_hessian(self._sample if self._curvature is None else len(self._labels))
            new_value = self._line_search(slope, intercept_gradient, penalty, value)
            if new_value is None:  # no descent: the minimum within rounding
                return gradient_left <= 100 * tolerance
            value, before = new_value, gradient_left
        return False

    def _line_search(self, slope: np.ndarray, intercept_gradient: float, penalty: Penalty, value: float) -> float | None:
        """Take the longest part of the step that reduces the value; return the new value, None where there is none."""
        assert self._curvature is not None
        target, intercept_step = _minimise_quadratic(self._curvature, slope, intercept_gradient, self.weights, penalty)
        step = target - self.weights
        margin_step = np.asarray(self._features @ step) + (intercept_step - float(self._means @ step))
        gain = float(slope @ step) + intercept_gradient * intercept_step + penalty.of(target) - penalty.of(self.weights)
        length = 1.0
        while length > _MIN_STEP:
            margins, weights = self._margins + length * margin_step, self.weights + length * step
            candidate = self._value(margins, weights, penalty)
            if candidate <= value + _SUFFICIENT_DECREASE * length * min(gain, 0.0) and candidate < value:
                self._margins, self.weights, self._intercept = margins, weights, self._intercept + length * intercept_step
                return candidate
            length /= 2
        return None

    def _value(self, margins: np.ndarray, weights: np.ndarray, penalty: Penalty) -> float:
        costs = (self._shares[part] @ self._loss.value(margins[part], self._labels[part]) for part in _blocks(len(margins), _BLOCK))
        return float(sum(costs)) + penalty.of(weights)

    def _compute_gradient(self) -> tuple[np.ndarray, float]:
        """Return the gradient of the mean loss by the weights and by the intercept."""
        margin_gradient = self._margin_gradient
        for part in _blocks(len(margin_gradient), _BLOCK):
            np.multiply(self._shares[part], self._loss.slope(self._margins[part], self._labels[part]), out=margin_gradient[part])
        intercept_gradient = float(margin_gradient.sum())
        return np.asarray(self._transposed @ margin_gradient) - self._means * intercept_gradient, intercept_gradient

    def _compute_hessian(self, count: int) -> np.ndarray:
        """Return the Hessian of the mean loss on the first ``count`` rows, which are a sample; the intercept comes last."""
        heights = self._shares[:count] * self._loss.curvature(self._margins[:count]) / self._shares[:count].sum()
        if self._products is None or self._products.rows < count:
            self._products = choose_products(self._features[:count], self._means)
        inner, edge = self._products.weight_products(heights)
        size = len(edge)
        hessian = np.zeros((size + 1, size + 1))
        hessian[:size, :size] = inner
        hessian[size, :size] = hessian[:size, size] = edge
        hessian[size, size] = heights.sum()
        return _add_jitter(hessian)


class _DenseProducts:
    """The products of slots by blocks of dense rows; sparse rows are made dense."""

    def __init__(self, features: Any, means: np.ndarray) -> None:
        """Store the rows, and the mean of each slot."""
        self._features, self._means, self.rows = features, means, features.shape[0]

    def weight_products(self, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``centred.T @ diag(heights) @ centred`` and ``centred.T @ heights``; for the first ``len(heights)`` rows."""
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


class _SplitProducts:
    """The products of slots of sparse rows, with ``full`` slots, where many rows have a value, dense, and the other, thin slots sparse."""

    def __init__(self, features: Any, means: np.ndarray, full: np.ndarray) -> None:
        """Split the slots into ``full`` and thin ones."""
        self.rows, size = features.shape
        self._full, self._thin = full, np.setdiff1d(np.arange(size), full)
        # Full slots are centred before they are multiplied, so that a constant one gives exactly 0; thin slots are never constant.
        self._dense, self._sparse = features[:, full].toarray() - means[full], features[:, self._thin]
        self._means = np.where(np.isin(np.arange(size), full), 0.0, means)
        values_per_row = np.diff(self._sparse.indptr)
        # Rows with fewer values are filled up with zeros of the first slot.
        self._places = np.zeros((values_per_row.max(initial=0), self.rows), dtype=np.int32)
        self._values = np.zeros(self._places.shape)
        row = np.repeat(np.arange(self.rows), values_per_row)
        position = np.arange(len(self._sparse.indices)) - np.repeat(self._sparse.indptr[:-1], values_per_row)
        self._places[position, row], self._values[position, row] = self._sparse.indices, self._sparse.data

    def weight_products(self, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the same as `_DenseProducts.weight_products`; thin slots are centred after the multiplication."""
        count, size = len(heights), len(self._means)
        dense, sparse = self._dense[:count], self._sparse[:count]
        inner, margin_step, total = np.zeros((size, size)), np.zeros(size), float(heights.sum())
        for part in _blocks(count, _BLOCK):
            raised = dense[part] * heights[part, None]
            inner[np.ix_(self._full, self._full)] += dense[part].T @ raised
            inner[np.ix_(self._thin, self._full)] += sparse[part].T @ raised
        inner[np.ix_(self._full, self._thin)] = inner[np.ix_(self._thin, self._full)].T
        inner[np.ix_(self._thin, self._thin)] = self._cross_products(heights)
        margin_step[self._full], margin_step[self._thin] = heights @ dense, sparse.T @ heights
        crossed = np.outer(self._means, margin_step)
        return inner - crossed - crossed.T + total * np.outer(self._means, self._means), margin_step - total * self._means

    def _cross_products(self, heights: np.ndarray) -> np.ndarray:
        """Return the sums of products of the thin slots' values, by pair of slots."""
        count, size = len(heights), len(self._thin)
        sums = np.zeros(size * size)
        for first in range(len(self._places)):
            places, raised = self._places[first, :count].astype(np.int64) * size, self._values[first, :count] * heights
            for second in range(first, len(self._places)):
                both = raised * self._values[second, :count] * (0.5 if first == second else 1.0)
                sums += np.bincount(places + self._places[second, :count], both, minlength=size * size)
        half = sums.reshape(size, size)
        return half + half.T


def choose_products(features: Any, means: np.ndarray) -> _DenseProducts | _SplitProducts:
    """Choose the products of slots: split ones where they need fewer operations than dense ones and little more memory."""
    if not sp.issparse(features):
        return _DenseProducts(features, means)
    rows, size = features.shape
    is_full = np.bincount(features.indices, minlength=size) > _FULL_SHARE * rows
    full, before = np.flatnonzero(is_full), np.concatenate([[0], np.cumsum(~is_full[features.indices])])
    values_per_row = int(np.diff(before[features.indptr]).max(initial=0))
    steps = len(full) ** 2 + _OPERATIONS_PER_PRODUCT * values_per_row * (values_per_row + len(full) / 4)
    is_even = values_per_row * rows <= 2 * before[-1]
    return _SplitProducts(features, means, full) if steps < size**2 and is_even else _DenseProducts(features, means)


def _add_jitter(hessian: np.ndarray) -> np.ndarray:
    """Increase the diagonal slightly, in proportion to itself, so that the matrix has a Cholesky factor."""
    places = np.diag_indices(len(hessian))
    hessian[places] += _JITTER * np.where(hessian[places] > 0, hessian[places], 1.0)
    return hessian


def _blocks(count: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, count)) for first in range(0, count, size))


def minimise_path(path: Path, penalties: Sequence[Penalty], *, steps: int, tolerance: float) -> Iterator[tuple[int, np.ndarray, float]]:
    """Yield the index, weights and intercept of each penalty, the strongest first.

    A minimum that is not reached within ``steps`` from that of the penalty before is searched again from weights of 0.
    """
    order = sorted(range(len(penalties)), key=lambda index: (penalties[index].ratio, -penalties[index].strength))
    for index in order:
        if not path.minimise(penalties[index], steps=steps, tolerance=tolerance) and index != order[0]:
            path.start()
            path.minimise(penalties[index], steps=steps, tolerance=tolerance)
        yield index, path.weights.copy(), path.bias


def _gradient_distance(slope: np.ndarray, weights: np.ndarray, penalty: Penalty) -> float:
    """Return the greatest distance of the gradient of loss and penalty from 0 over the weights."""
    gradient = slope + penalty.l2 * weights
    bound = penalty.l1
    at_zero = np.maximum(np.abs(gradient) - bound, 0.0)
    return float(np.where(weights == 0, at_zero, np.abs(gradient + bound * np.sign(weights))).max(initial=0.0))


def _minimise_quadratic(
    hessian: np.ndarray, slope: np.ndarray, intercept_gradient: float, weights: np.ndarray, penalty: Penalty
) -> tuple[np.ndarray, float]:
    """Return the weights that minimise the quadratic model of the loss plus the penalty, and the step of the intercept."""
    last = hessian[:-1, -1]
    if not penalty.l1:
        penalised_hessian = hessian.copy()
        penalised_hessian[np.diag_indices(len(weights))] += penalty.l2
        downhill = np.append(slope + penalty.l2 * weights, intercept_gradient)
        step = -cho_solve(cho_factor(penalised_hessian), downhill)
        return weights + step[:-1], float(step[-1])
    # The intercept is eliminated, which leaves a quadratic function of the weights.
    inner = _add_jitter(hessian[:-1, :-1] - np.outer(last, last) / hessian[-1, -1])
    linear = inner @ weights - (slope - last * intercept_gradient / hessian[-1, -1])
    target = _solve_elastic_net(inner, linear, weights, penalty)
    return target, float(-(intercept_gradient + last @ (target - weights)) / hessian[-1, -1])


def _solve_elastic_net(inner: np.ndarray, linear: np.ndarray, weights: np.ndarray, penalty: Penalty) -> np.ndarray:
    """Return the v that minimises ``v'inner v / 2 - linear'v + penalty(v)``, by coordinate descent on the Cholesky factor of ``inner``."""
    from sklearn.linear_model import ElasticNet

    lower = cholesky(inner, lower=True)
    root = np.sqrt(len(weights))
    model = ElasticNet(alpha=penalty.strength, l1_ratio=penalty.ratio, fit_intercept=False, tol=1e-9, max_iter=10_000, warm_start=True)
    model.coef_ = weights.copy()
    model.fit(root * lower.T, root * solve_triangular(lower, linear, lower=True))
    return np.asarray(model.coef_)
