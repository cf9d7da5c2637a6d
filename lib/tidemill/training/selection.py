"""What a search found, and which trial it chooses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidemill.errors import StepError
from tidemill.evaluation import is_better
from tidemill.training.tuner import Trial


@dataclass(frozen=True)
class TrialFold:
    """One trial on one fold: a row of ``ops.trials``.

    ``value`` is null where the trial failed; ``seconds`` are those of the fit and the metric, and the trial's share of preparing the
    fold's features and of a fit that served several trials.
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

    def row(self) -> dict[str, object]:
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

    @property
    def failures(self) -> dict[int, str]:
        """The first error of each trial that failed."""
        return first_errors(self.rows)


def choose(rows: Sequence[TrialFold], trials: Sequence[Trial], metric: str) -> SearchResult:
    """Choose the trial with the best mean over the folds, the earlier one of equals.

    Raises:
        NoTrialSucceeded: no trial succeeded in every fold; each family's first error is named.
    """
    failed = first_errors(rows)
    values: dict[int, list[float]] = {}
    for row in rows:
        if row.trial not in failed and row.value is not None:
            values.setdefault(row.trial, []).append(row.value)
    means = {number: sum(found) / len(found) for number, found in values.items()}
    best: Trial | None = None
    for trial in trials:
        if trial.number in means and (best is None or is_better(metric, means[trial.number], means[best.number])):
            best = trial
    if best is None:
        first = {trial.family: failed.get(trial.number, "not tried") for trial in reversed(trials)}
        errors = "; ".join(f"{family}: {error}" for family, error in reversed(first.items()))
        raise NoTrialSucceeded(f"train: none of {len(trials)} trials succeeded; {errors or 'there was nothing to try'}", rows)
    return SearchResult(tuple(rows), means, best)


def first_errors(rows: Sequence[TrialFold]) -> dict[int, str]:
    """Return the error of the first fold in which each failed trial failed."""
    errors: dict[int, str] = {}
    for row in rows:
        if row.state == "FAILED":
            errors.setdefault(row.trial, row.error or "failed")
    return errors
