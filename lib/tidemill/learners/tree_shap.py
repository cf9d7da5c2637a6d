"""Exact Shapley values of trees: how much each slot moves the prediction of a row away from the mean prediction of the training rows.

A slot that is not known to a row follows both branches, weighted by their training rows (path-dependent TreeSHAP).

Source: Lundberg et al., From local explanations to global understanding with explainable AI for trees, Nature Machine Intelligence 2020.
The weight of a subset, 1 / (k · C(k-1, s)), is the integral of t^s (1-t)^(k-1-s). So a leaf needs the integral of a product over the slots
of its path instead of a sum over their subsets, and Gauss–Legendre quadrature of these polynomials is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

_MAX_CELLS = 4_000_000
_SMALLEST_SHARE = 1e-12


@dataclass(frozen=True)
class Tree:
    """A decision tree; node 0 is the root.

    ``slots``, ``left`` and ``right`` are -1 at leaves; ``cover`` is the weight of the training rows of each node, ``values``
    (nodes, outputs) its prediction, and ``goes_left`` returns for vectors (n, slots) whether each goes left at each node (n, nodes).
    """

    slots: np.ndarray
    left: np.ndarray
    right: np.ndarray
    cover: np.ndarray
    values: np.ndarray
    goes_left: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class _Paths:
    """The paths to the leaves of a tree, padded to the same length.

    ``nodes`` and ``is_left`` (leaves, depth) are the splits passed and the side taken; ``places`` says which of the path's distinct slots
    each split is of. ``slots`` and ``shares`` (leaves, distinct slots) are those slots, -1 where padded, and the share of training rows
    that pass all splits of the slot.
    """

    leaves: np.ndarray
    nodes: np.ndarray
    is_left: np.ndarray
    places: np.ndarray
    slots: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, tree: Tree) -> _Paths:
        """Follow all paths of a tree."""
        leaves: list[int] = []
        paths: list[list[tuple[int, bool]]] = []
        stack: list[tuple[int, list[tuple[int, bool]]]] = [(0, [])]
        while stack:
            node, path = stack.pop()
            if tree.left[node] < 0:
                leaves.append(node)
                paths.append(path)
                continue
            stack += [(int(tree.left[node]), [*path, (node, True)]), (int(tree.right[node]), [*path, (node, False)])]
        depth = max(1, *map(len, paths))
        nodes, is_left, places = (np.zeros((len(leaves), depth), kind) for kind in (np.int64, bool, np.int64))
        slots, shares = np.full((len(leaves), depth), -1), np.ones((len(leaves), depth))
        places[:] = depth  # a column that is dropped
        for row, path in enumerate(paths):
            distinct: dict[int, int] = {}
            for step, (node, side) in enumerate(path):
                place = distinct.setdefault(int(tree.slots[node]), len(distinct))
                child = tree.left[node] if side else tree.right[node]
                nodes[row, step], is_left[row, step], places[row, step], slots[row, place] = node, side, place, tree.slots[node]
                shares[row, place] *= max(tree.cover[child] / max(tree.cover[node], _SMALLEST_SHARE), _SMALLEST_SHARE)
        width = max(1, int((slots >= 0).sum(axis=1).max()))
        return cls(np.array(leaves), nodes, is_left, places, slots[:, :width], shares[:, :width])

    def follow(self, goes_left: np.ndarray) -> np.ndarray:
        """Return whether a row passes all splits of each distinct slot of each path: (rows, leaves, distinct slots)."""
        passes = np.ones((len(goes_left), len(self.leaves), self.nodes.shape[1] + 1), dtype=bool)
        rows = np.arange(len(self.leaves))
        for step in range(self.nodes.shape[1]):
            is_real = self.places[:, step] < self.nodes.shape[1]
            agrees = (goes_left[:, self.nodes[:, step]] == self.is_left[:, step]) | ~is_real
            passes[:, rows, self.places[:, step]] &= agrees
        return passes[:, :, : self.slots.shape[1]]


@dataclass(frozen=True)
class TreeEnsemble:
    """A weighted sum of trees: ``bias + Σ weight · tree``; ``bias`` has one number per output."""

    trees: Sequence[Tree]
    weights: Sequence[float]
    bias: np.ndarray
    n_slots: int

    @cached_property
    def _paths(self) -> list[_Paths]:
        return [_Paths.of(tree) for tree in self.trees]

    def contributions(self, vectors: np.ndarray) -> np.ndarray:
        """Return the contributions of the slots, and last the mean prediction: (rows, outputs, slots + 1). Their sum is the prediction."""
        total = np.zeros((len(vectors), len(self.bias), self.n_slots + 1))
        total[:, :, -1] = self.bias
        for tree, paths, weight in zip(self.trees, self._paths, self.weights, strict=True):
            values = tree.values[paths.leaves] * weight
            total[:, :, -1] += (tree.cover[paths.leaves] / tree.cover[0]) @ values
            step = max(1, _MAX_CELLS // paths.slots.size)
            for first in range(0, len(vectors), step):
                part = slice(first, first + step)
                shares = _weigh_slots(paths, paths.follow(tree.goes_left(vectors[part])))
                total[part, :, :-1] += _sum_by_slot(shares, values, paths.slots, self.n_slots)
        return total


def _weigh_slots(paths: _Paths, passes: np.ndarray) -> np.ndarray:
    """Return the Shapley value of each distinct slot of each path for a leaf of value 1: (rows, leaves, distinct slots)."""
    points, weights = np.polynomial.legendre.leggauss((paths.slots.shape[1] + 1) // 2 or 1)
    weighed = np.zeros(passes.shape)
    for t, weight in zip((points + 1) / 2, weights / 2, strict=True):
        terms = np.where(paths.slots >= 0, passes * t + paths.shares * (1 - t), 1.0)
        weighed += weight * terms.prod(axis=2, keepdims=True) / terms
    return (passes - paths.shares) * weighed


def _sum_by_slot(shares: np.ndarray, values: np.ndarray, slots: np.ndarray, n_slots: int) -> np.ndarray:
    """Return the sums over leaves by slot: (rows, outputs, slots)."""
    is_real = (slots >= 0).ravel()
    leaves = np.repeat(np.arange(len(slots)), slots.shape[1])[is_real]
    flat = shares.reshape(len(shares), -1)[:, is_real]
    each = []
    for output in range(values.shape[1]):
        matrix = sp.csr_matrix((values[leaves, output], (np.arange(len(leaves)), slots.ravel()[is_real])), (len(leaves), n_slots))
        each.append(np.asarray((matrix.T @ flat.T).T))
    return np.stack(each, axis=1)
