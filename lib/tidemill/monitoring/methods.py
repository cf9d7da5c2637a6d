"""Drift methods: the distance of two histograms over the same bins. A method is one object in a registry; nothing here imports Spark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tidemill.extensions import Registry

Distance = Callable[[Sequence[int], Sequence[int]], float | None]
"""Takes the rows of the reference and of the compared rows in each bin; both lists have the same length, and neither is all zeros."""

EPSILON = 1e-4


@dataclass(frozen=True)
class DriftMethod:
    """A distance between two histograms, and the levels that a spec gets which declares none."""

    name: str
    distance: Distance
    warn: float = 0.1
    alert: float = 0.25


def population_stability_index(reference: Sequence[int], compared: Sequence[int]) -> float | None:
    """Return the population stability index of two lists of counts over the same bins; None where one of them is empty.

    The sum over the bins of (q - p) * ln(q / p), p and q the shares of reference and compared rows. A share below 1e-4 counts as 1e-4,
    so that an empty bin has a weight but does not make the index infinite.

    Source: N. Siddiqi, Credit Risk Scorecards, Wiley 2006, p. 136 (formula, and the levels 0.1 and 0.25); the bound of 1e-4 is the usual
    convention for empty bins.
    """
    rows_reference, rows_compared = sum(reference), sum(compared)
    if not rows_reference or not rows_compared:
        return None
    shares = [(max(a / rows_reference, EPSILON), max(b / rows_compared, EPSILON)) for a, b in zip(reference, compared, strict=True)]
    return math.fsum((q - p) * math.log(q / p) for p, q in shares)


PSI = DriftMethod("psi", population_stability_index)


def _accept(name: str, value: object) -> DriftMethod:
    """Take a DriftMethod as it is, and a function of two lists of counts as the distance of one with the usual levels."""
    if isinstance(value, DriftMethod):
        return value
    if not callable(value):
        raise TypeError(f"expected a DriftMethod, or a function of two lists of counts, found {value!r}")
    return DriftMethod(name, value)


DRIFT_METHODS: Registry[DriftMethod] = Registry("drift method", "tidemill.drift", {"psi": "tidemill.monitoring.methods:PSI"}, _accept)
