"""A figure of strangeness as a share: how many of the training rows are less strange."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# So many training rows, the first by the hash of their key, are a sample that tells shares to within 0.1 %.
MOST_ROWS = 100_000
_MOST_KNOTS = 4_000
_EXACT_AT_THE_TOP = 1_000


@dataclass(frozen=True)
class Quantiles:
    """Knots of the distribution of the training rows: figures, rising, and the share of rows that lies below each."""

    figures: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, figures: np.ndarray) -> Quantiles:
        """Return those of the training rows: every different figure where they are few, all of the greatest ones anyway.

        Raises:
            ValueError: a figure is no number.
        """
        if not np.isfinite(figures).all():
            raise ValueError("the strangeness of some training rows is no number; check the features for NaN or infinite values")
        different, counts = np.unique(figures, return_counts=True)
        shares = (np.cumsum(counts) - counts) / len(figures)
        last = len(different) - 1
        if last >= _MOST_KNOTS:
            even = np.linspace(0, last, _MOST_KNOTS - _EXACT_AT_THE_TOP).round().astype(int)
            kept = np.unique(np.concatenate([even, np.arange(last - _EXACT_AT_THE_TOP, last + 1)]))
            different, shares = different[kept], shares[kept]
        return cls(different, shares)

    def share(self, figures: np.ndarray) -> np.ndarray:
        """Return the share of training rows that are less strange, straight lines between knots.

        Behind the strangest training row the share rises on towards 1 and never reaches it, so that stranger rows stay apart.
        """
        inside = np.interp(figures, self.figures, self.shares)
        greatest, top = self.figures[-1], self.shares[-1]
        width = (greatest - self.figures[0]) or 1.0
        behind = np.maximum(figures - greatest, 0.0) / width
        return np.asarray(np.where(figures > greatest, top + (1 - top) * behind / (1 + behind), inside))
