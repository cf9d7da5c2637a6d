"""Boosting that each fold stopped by its own held-out rows: how many rounds the model of all rows gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tidemill.training.problem import Problem
from tidemill.training.selection import TrialFold
from tidemill.training.tasks.boosting import PATIENCE, Boosting
from tidemill.training.tuner import Trial


def settled(trial: Trial, rows: Sequence[TrialFold], problem: Problem) -> Trial:
    """Return the trial with the rounds that its folds found best, on the average, in place of when to stop; others as they are."""
    found = rounds_of(trial, rows)
    learner = problem.family(trial.family).learner if found else None
    if not isinstance(learner, Boosting):
        return trial
    params = {name: value for name, value in trial.params.items() if name != PATIENCE}
    return replace(trial, params={**params, learner.rounds: round(sum(found) / len(found))})


def remarks(trials: Sequence[Trial], rows: Sequence[TrialFold]) -> list[str]:
    """Return a note for each trial that folds stopped early, with what that means."""
    found = [(trial, rounds) for trial in trials if (rounds := rounds_of(trial, rows))]
    return [
        f"{trial.family}: {round(sum(rounds) / len(rounds))} rounds, the mean of {', '.join(map(str, rounds))}, which the folds' own rows "
        "chose; its figures in cross-validation are a little too good for that"
        for trial, rounds in found
    ]


def rounds_of(trial: Trial, rows: Sequence[TrialFold]) -> list[int]:
    """Return the rounds of each fold that stopped the trial early."""
    return [row.rounds for row in rows if row.trial == trial.number and row.rounds]
