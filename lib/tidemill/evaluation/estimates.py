"""Estimates of metrics: a value with its bootstrap draws, and arithmetic on both, so that differences of models are paired."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np

COVERAGE = 0.95
"""The share of intervals that hold the true value."""
_MOST_UNDEFINED = 0.05

Interval: TypeAlias = tuple[float, float]


class CurvePoint(NamedTuple):
    """A point of a curve; see ``ops.curves``."""

    curve: str
    x: float
    y: float
    threshold: float | None = None
    rows: int | None = None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, eq=False)
class Estimate:
    """The value of a metric, NaN where it is undefined, and its bootstrap draws.

    Draw number k of every metric, model and slice of one evaluation resamples the same rows, so arithmetic on two estimates gives the
    draws of the result: those of a paired difference, for instance. ``draws`` is None where no interval can be given.
    """

    value: float
    draws: np.ndarray | None = None

    @property
    def interval(self) -> Interval | None:
        """The percentile interval of 95 %; None without draws, or where more than 5 % of them are undefined."""
        if self.draws is None or not math.isfinite(self.value):
            return None
        finite = self.draws[np.isfinite(self.draws)]
        if len(finite) < (1 - _MOST_UNDEFINED) * len(self.draws) or not len(finite):
            return None
        # The definition (n + 1) p: that of numpy's default covers too little with few draws.
        lower, upper = np.quantile(finite, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], method="weibull")
        return float(lower), float(upper)

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """The ends of the interval as tables have them: null without one."""
        return self.interval or (None, None)

    @property
    def number(self) -> float | None:
        """The value as tables have it: null where it is undefined."""
        return self.value if math.isfinite(self.value) else None

    @property
    def lower(self) -> float:
        """The lower end of the interval, NaN without one."""
        return self.interval[0] if self.interval else math.nan

    @property
    def upper(self) -> float:
        """The upper end of the interval, NaN without one."""
        return self.interval[1] if self.interval else math.nan

    def combine(self, other: Estimate, operation: Callable[[float, float], float]) -> Estimate:
        """Return the estimate of an arithmetic operation on two estimates; a number has no draws but is the same in all."""
        if self.draws is None and other.draws is None:
            return Estimate(_divide_safely(operation, self.value, other.value))
        sides = [self.value if self.draws is None else self.draws, other.value if other.draws is None else other.draws]
        with np.errstate(divide="ignore", invalid="ignore"):
            draws = np.asarray(operation(*sides), dtype=np.float64)  # type: ignore[arg-type]  # operators work on arrays too
        return Estimate(_divide_safely(operation, self.value, other.value), draws)

    def move_to(self, value: float) -> Estimate:
        """Return the estimate with another value; the draws move as far."""
        return Estimate(value, None if self.draws is None else self.draws + (value - self.value))

    def __neg__(self) -> Estimate:
        """Return the estimate of the negative."""
        return Estimate(-self.value, None if self.draws is None else -self.draws)

    def __sub__(self, other: Estimate) -> Estimate:
        """Return the estimate of the (paired) difference."""
        return self.combine(other, operator.sub)


def _divide_safely(operation: Callable[[float, float], float], a: float, b: float) -> float:
    try:
        return float(operation(a, b))
    except ZeroDivisionError:
        return math.nan


Estimates: TypeAlias = Mapping[str, Estimate]
"""Estimates of metrics by name."""


@dataclass(frozen=True)
class SliceMeasurement:
    """The metrics of the rows of one slice.

    ``columns`` are those that it is a slice of, one or a pair; none for a comparison of slices. ``bounds`` say how far a metric may be off;
    what is not named is exact.
    """

    rows: int
    estimates: Estimates
    columns: tuple[str, ...] = ()
    bounds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """The metrics of a model on one set of rows: of all rows, and of each slice by its name, such as ``carrier=UA``.

    ``points`` are those of curves, and ``confusion`` the weight of the rows of each label and prediction. ``notes`` are for people.
    """

    rows: int
    estimates: Estimates
    slices: Mapping[str, SliceMeasurement] = field(default_factory=dict)
    points: Sequence[CurvePoint] = ()
    confusion: Mapping[tuple[object, object], float] = field(default_factory=dict)
    bounds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, float]:
        """The values of the metrics of all rows."""
        return {name: estimate.value for name, estimate in self.estimates.items()}

    @classmethod
    def of_values(cls, values: Mapping[str, float], rows: int = 0) -> Measurement:
        """Return metrics that have no intervals."""
        return cls(rows, {name: Estimate(value) for name, value in values.items()})
