"""The results of a search by trial and fold, and the selection of the best trial."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.errors import StepError
from tidemill.evaluation import is_better
from tidemill.tasks import is_minimised
from tidemill.training.tuning.tuner import Trial

logger = logging.getLogger(__name__)

SUCCEEDED, FAILED, STOPPED = "SUCCEEDED", "FAILED", "STOPPED"


@dataclass(frozen=True)
class TrialFold:
    """One trial on one fold: a row of ``ops.trials``.

    ``value`` is null where the trial failed. ``seconds`` is the time of the fit and the metric, for a fit shared by several trials the
    trial's share of it; ``score_seconds`` the time of predicting the held-out rows. ``share`` is the share of the training rows that were
    used: below 1 where the trial was stopped early. ``library`` fitted it. ``rounds`` is the number of boosting rounds at which early
    stopping on the held-out rows stopped, null without it; ``value`` is then slightly optimistic.
    """

    trial: int
    fold: int
    family: str
    params: str
    metric: str
    value: float | None
    seconds: float
    state: str
    engine: str
    error: str | None
    library: str | None = None
    score_seconds: float | None = None
    share: float = 1.0
    rounds: int | None = None

    def row(self) -> dict[str, Any]:
        """Return the columns by name."""
        return dataclasses.asdict(self)


class NoTrialSucceeded(StepError):
    """Every trial failed; ``rows`` hold the errors, and are recorded too."""

    def __init__(self, message: str, rows: Sequence[TrialFold]) -> None:
        """Store the rows of the trials."""
        self.rows = tuple(rows)
        super().__init__(message)


@dataclass(frozen=True)
class SearchResult:
    """All rows of a search, the mean of each trial that succeeded in every fold, and the selected trial."""

    rows: tuple[TrialFold, ...]
    means: Mapping[int, float]
    best: Trial

    @property
    def best_value(self) -> float:
        """The best trial's mean over the folds."""
        return self.means[self.best.number]

    def libraries(self, trials: Collection[int]) -> str:
        """Return the names and versions of the libraries that fitted the trials."""
        return ", ".join(dict.fromkeys(row.library for row in self.rows if row.trial in trials and row.library))


def select_trial(
    rows: Sequence[TrialFold], trials: Sequence[Trial], metric: str, *, folds: Sequence[int] | None = None, rule: str = "best"
) -> SearchResult:
    """Select a trial among those that succeeded in every one of ``folds``, by default all folds of ``rows``.

    The rule ``best`` selects the best mean over the folds, of equals the earlier trial. ``one_standard_error`` selects the trial that is
    fastest to score with among those whose mean is at most one standard error of the difference behind the best. Differences are
    paired by fold, since all trials use the same folds.

    Raises:
        NoTrialSucceeded: no trial succeeded in every fold; each family's first error is named.
    """
    failed = first_errors(rows)
    values = _values(rows, {row.fold for row in rows} if folds is None else folds)
    means = _means(values)
    best: Trial | None = None
    for trial in trials:
        if trial.number in means and (best is None or is_better(metric, means[trial.number], means[best.number])):
            best = trial
    if best is None:
        first = {trial.family: failed.get(trial.number, "not tried") for trial in reversed(trials)}
        errors = "; ".join(f"{family}: {error}" for family, error in reversed(first.items()))
        raise NoTrialSucceeded(f"train: none of {len(trials)} trials succeeded; {errors or 'there was nothing to try'}", rows)
    if rule == "one_standard_error":
        near = [trial for trial in trials if trial.number in values and _is_near(values[best.number], values[trial.number], metric)]
        cost = {trial.number: sum(row.score_seconds or 0.0 for row in rows if row.trial == trial.number) for trial in near}
        best = min(near, key=lambda trial: cost[trial.number])
    logger.info(
        "trial %d is selected by rule %s: %s %s, mean %s %s", best.number, rule, best.family, best.params_json, metric, means[best.number]
    )
    return SearchResult(tuple(rows), means, best)


def compute_means(rows: Sequence[TrialFold], folds: Collection[int]) -> dict[int, float]:
    """Return the mean over ``folds`` of each trial that succeeded in all of them."""
    return _means(_values(rows, folds))


def _values(rows: Sequence[TrialFold], folds: Collection[int]) -> dict[int, dict[int, float]]:
    """Return the value by fold of each trial that succeeded in all of ``folds`` and failed in none."""
    failed = first_errors(rows)
    values: dict[int, dict[int, float]] = {}
    for row in rows:
        if row.trial not in failed and row.state == SUCCEEDED and row.value is not None:
            values.setdefault(row.trial, {})[row.fold] = row.value
    return {trial: by_fold for trial, by_fold in values.items() if set(by_fold) >= set(folds)}


def _means(values: Mapping[int, Mapping[int, float]]) -> dict[int, float]:
    return {trial: sum(by_fold.values()) / len(by_fold) for trial, by_fold in values.items()}


def _is_near(best: Mapping[int, float], other: Mapping[int, float], metric: str) -> bool:
    """Return True where ``other`` lies within one standard error of the mean difference, over the folds, behind ``best``."""
    differences = [best[fold] - other[fold] if not is_minimised(metric) else other[fold] - best[fold] for fold in best]
    mean = sum(differences) / len(differences)
    if len(differences) < 2:
        return mean <= 0
    variance = sum((difference - mean) ** 2 for difference in differences) / (len(differences) - 1)
    return mean <= math.sqrt(variance / len(differences))


def first_errors(rows: Sequence[TrialFold]) -> dict[int, str]:
    """Return the error of the first fold in which each failed trial failed."""
    errors: dict[int, str] = {}
    for row in rows:
        if row.state == FAILED:
            errors.setdefault(row.trial, row.error or "failed")
    return errors


def complete_rows(
    done: Sequence[TrialFold],
    trials: Sequence[Trial],
    folds: Sequence[int],
    absent: Callable[[Trial, int, float, str], TrialFold],
) -> list[TrialFold]:
    """Return a row for each fold and trial; folds after the first failure of a trial do not count, fitted or not."""
    rows_by_fit = {(row.fold, row.trial): row for row in done}
    errors: dict[int, str] = {}
    rows = []
    for fold in folds:
        for trial in trials:
            row = rows_by_fit.get((fold, trial.number))
            if trial.number in errors or row is None:
                first = errors.get(trial.number) or first_errors(done).get(trial.number, "failed")
                row = absent(trial, fold, row.seconds if row else 0.0, f"not counted, since it failed in an earlier fold: {first}")
            if row.state == FAILED:
                errors.setdefault(trial.number, row.error or "failed")
            rows.append(row)
    return rows
