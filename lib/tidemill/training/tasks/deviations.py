"""Standard deviations of columns as MLlib's summaries have them, also of rows that do not all count alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp


def deviations(features: Any, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the deviation of each column: with n - 1 below the squares, or where rows have weights w, Σw - Σw² / Σw."""
    counts = np.ones(features.shape[0]) if weights is None else np.asarray(weights)
    total = counts.sum()
    left = total - (counts**2).sum() / total if total else 0.0
    if left <= 0:
        return np.zeros(features.shape[1])
    if sp.issparse(features):
        means, squares = (np.asarray(part.T @ counts).ravel() for part in (features, features.power(2)))
        return np.sqrt(np.maximum(squares - means**2 / total, 0.0) / left)
    means = counts @ features / total
    return np.sqrt(counts @ (features - means) ** 2 / left)
