"""Rare classes made heavier, or common ones thinner, and the probabilities brought back to what the classes really are."""

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
    """What a row of each class counts for in a fit: by its ``factors`` as a weight, or as the share of the rows that is kept."""

    kind: Literal["weights", "undersample"]
    factors: tuple[float, ...]

    def kept(self, label: str, order: str) -> Column:
        """Return whether a row is learned from; by a hash of its own, so that it is the same in every fold and layout."""
        chance = (F.xxhash64(F.lit(_SALT), F.col(order)) / F.lit(2.0**64)) + 0.5
        return chance < F.get(F.array(*map(F.lit, self.factors)), F.col(label).cast("int"))

    def weight(self, label: str) -> Column:
        """Return the weight of a row."""
        return F.get(F.array(*map(F.lit, self.factors)), F.col(label).cast("int"))


def balance_of(kind: str, counts: Mapping[int, float], n_classes: int) -> Balance | None:
    """Return what makes the classes count alike; ``counts`` are the training rows of each, or what they count for.

    Weights are ``n / (classes × rows of the class)``, whose sum over the rows is n; of the rows of a class as many are kept as the
    rarest has.
    """
    present = [counts.get(place, 0) for place in range(n_classes)]
    if kind == "none" or not n_classes or not all(present):
        return None
    if kind == "weights":
        return Balance("weights", tuple(sum(present) / (n_classes * count) for count in present))
    return Balance("undersample", tuple(min(present) / count for count in present))


def corrected(probabilities: np.ndarray, factors: Sequence[float]) -> np.ndarray:
    """Return the probabilities of a model that learned from balanced rows as they are where the classes are as they were.

    Source: Saerens, Latinne, Decaestecker: Adjusting the outputs of a classifier to new a priori probabilities, Neural Computation 14
    (2002), equation 2.4.
    """
    raised = probabilities / np.asarray(factors)
    return raised / np.maximum(raised.sum(axis=1, keepdims=True), _FLOOR)
