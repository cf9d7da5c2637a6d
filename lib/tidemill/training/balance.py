"""Class balancing by weights or undersampling, and the correction of probabilities for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column


_SALT = "undersample"
_FLOOR = 1e-12


@dataclass(frozen=True)
class Balance:
    """One factor per class: the weight of its rows in a fit, or the share of its rows that is kept."""

    kind: Literal["weights", "undersample"]
    factors: tuple[float, ...]

    def is_kept(self, label: str, order: str) -> Column:
        """Return whether a row is used for training: a hash decides, so that it is the same in every fold and layout."""
        chance = (F.xxhash64(F.lit(_SALT), F.col(order)) / F.lit(2.0**64)) + 0.5
        return chance < F.get(F.array(*map(F.lit, self.factors)), F.col(label).cast("int"))

    def weight(self, label: str) -> Column:
        """Return the weight of a row."""
        return F.get(F.array(*map(F.lit, self.factors)), F.col(label).cast("int"))


def compute_balance(kind: str, counts: Mapping[int, float], n_classes: int) -> Balance | None:
    """Return the factors that give all classes the same total weight; ``counts`` is the number, or the weight, of training rows by class.

    Weights are ``n / (classes × rows of the class)``; their sum over the rows is n. Undersampling keeps as many rows of each class as
    the rarest one has. None where nothing is to be balanced, or a class has no rows.
    """
    present = [counts.get(place, 0) for place in range(n_classes)]
    if kind == "none" or not n_classes or not all(present):
        return None
    if kind == "weights":
        return Balance("weights", tuple(sum(present) / (n_classes * count) for count in present))
    return Balance("undersample", tuple(min(present) / count for count in present))


def correct_probabilities(probabilities: np.ndarray, factors: Sequence[float]) -> np.ndarray:
    """Correct the probabilities of a model that was fitted on balanced rows to the original class shares.

    Source: Saerens, Latinne, Decaestecker: Adjusting the outputs of a classifier to new a priori probabilities, Neural Computation 14
    (2002), equation 2.4.
    """
    raised = probabilities / np.asarray(factors)
    return raised / np.maximum(raised.sum(axis=1, keepdims=True), _FLOOR)
