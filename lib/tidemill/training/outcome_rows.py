"""What fits came to, as rows of ``ops.trials``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.errors import StepError
from tidemill.training.engines import Engines
from tidemill.training.folds import NO_VARIANT, Place
from tidemill.training.problem import Problem
from tidemill.training.selection import FAILED, SUCCEEDED, TrialFold
from tidemill.training.tasks.fits import Outcome
from tidemill.training.tuner import Trial


@dataclass(frozen=True)
class OutcomeRows:
    """Makes rows of trials of one problem, fitted by ``engines``."""

    problem: Problem
    engines: Engines

    def judged(self, outcomes: Sequence[Outcome], trials: Sequence[Trial], fold: int, share: float) -> list[TrialFold]:
        """Return the rows of outcomes; a metric that is no number is a failure."""
        by_number = {trial.number: trial for trial in trials}
        rows = []
        for outcome in outcomes:
            value, error = outcome.metrics.get(self.problem.metric, math.nan), outcome.error
            if error is None and not math.isfinite(value):
                error = f"{self.problem.metric} is {value} on the validation rows of fold {fold}"
            rows.append(self._row(by_number[outcome.trial], fold, share, outcome, None if error else value, error))
        return rows

    def absent(self, trial: Trial, fold: int, seconds: float, error: str) -> TrialFold:
        """Return the row of a trial that does not count on a fold."""
        return self._row(trial, fold, 1.0, Outcome(trial.number, {}, seconds, 0.0, error), None, error)

    def _row(self, trial: Trial, fold: int, share: float, outcome: Outcome, value: float | None, error: str | None) -> TrialFold:
        return TrialFold(
            trial=trial.number,
            fold=fold,
            family=trial.family,
            params=trial.params_json,
            metric=self.problem.metric,
            value=value,
            seconds=outcome.seconds,
            state=FAILED if error else SUCCEEDED,
            engine=self.engines.engine(trial.family),
            error=error,
            library=outcome.library or self.engines.library(trial.family, self.problem),
            score_seconds=outcome.score_seconds,
            share=share,
            rounds=outcome.rounds,
        )


def of_bad_features(error: StepError, place: Place, trials: Sequence[Trial]) -> list[Outcome]:
    """Return the failures of trials whose own values make features that cannot be fitted.

    Raises:
        StepError: they are those of the spec as it stands, without which there is no search.
    """
    if place.variant == NO_VARIANT:
        raise error
    return [Outcome(trial.number, {}, 0.0, 0.0, str(error)) for trial in trials]
