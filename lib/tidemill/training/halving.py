"""Stopping early: all trials on few rows and one fold, the better ones on more, the best on all of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.evaluation import is_better
from tidemill.training.search import Search
from tidemill.training.selection import STOPPED, SUCCEEDED, TrialFold, means
from tidemill.training.tuner import Trial

# One in four goes on, with four times the rows: 64 trials become 16, and then 4.
_ETA = 4
# A first rung of fewer rows picks hardly better than chance.
LEAST_ROWS = 5_000


@dataclass(frozen=True)
class Rung:
    """How many trials reach it, and what they get: a share of the training rows, and how many folds."""

    trials: int
    share: float
    folds: int


def rungs(n_trials: int, rows: int, n_folds: int) -> list[Rung]:
    """Return the rungs of a bracket that begins with ``n_trials``, the last on all rows and folds.

    Source: Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar: Hyperband, JMLR 18 (2018), algorithm 1: its most eager bracket, whose budget
    is the rows and the folds. From the last rung back trials fall to a quarter and so do rows, down to LEAST_ROWS, and folds to half.
    """
    found = [Rung(n_trials, 1.0, n_folds)]
    survivors, share, folds = n_trials, 1.0, n_folds
    while survivors > _ETA and len(found) < 3:
        survivors = math.ceil(survivors / _ETA)
        share, folds = share / _ETA, max(1, folds // 2)
        found.append(Rung(survivors, share, folds))
    # Budgets rise while trials fall.
    budgets = [(max(rung.share, min(1.0, LEAST_ROWS / max(rows, 1))), rung.folds) for rung in reversed(found)]
    return [Rung(rung.trials, *budget) for rung, budget in zip(found, budgets, strict=True)]


def halve(
    search: Search, trials: Sequence[Trial], folds: Sequence[int], rows: int, metric: str, *, is_last: bool = False
) -> list[TrialFold]:
    """Search the trials rung by rung; return a row for each trial and fold of the last rung that it reached.

    One that went no further has the state STOPPED.
    """
    alive = list(trials)
    done: list[TrialFold] = []
    steps = rungs(len(trials), rows, len(folds))
    for place, rung in enumerate(steps):
        # Of folds that expand the last ones learn from most rows.
        chosen = list(folds)[-rung.folds :] if search.problem.is_expanding else list(folds)[: rung.folds]
        found = search.run(alive, chosen, share=rung.share, is_last=is_last and place == len(steps) - 1)
        if place == len(steps) - 1:
            return [*done, *found]
        values = means(found, chosen)
        ranked = sorted((trial for trial in alive if trial.number in values), key=lambda trial: _rank(metric, values[trial.number]))
        alive = sorted(ranked[: steps[place + 1].trials], key=lambda trial: trial.number)
        kept = {trial.number for trial in alive}
        done += [_stopped(row) for row in found if row.trial not in kept]
        if not alive:
            return done
    return done


def stopped_means(rows: Sequence[TrialFold]) -> dict[int, tuple[int, float]]:
    """Return of each trial that was stopped how much of the rows and folds it got, a greater number being more, and its mean there."""
    found: dict[int, list[TrialFold]] = {}
    for row in rows:
        if row.state == STOPPED:
            found.setdefault(row.trial, []).append(row)
    return {
        trial: (round(1e6 * sum(row.share for row in own)), sum(row.value or 0.0 for row in own) / len(own)) for trial, own in found.items()
    }


def _stopped(row: TrialFold) -> TrialFold:
    return dataclasses.replace(row, state=STOPPED) if row.state == SUCCEEDED else row


def _rank(metric: str, value: float) -> float:
    return value if is_better(metric, 0.0, 1.0) else -value
