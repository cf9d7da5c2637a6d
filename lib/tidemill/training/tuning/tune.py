"""How a search is walked: all trials at once, generation by generation, or rung by rung; and when it ends."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidemill.evaluation import is_better
from tidemill.spec.models import Space, Tuner, seconds
from tidemill.training.selection import STOPPED, SUCCEEDED, TrialFold, means
from tidemill.training.tuning.sampler import GENERATION, Sampler
from tidemill.training.tuning.search import Search
from tidemill.training.tuning.tuner import Trial, plan_trials

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


_ASKED = ("tpe", "qmc")


@dataclass(frozen=True)
class Tuned:
    """The trials that were tried, in the order of their numbers, their rows, and notes for people."""

    trials: tuple[Trial, ...]
    rows: tuple[TrialFold, ...]
    notes: tuple[str, ...] = ()


def tune(search: Search, spaces: Mapping[str, Space], tuner: Tuner, folds: Sequence[int], rows: int, *, is_last: bool = True) -> Tuned:
    """Try what the tuner says, on ``folds`` of ``rows`` training rows in all.

    ``is_last``: the vectors of the folds are not wanted afterwards. With a timeout, trials are tried a generation at a time, and none
    begins after it; the first generation always ends.
    """
    search.expect(folds)
    started = time.monotonic()
    limit = seconds(tuner.timeout)
    metric = search.problem.metric
    if tuner.strategy not in _ASKED:
        planned = plan_trials(spaces, tuner)
        if limit is None and tuner.early_stopping == "hyperband":
            return Tuned(tuple(planned), tuple(halve(search, planned, folds, rows, metric, is_last=is_last)))
        if limit is None:
            return Tuned(tuple(planned), tuple(search.run(planned, folds, is_last=is_last)))
        sampler, waves = None, _waves(planned)
    else:
        sampler = Sampler(spaces, tuner, metric)
        waves = iter(sampler.ask, [])
    tried: list[Trial] = []
    found: list[TrialFold] = []
    notes: tuple[str, ...] = ()
    for wave in waves:
        if limit is not None and tried and time.monotonic() - started > limit:
            notes = (f"training.tuner.timeout of {tuner.timeout} is over: {len(tried)} trials were tried",)
            break
        done = halve(search, wave, folds, rows, metric) if tuner.early_stopping == "hyperband" else search.run(wave, folds)
        tried += wave
        found += done
        if sampler:
            sampler.tell(means(done, folds), stopped_means(done))
    return Tuned(tuple(tried), tuple(found), notes)


def _waves(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """Return the trials a generation at a time, the families taking turns, so that an early end leaves none of them out."""
    by_family: dict[str, list[Trial]] = {}
    for trial in trials:
        by_family.setdefault(trial.family, []).append(trial)
    turns = [trial for turn in range(len(trials)) for family in by_family.values() for trial in family[turn : turn + 1]]
    for start in range(0, len(turns), GENERATION):
        yield turns[start : start + GENERATION]
