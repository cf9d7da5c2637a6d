"""What metrics from Spark and from arrays share: the grid of scores, and the areas under curves of counts."""

from __future__ import annotations

import math

import numpy as np

BINS_PER_LOGIT = 2000
MAX_BIN = 50_000  # p within 1.4e-11 of 0 or 1 falls into the outermost bin; at most 100,001 bins reach the driver
EPSILON = 1e-15  # MLlib's and scikit-learn's bound of the log loss


def ratio(a: float, b: float) -> float:
    """Return ``a / b``, NaN where ``b`` is 0."""
    return float(a) / float(b) if b else math.nan


def areas(positives: np.ndarray, negatives: np.ndarray) -> tuple[float, float]:
    """Return the areas under the ROC and the precision-recall curve from counts by falling score."""
    tp, fp = np.cumsum(positives), np.cumsum(negatives)
    if tp[-1] == 0:
        return math.nan, math.nan
    precision, recall = tp / (tp + fp), tp / tp[-1]
    pr = float(np.trapezoid(np.r_[precision[0], precision], np.r_[0.0, recall]))
    if fp[-1] == 0:
        return math.nan, pr
    return float(np.trapezoid(np.r_[0.0, recall], np.r_[0.0, fp / fp[-1]])), pr
