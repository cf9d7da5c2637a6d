"""What a row costs a linear model, by its margin and label, with the first two derivatives."""

from __future__ import annotations

from typing import Protocol

import numpy as np
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
