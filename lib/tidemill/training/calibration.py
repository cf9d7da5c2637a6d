"""Calibrations of class probabilities, fitted on out-of-fold predictions and applied to columns and arrays."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from pyspark.sql import functions as F

from tidemill.features.names import numbers_sql
from tidemill.training.out_of_fold import ScoreHistogram, build_histogram, logit, logits

if TYPE_CHECKING:
    from pyspark.sql import Column


MAX_POINTS = 10_000
"""The most points of an isotonic calibration that are saved with the model."""
# The logits of the doubles next to 0 and to 1; they stand for the infinite logits of 0 and 1.
_LEAST_LOGIT = math.log(5e-324)
_GREATEST_LOGIT = math.log(2.0**53 - 1)


class Calibration(Protocol):
    """A function from a probability to a calibrated probability."""

    kind: ClassVar[str]

    def apply(self, p: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities."""

    def column(self, p: Column) -> Column:
        """Return the calibrated probability of a column; NaN and null stay."""


@dataclass(frozen=True)
class SigmoidCalibration:
    """A logistic regression on the logit."""

    slope: float
    intercept: float
    kind: ClassVar[str] = "sigmoid"

    @classmethod
    def fit(cls, histogram: ScoreHistogram) -> SigmoidCalibration:
        """Fit a logistic regression on the logit, without a penalty.

        One positive and one negative row are added to the counts, as in Platt: Probabilistic outputs for support vector
        machines, 1999.
        """
        from scipy.optimize import minimize

        rows, positives, points = histogram.rows, histogram.positives, _finite_logits(histogram.scores)
        # Logits are standardised, since the spread of scores differs: about 1e-4 after a strong penalty, hundreds from naive Bayes.
        centre = float(np.average(points, weights=rows))
        spread = math.sqrt(float(np.average((points - centre) ** 2, weights=rows))) or 1.0
        standardised = (points - centre) / spread
        ones, zeros = positives.sum(), rows.sum() - positives.sum()
        high, low = (ones + 1) / (ones + 2), 1 / (zeros + 2)
        targets = positives * high + (rows - positives) * low

        def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
            margins = line[0] * standardised + line[1]
            value = float((rows * np.logaddexp(0.0, margins) - targets * margins).sum())
            slope = rows * _expit(margins) - targets
            return value / rows.sum(), np.array([(slope * standardised).sum(), slope.sum()]) / rows.sum()

        share = targets.sum() / rows.sum()
        start = np.array([1.0, math.log(share / (1 - share))])
        line_params = minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000}).x
        return cls(float(line_params[0] / spread), float(line_params[1] - line_params[0] * centre / spread))

    def apply(self, p: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities."""
        return _expit(self.slope * _finite_logits(p) + self.intercept)

    def column(self, p: Column) -> Column:
        """Return the calibrated probability of a column; NaN and null stay."""
        bounded_logit = F.least(F.greatest(logit(p), F.lit(_LEAST_LOGIT)), F.lit(_GREATEST_LOGIT))
        return F.when(F.isnan(p) | p.isNull(), p).otherwise(1 / (1 + F.exp(-(self.slope * bounded_logit + self.intercept))))


@dataclass(frozen=True)
class IsotonicCalibration:
    """An isotonic regression: ``values`` at the rising ``scores``, linear between them and constant beyond them."""

    scores: tuple[float, ...]
    values: tuple[float, ...]
    kind: ClassVar[str] = "isotonic"

    @classmethod
    def fit(cls, histogram: ScoreHistogram, max_points: int = MAX_POINTS) -> IsotonicCalibration:
        """Fit an isotonic regression of the positive share on the score.

        Values stay half a row away from 0 and 1, since the log loss is infinite where a probability of 0 is wrong. Neighbouring scores
        of equal value form a block, whose first and last scores are kept. Where there are more than ``max_points`` points, neighbouring
        blocks are merged to the mean of their rows: the log odds of a row change by at most 2 / (``max_points`` - 2) of their range.
        That is 0.012 at 10,000 points and a trillion rows.
        """
        from sklearn.isotonic import isotonic_regression

        rows = histogram.rows
        values = isotonic_regression(histogram.positives / rows, sample_weight=rows)
        least = min(0.5 / rows.sum(), 0.5)
        values = np.clip(values, least, 1 - least)
        first = np.flatnonzero(np.r_[True, np.diff(values) > 0])
        if 2 * len(first) > max_points:
            log_odds = logits(values)
            width = (log_odds[-1] - log_odds[0]) / max(max_points // 2 - 1, 1)
            first = np.flatnonzero(np.r_[True, np.diff(np.floor((log_odds - log_odds[0]) / width)) > 0])
        last = np.r_[first[1:], len(rows)] - 1
        means = np.add.reduceat(values * rows, first) / np.add.reduceat(rows, first)
        exact = values[first] == values[last]
        means = np.where(exact, values[first], means)  # without the rounding of the mean
        places = np.column_stack([first, last]).ravel()
        is_new = np.r_[True, np.diff(places) > 0]
        points, point_values = histogram.scores[places][is_new], np.repeat(means, 2)[is_new]
        return cls(tuple(map(float, points)), tuple(map(float, point_values)))

    def apply(self, p: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities."""
        scores, values = np.array(self.scores), np.array(self.values)
        place = np.clip(np.searchsorted(scores, p, side="right") - 1, 0, len(scores) - 1)
        after = np.minimum(place + 1, len(scores) - 1)
        gap = scores[after] - scores[place]
        way = np.divide(np.maximum(p - scores[place], 0.0), gap, out=np.zeros(np.shape(p)), where=gap > 0)
        return np.asarray(values[place] + (values[after] - values[place]) * way)

    def column(self, p: Column) -> Column:
        """Return the calibrated probability of a column by a binary search, with the operations of `apply`; NaN and null stay."""
        # One SQL string: parsing thousands of literals would take longer than the rows.
        scores, values = F.expr(numbers_sql(self.scores)), F.expr(numbers_sql(self.values))
        last = len(self.scores) - 1
        steps = F.array(*[F.lit(2**power) for power in reversed(range(max(last.bit_length(), 1)))])
        place = F.aggregate(steps, F.lit(0), lambda at, step: F.when(F.get(scores, at + step) <= p, at + step).otherwise(at))

        def interpolate(at: Column) -> Column:
            after = F.least(at + 1, F.lit(last))
            gap = F.get(scores, after) - F.get(scores, at)
            way = F.when(gap > 0, F.greatest(p - F.get(scores, at), F.lit(0.0)) / gap).otherwise(0.0)
            return F.get(values, at) + (F.get(values, after) - F.get(values, at)) * way

        # The position is bound to a name, so that the search runs once.
        return F.when(F.isnan(p) | p.isNull(), p).otherwise(F.transform(F.array(place), interpolate)[0])


_KINDS: dict[str, type[SigmoidCalibration | IsotonicCalibration]] = {kind.kind: kind for kind in (SigmoidCalibration, IsotonicCalibration)}


def fit_calibrations(kind: str, histograms: Sequence[ScoreHistogram]) -> list[Calibration]:
    """Fit one calibration per histogram: for two classes there is one, for more one for each class against the rest."""
    return [_KINDS[kind].fit(histogram) for histogram in histograms]


def calibrate_scores(histogram: ScoreHistogram, calibration: Calibration) -> ScoreHistogram:
    """Return the histogram of the calibrated scores."""
    return build_histogram(calibration.apply(histogram.scores), histogram.rows, histogram.positives)


def dump_calibrations(calibrations: Sequence[Calibration]) -> str:
    """Return the calibrations as JSON, which keeps every digit."""
    return json.dumps([{"kind": each.kind, **asdict(each)} for each in calibrations])  # type: ignore[call-overload]


def load_calibrations(text: str) -> list[Calibration]:
    """Read the calibrations that `dump_calibrations` wrote."""
    return [_KINDS[each.pop("kind")](**each) for each in json.loads(text)]


def _finite_logits(p: np.ndarray) -> np.ndarray:
    return np.clip(logits(p), _LEAST_LOGIT, _GREATEST_LOGIT)


def _expit(margins: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return np.asarray(expit(margins))
