"""Standard deviations of columns as MLlib's summaries have them, also of rows that do not all count alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp


def deviations(features: Any, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the deviation of each column: with n - 1 below the squares, or where rows have weights w, Σw - Σw² / Σw.

    It is 0 where it is no more than what rounding makes of a column that has one value.
    """
    rows, size = features.shape
    counts = np.ones(rows) if weights is None else np.asarray(weights, dtype=np.float64)
    total = counts.sum()
    left = total - (counts**2).sum() / total if total else 0.0
    if left <= 0:
        return np.zeros(size)
    means = np.asarray(features.T @ counts).ravel() / total
    if sp.issparse(features):
        there = features.tocsr()
        of_row = np.repeat(counts, np.diff(there.indptr))
        squares = np.bincount(there.indices, of_row * (there.data - means[there.indices]) ** 2, minlength=size)
        zeros = total - np.bincount(there.indices, of_row, minlength=size)
        squares += np.where(np.bincount(there.indices, minlength=size) < rows, zeros, 0.0) * means**2
    else:
        squares = counts @ (features - means) ** 2
    # Source: Chan, Golub, LeVeque: Algorithms for computing the sample variance, The American Statistician 37 (1983), table 1.
    rounding = rows * np.finfo(np.float64).eps
    is_constant = squares / total <= rounding * squares / total + (rounding * means) ** 2
    return np.where(is_constant, 0.0, np.sqrt(np.maximum(squares, 0.0) / left))
