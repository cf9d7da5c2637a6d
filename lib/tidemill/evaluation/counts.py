"""The counts that metrics are computed from, and the formulas: a bounded number per set of predictions.

A field of the counts is a number, or an array with one number per bootstrap draw in front; the formulas work on both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np

from tidemill.errors import StepError
from tidemill.tasks import METRICS, Metric, TaskKind

Number: TypeAlias = Any  # a float, or an array with one number per draw


def divide(a: Number, b: Number, otherwise: float = math.nan) -> Number:
    """Return ``a / b``, and ``otherwise`` where ``b`` is 0; for numbers and arrays."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    result = np.full(np.broadcast_shapes(a.shape, b.shape), otherwise)
    np.divide(a, b, out=result, where=b != 0)
    return result if result.ndim else float(result)


@dataclass(frozen=True)
class BinaryCounts:
    """Sums over rows of two classes, and the areas under their curves.

    ``n``, ``positive``, ``called`` and ``hit`` are the weights of all rows, the positive ones, those called positive and those rightly
    called positive; ``loss`` is the sum of the log losses, ``squares`` that of the squared differences between score and class. ``bins``
    has a row for each bin of scores: the weights of its rows, of its positive rows, and of its rows times their scores.

    ``sums`` of each class of counts are those of the terms of a custom metric.
    """

    n: Number
    positive: Number
    called: Number
    hit: Number
    loss: Number
    squares: Number
    bins: np.ndarray
    area_under_roc: Number
    area_under_pr: Number
    average_precision: Number
    sums: Mapping[str, Number] = field(default_factory=dict)

    @property
    def accuracy(self) -> Number:
        """The share of rows that are called what they are."""
        return divide(self.n - self.positive - self.called + 2 * self.hit, self.n)

    @property
    def selection_rate(self) -> Number:
        """The share of rows that are called positive."""
        return divide(self.called, self.n)

    @property
    def precision(self) -> Number:
        """The share of positive rows among those called positive; 0 if there are none (as in scikit-learn)."""
        return divide(self.hit, self.called, otherwise=0.0)

    @property
    def recall(self) -> Number:
        """The share of the positive rows that are called positive."""
        return divide(self.hit, self.positive)

    @property
    def specificity(self) -> Number:
        """The share of the negative rows that are called negative."""
        return divide(self.n - self.positive - self.called + self.hit, self.n - self.positive)

    @property
    def false_positive_rate(self) -> Number:
        """The share of the negative rows that are called positive."""
        return divide(self.called - self.hit, self.n - self.positive)

    @property
    def balanced_accuracy(self) -> Number:
        """The mean of recall and specificity; where a class is absent, the one of the other class (as in scikit-learn)."""
        sides = np.array([self.recall, self.specificity])
        is_there = ~np.isnan(sides)
        return divide(np.where(is_there, sides, 0.0).sum(axis=0), is_there.sum(axis=0))

    @property
    def f1(self) -> Number:
        """F1 of the positive class."""
        return divide(2 * self.hit, self.positive + self.called)

    @property
    def mcc(self) -> Number:
        """Matthews' correlation coefficient; 0 where all rows are of one class, or are called one (as in scikit-learn)."""
        spread = np.maximum(self.positive * (self.n - self.positive) * self.called * (self.n - self.called), 0.0)
        return divide(self.hit * self.n - self.positive * self.called, np.sqrt(spread), otherwise=0.0)

    @property
    def log_loss(self) -> Number:
        """The mean log loss."""
        return divide(self.loss, self.n)

    @property
    def brier(self) -> Number:
        """The mean squared difference between score and class."""
        return divide(self.squares, self.n)

    @property
    def expected_calibration_error(self) -> Number:
        """The mean difference between the mean score and the share of positive rows of a bin, weighted by the rows of the bins."""
        return divide(np.abs(self.bins[..., 1] - self.bins[..., 2]).sum(axis=-1), self.n)


@dataclass(frozen=True)
class ClassCounts:
    """The weights of the rows of each class, of those called it, and of those rightly called it; the sum of the log losses.

    ``within`` are the weights of the rows whose class is among the k most probable ones, by k.
    """

    actual: np.ndarray
    called: np.ndarray
    hits: np.ndarray
    loss: Number
    within: Mapping[str, Number] = field(default_factory=dict)
    sums: Mapping[str, Number] = field(default_factory=dict)

    @property
    def n(self) -> Number:
        """The weight of all rows."""
        return self.actual.sum(axis=-1)

    @property
    def accuracy(self) -> Number:
        """The share of rows that are called what they are."""
        return divide(self.hits.sum(axis=-1), self.n)

    @property
    def recall_by_class(self) -> np.ndarray:
        """The share of the rows of each class that are called it, NaN for a class without rows."""
        return np.asarray(divide(self.hits, self.actual))

    @property
    def precision_by_class(self) -> np.ndarray:
        """The share of the rows called a class that are of it, 0 for a class that is never called."""
        return np.asarray(divide(self.hits, self.called, otherwise=0.0))

    @property
    def balanced_accuracy(self) -> Number:
        """The mean recall of the classes that there are."""
        is_there = self.actual > 0
        return divide(np.where(is_there, self.recall_by_class, 0.0).sum(axis=-1), is_there.sum(axis=-1))

    @property
    def f1_by_class(self) -> np.ndarray:
        """F1 of each class, 0 where it is neither there nor called."""
        return np.asarray(divide(2 * self.hits, self.actual + self.called, otherwise=0.0))

    @property
    def f1(self) -> Number:
        """The mean of the classes' F1, weighted by their rows: MLlib's default."""
        return divide((self.f1_by_class * self.actual).sum(axis=-1), self.n)

    @property
    def macro_f1(self) -> Number:
        """The mean of the F1 of the classes that are there or called."""
        return divide(self.f1_by_class.sum(axis=-1), (self.actual + self.called > 0).sum(axis=-1))

    @property
    def mcc(self) -> Number:
        """Matthews' correlation coefficient over all classes; 0 where all rows are of one class, or are called one."""
        n = self.n
        spread = (n**2 - (self.actual**2).sum(axis=-1)) * (n**2 - (self.called**2).sum(axis=-1))
        agreement = self.hits.sum(axis=-1) * n - (self.actual * self.called).sum(axis=-1)
        return divide(agreement, np.sqrt(np.maximum(spread, 0.0)), otherwise=0.0)

    @property
    def log_loss(self) -> Number:
        """The mean log loss."""
        return divide(self.loss, self.n)

    def top_accuracy(self, k: int) -> Number | None:
        """The share of rows whose class is among the ``k`` most probable ones; None with ``k`` classes or fewer."""
        within = self.within.get(str(k))
        return None if within is None else divide(within, self.n)


