"""What a search found, and which trial it chooses."""

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

    ``value`` is null where the trial failed; ``seconds`` are those of the fit and the metric, and the trial's share of a fit that served
    several trials; ``score_seconds`` those of predicting the fold's rows. ``share`` is that of the training rows that were learned from:
    below 1 where the trial was stopped early. ``library`` fitted it. ``rounds`` are those of boosting that the fold's own rows chose, where
    the trial asked them to: its ``value`` is a little too good then.
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
    """Every trial failed; ``rows`` say how, and are recorded all the same."""

    def __init__(self, message: str, rows: Sequence[TrialFold]) -> None:
        """Keep what was tried."""
        self.rows = tuple(rows)
        super().__init__(message)


@dataclass(frozen=True)
class SearchResult:
    """All rows of a search, the mean of each trial that succeeded in every fold, and the best of them."""

    rows: tuple[TrialFold, ...]
    means: Mapping[int, float]
    best: Trial

    @property
    def best_value(self) -> float:
        """The best trial's mean over the folds."""
        return self.means[self.best.number]

    def libraries(self, trials: Collection[int]) -> str:
        """Return the names and versions of what fitted the trials."""
        return ", ".join(dict.fromkeys(row.library for row in self.rows if row.trial in trials and row.library))


def choose(
    rows: Sequence[TrialFold], trials: Sequence[Trial], metric: str, *, folds: Sequence[int] | None = None, rule: str = "best"
) -> SearchResult:
    """Choose among the trials that succeeded in every fold of ``folds``, of all that there are where these are not given.

    ``best`` is the best mean over the folds, the earlier trial of equals. ``one_standard_error`` is the cheapest trial to score with whose
    folds are, on the average, no more than one standard error of the difference behind those of the best: paired, since all trials saw
    the same folds.

    Raises:
        NoTrialSucceeded: no trial succeeded in every fold; each family's first error is named.
    """
    failed = first_errors(rows)
    whole = _values(rows, {row.fold for row in rows} if folds is None else folds)
    found = _means(whole)
    best: Trial | None = None
    for trial in trials:
        if trial.number in found and (best is None or is_better(metric, found[trial.number], found[best.number])):
            best = trial
    if best is None:
        first = {trial.family: failed.get(trial.number, "not tried") for trial in reversed(trials)}
        errors = "; ".join(f"{family}: {error}" for family, error in reversed(first.items()))
        raise NoTrialSucceeded(f"train: none of {len(trials)} trials succeeded; {errors or 'there was nothing to try'}", rows)
    if rule == "one_standard_error":
        near = [trial for trial in trials if trial.number in whole and _is_near(whole[best.number], whole[trial.number], metric)]
        cost = {trial.number: sum(row.score_seconds or 0.0 for row in rows if row.trial == trial.number) for trial in near}
        best = min(near, key=lambda trial: cost[trial.number])
    logger.info(
        "trial %d is selected by rule %s: %s %s, mean %s %s", best.number, rule, best.family, best.params_json, metric, found[best.number]
    )
    return SearchResult(tuple(rows), found, best)


def means(rows: Sequence[TrialFold], folds: Collection[int]) -> dict[int, float]:
    """Return the mean over ``folds`` of each trial that succeeded in all of them."""
    return _means(_values(rows, folds))


def _values(rows: Sequence[TrialFold], folds: Collection[int]) -> dict[int, dict[int, float]]:
    """Return the value by fold of each trial that succeeded in all of ``folds`` and failed in none."""
    failed = first_errors(rows)
    found: dict[int, dict[int, float]] = {}
    for row in rows:
        if row.trial not in failed and row.state == SUCCEEDED and row.value is not None:
            found.setdefault(row.trial, {})[row.fold] = row.value
    return {trial: values for trial, values in found.items() if set(values) >= set(folds)}


def _means(values: Mapping[int, Mapping[int, float]]) -> dict[int, float]:
    return {trial: sum(found.values()) / len(found) for trial, found in values.items()}


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


def in_order(
    done: Sequence[TrialFold],
    trials: Sequence[Trial],
    folds: Sequence[int],
    absent: Callable[[Trial, int, float, str], TrialFold],
) -> list[TrialFold]:
    """Return a row for each fold and trial; what follows a trial's first failure does not count, whether it was still tried or not."""
    found = {(row.fold, row.trial): row for row in done}
    errors: dict[int, str] = {}
    rows = []
    for fold in folds:
        for trial in trials:
            row = found.get((fold, trial.number))
            if trial.number in errors or row is None:
                first = errors.get(trial.number) or first_errors(done).get(trial.number, "failed")
                row = absent(trial, fold, row.seconds if row else 0.0, f"not counted, since it failed in an earlier fold: {first}")
            if row.state == FAILED:
                errors.setdefault(trial.number, row.error or "failed")
            rows.append(row)
    return rows
