"""What training does for every task: search, choose, and record each trial, whatever comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tidemill.spec.models import Space, Training
from tidemill.steps.past_trials import PastTrials
from tidemill.training.early_stopping import settled
from tidemill.training.search import Search
from tidemill.training.selection import NoTrialSucceeded, SearchResult, choose, first_errors
from tidemill.training.tune import Tuned, tune


def searched(
    training: Training,
    spaces: Mapping[str, Space],
    finder: Search,
    past: PastTrials,
    folds: Sequence[int],
    total: int,
    *,
    is_last: bool = True,
) -> tuple[Tuned, SearchResult]:
    """Return what was tried and what is chosen of it, after it is written to ``ops.trials``; rounds of boosting are settled.

    ``total`` is the number of training rows; ``is_last``: the vectors of the folds are not wanted afterwards.

    Raises:
        NoTrialSucceeded: none did; that is written, too.
    """
    try:
        tuned = tune(finder, spaces, training.tuner, folds, total, is_last=is_last)
        found = choose(tuned.rows, tuned.trials, finder.problem.metric, folds=folds, rule=training.select)
    except NoTrialSucceeded as error:
        past.record(error.rows)
        raise
    past.record(found.rows)
    return tuned, replace(found, best=settled(found.best, found.rows, finder.problem))


def failures(tuned: Tuned) -> list[str]:
    """Return a note on the trials that failed, where there are any, with the first one's error."""
    errors = first_errors(tuned.rows)
    if not errors:
        return []
    number, error = next(iter(sorted(errors.items())))
    return [f"{len(errors)} of {len(tuned.trials)} trials failed; trial {number}: {error}"]