@dataclass(frozen=True)
class ErrorCounts:
    """The weight of all rows, and sums over their residuals; ``variance`` is that of the labels, 0 if they are all equal.

    ``absolute_quantiles`` are quantiles of the absolute error, by level in per cent.
    """

    n: Number
    squares: Number
    absolutes: Number
    variance: Number
    percentages: Number
    quantile_losses: Number | None = None
    absolute_quantiles: Mapping[str, Number] = field(default_factory=dict)
    sums: Mapping[str, Number] = field(default_factory=dict)

    @property
    def rmse(self) -> Number:
        """The root of the mean squared error."""
        return np.sqrt(divide(self.squares, self.n))

    @property
    def mae(self) -> Number:
        """The mean absolute error."""
        return divide(self.absolutes, self.n)

    @property
    def mape(self) -> Number:
        """The mean absolute error as a share of the label's absolute value, which counts as 2.2e-16 at least (as in scikit-learn)."""
        return divide(self.percentages, self.n)

    @property
    def r2(self) -> Number:
        """The explained share of the variance."""
        return 1 - divide(divide(self.squares, self.n), self.variance)

    @property
    def quantile_loss(self) -> Number | None:
        """The mean loss of the declared quantile."""
        return None if self.quantile_losses is None else divide(self.quantile_losses, self.n)

    def absolute_error(self, level: int) -> Number | None:
        """The absolute error that ``level`` per cent of the rows do not exceed; None where it was not counted."""
        return self.absolute_quantiles.get(str(level))


MetricCounts: TypeAlias = BinaryCounts | ClassCounts | ErrorCounts


def select_draw(counts: MetricCounts, draw: int) -> MetricCounts:
    """Return the counts of one draw of counts that have one number per draw."""
    values: dict[str, Any] = {}
    for part in fields(counts):
        value = getattr(counts, part.name)
        if isinstance(value, Mapping):
            values[part.name] = {name: each[draw] for name, each in value.items()}
        else:
            values[part.name] = None if value is None else value[draw]
    return replace(counts, **values)


Sums: TypeAlias = Mapping[str, Mapping[str, Number]]
"""Sums of the terms of custom metrics: metric → term → sum."""


def measure_counts(counts: MetricCounts, kind: TaskKind, own: Sequence[Metric] = (), sums: Sums | None = None) -> dict[str, float]:
    """Return the metrics of the task kind that are formulas of its counts: the built-in ones and ``own``, by name."""
    values = {}
    for metric in list_measured(kind, own):
        value = _evaluate(metric, counts, sums)
        if value is not None or not metric.is_built_in:
            try:
                values[metric.name] = float(value)
            except (TypeError, ValueError) as error:
                raise _failure(metric, error) from error
    return values


def measure_draws(counts: MetricCounts, draws: int, kind: TaskKind, own: Sequence[Metric] = (), sums: Sums | None = None) -> dict[str, Any]:
    """Return the metrics of counts that have one number per draw: metric → array of ``draws`` values.

    The built-in formulas work on all draws at once; that of a custom metric may not, and is called for each.
    """
    values = {}
    for metric in list_measured(kind, own):
        if metric.is_built_in:
            value = _evaluate(metric, counts, sums)
            if value is not None:
                values[metric.name] = np.asarray(value, dtype=np.float64)
            continue
        terms = (sums or {}).get(metric.name)
        of_draws = [None if terms is None else {metric.name: {name: each[draw] for name, each in terms.items()}} for draw in range(draws)]
        values[metric.name] = np.array([float(_evaluate(metric, select_draw(counts, k), own_sums)) for k, own_sums in enumerate(of_draws)])
    return values


def list_measured(kind: TaskKind, own: Sequence[Metric] = ()) -> list[Metric]:
    """Return the metrics of a task kind that are formulas of counts: the built-in ones and ``own``."""
    return [metric for metric in (*METRICS.all_built_in().values(), *own) if kind in metric.tasks and metric.value is not None]


def _evaluate(metric: Metric, counts: MetricCounts, sums: Sums | None) -> Any:
    assert metric.value is not None  # list_measured leaves the others out
    try:
        return metric.value(replace(counts, sums=sums[metric.name]) if sums and metric.name in sums else counts)
    except Exception as error:
        raise _failure(metric, error) from error


def _failure(metric: Metric, error: Exception) -> StepError:
    return StepError(f"the metric {metric.name!r} failed: {type(error).__name__}: {error}")
