"""Dual coordinate descent for linear support vector machines, all classes at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from tidemill.features.text.arrow import sparse_parts, width

_SEED = 7
# What is left to gain of a row's margin; below it the greatest margin no longer changes hands.
_TOLERANCE = 1e-2


def solve(batches: Iterable[pa.RecordBatch], against: Sequence[int], *, cost: float, passes: int, most_values: int) -> np.ndarray | None:
    """Return the weights of each class against the rest, one column a class and the intercepts in the last row.

    Minimises ``|w|² / 2 + cost sum(max(0, 1 - y w·x))``, the intercept being the weight of a slot that is 1 in each row. A row changes the
    weights of all classes in one go, which is what makes Python fast enough for it.

    Args:
        batches: ``features`` (vectors of MLlib) and ``label`` (index of the class).
        against: the indices of the classes.
        cost: what a margin that is short by 1 costs.
        passes: over the rows, at most.
        most_values: None is returned where the rows hold more.

    Source: Hsieh, Chang, Lin, Keerthi, Sundararajan: A dual coordinate descent method for large-scale linear SVM, ICML 2008, algorithm 1
    with the hinge loss.
    """
    rows, labels, size = _rows(batches, most_values)
    if rows is None:
        return None
    signs = np.where(np.asarray(labels)[:, None] == np.asarray(against), 1.0, -1.0)
    norms = np.array([float(values @ values) for _, values in rows])
    weights = np.zeros((size + 1, len(against)))
    duals = np.zeros_like(signs)
    order = np.random.default_rng(_SEED)
    for _ in range(passes):
        worst = 0.0
        for row in order.permutation(len(rows)):
            slots, values = rows[row]
            sign, dual = signs[row], duals[row]
            better = np.clip(dual - (sign * (values @ weights[slots]) - 1.0) / norms[row], 0.0, cost)
            step = better - dual
            moved = np.flatnonzero(step)
            if len(moved):
                duals[row] = better
                worst = max(worst, float(np.abs(step).max()) * norms[row])
                if 4 * len(moved) < len(step):
                    weights[slots[:, None], moved] += values[:, None] * (step * sign)[moved]
                else:
                    weights[slots] += values[:, None] * (step * sign)
        if worst < _TOLERANCE:
            break
    return weights


def _rows(batches: Iterable[pa.RecordBatch], most_values: int) -> tuple[list[tuple[np.ndarray, np.ndarray]] | None, list[float], int]:
    """Return slots and values of each row, the intercept's slot last; the labels; and the number of slots without it."""
    rows: list[tuple[np.ndarray, np.ndarray]] = []
    labels: list[float] = []
    size = held = 0
    for batch in batches:
        vectors = batch.column("features")
        offsets, slots, values = sparse_parts(vectors)
        held += len(values)
        if held > most_values:
            return None, [], 0
        if len(batch):
            size = width(vectors)
        one = np.ones(1)
        for start, end in pairwise(offsets):
            rows.append((np.append(slots[start:end], size), np.append(values[start:end], one)))
        labels += batch.column("label").to_pylist()
    return rows, labels, size
