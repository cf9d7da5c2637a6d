"""The schedule of a search: all trials at once, by generations, or by rungs of Hyperband; and its timeout."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidemill.evaluation import is_better
from tidemill.spec.models import Space, Tuner, seconds
from tidemill.training.selection import STOPPED, SUCCEEDED, TrialFold, compute_means
from tidemill.training.tuning.sampler import GENERATION, Sampler
from tidemill.training.tuning.search import Search
from tidemill.training.tuning.tuner import Trial, plan_trials

# A quarter of the trials goes on, with four times the rows: 64 trials become 16, then 4.
_ETA = 4
# With fewer rows, a first rung selects hardly better than chance.
MIN_ROWS = 5_000


@dataclass(frozen=True)
class Rung:
    """One rung: the number of trials that reach it, their share of the training rows, and the number of folds."""

    trials: int
    share: float
    folds: int


def plan_rungs(n_trials: int, rows: int, n_folds: int) -> list[Rung]:
    """Return the rungs of a bracket that starts with ``n_trials``; the last uses all rows and folds.

    Source: Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar: Hyperband, JMLR 18 (2018), algorithm 1: its most aggressive bracket, with
    rows and folds as the budget. From one rung to the next, trials fall to a quarter; rows rise fourfold, from at least MIN_ROWS, and folds
    twofold.
    """
    rungs = [Rung(n_trials, 1.0, n_folds)]
    survivors, share, folds = n_trials, 1.0, n_folds
    while survivors > _ETA and len(rungs) < 3:
        survivors = math.ceil(survivors / _ETA)
        share, folds = share / _ETA, max(1, folds // 2)
        rungs.append(Rung(survivors, share, folds))
    # Budgets rise while the number of trials falls.
    budgets = [(max(rung.share, min(1.0, MIN_ROWS / max(rows, 1))), rung.folds) for rung in reversed(rungs)]
    return [Rung(rung.trials, *budget) for rung, budget in zip(rungs, budgets, strict=True)]


def run_halving(
    search: Search, trials: Sequence[Trial], folds: Sequence[int], rows: int, metric: str, *, is_last: bool = False
) -> list[TrialFold]:
    """Search the trials rung by rung; return the rows of the last rung that each trial reached.

    A trial that did not reach the last rung has the state STOPPED.
    """
    alive = list(trials)
    done: list[TrialFold] = []
    rungs = plan_rungs(len(trials), rows, len(folds))
    for number, rung in enumerate(rungs):
        # The last expanding folds have the most training rows.
        rung_folds = list(folds)[-rung.folds :] if search.problem.is_expanding else list(folds)[: rung.folds]
        rows_of_rung = search.run(alive, rung_folds, share=rung.share, is_last=is_last and number == len(rungs) - 1)
        if number == len(rungs) - 1:
            return [*done, *rows_of_rung]
        values = compute_means(rows_of_rung, rung_folds)
        ranked = sorted((trial for trial in alive if trial.number in values), key=lambda trial: _sort_key(metric, values[trial.number]))
        alive = sorted(ranked[: rungs[number + 1].trials], key=lambda trial: trial.number)
        surviving = {trial.number for trial in alive}
        done += [_mark_stopped(row) for row in rows_of_rung if row.trial not in surviving]
        if not alive:
            return done
    return done


def stopped_means(rows: Sequence[TrialFold]) -> dict[int, tuple[int, float]]:
    """Return for each stopped trial its budget, which grows with rows and folds, and its mean."""
    rows_by_trial: dict[int, list[TrialFold]] = {}
    for row in rows:
        if row.state == STOPPED:
            rows_by_trial.setdefault(row.trial, []).append(row)
    return {
        trial: (round(1e6 * sum(row.share for row in own)), sum(row.value or 0.0 for row in own) / len(own))
        for trial, own in rows_by_trial.items()
    }


def _mark_stopped(row: TrialFold) -> TrialFold:
    return dataclasses.replace(row, state=STOPPED) if row.state == SUCCEEDED else row


def _sort_key(metric: str, value: float) -> float:
    return value if is_better(metric, 0.0, 1.0) else -value


_ADAPTIVE_STRATEGIES = ("tpe", "qmc")


@dataclass(frozen=True)
class TuningResult:
    """The trials of a search in the order of their numbers, their rows, and notes for people."""

    trials: tuple[Trial, ...]
    rows: tuple[TrialFold, ...]
    notes: tuple[str, ...] = ()


def tune(
    search: Search, spaces: Mapping[str, Space], tuner: Tuner, folds: Sequence[int], rows: int, *, is_last: bool = True
) -> TuningResult:
    """Run the trials of the tuner on ``folds``, which have ``rows`` training rows in all.

    ``is_last``: the vectors of the folds are not needed afterwards. With a timeout, trials run one generation at a time, and no generation
    starts after it; the first one always completes.
    """
    search.expect(folds)
    started = time.monotonic()
    limit = seconds(tuner.timeout)
    metric = search.problem.metric
    if tuner.strategy not in _ADAPTIVE_STRATEGIES:
        planned = plan_trials(spaces, tuner)
        if limit is None and tuner.early_stopping == "hyperband":
            return TuningResult(tuple(planned), tuple(run_halving(search, planned, folds, rows, metric, is_last=is_last)))
        if limit is None:
            return TuningResult(tuple(planned), tuple(search.run(planned, folds, is_last=is_last)))
        sampler, generations = None, _split_generations(planned)
    else:
        sampler = Sampler(spaces, tuner, metric)
        generations = iter(sampler.ask, [])
    trials: list[Trial] = []
    finished: list[TrialFold] = []
    notes: tuple[str, ...] = ()
    for generation in generations:
        if limit is not None and trials and time.monotonic() - started > limit:
            notes = (f"training.tuner.timeout of {tuner.timeout} is over: {len(trials)} trials were tried",)
            break
        done = (
            run_halving(search, generation, folds, rows, metric) if tuner.early_stopping == "hyperband" else search.run(generation, folds)
        )
        trials += generation
        finished += done
        if sampler:
            sampler.tell(compute_means(done, folds), stopped_means(done))
    return TuningResult(tuple(trials), tuple(finished), notes)


def rerun(search: Search, recorded: Sequence[TrialFold], folds: Sequence[int]) -> TuningResult:
    """Run the trials of an earlier search again, each with its parameters, on the folds and the share of rows that its rows name.

    A trial that was stopped early stays so, and ``score_seconds`` are the recorded ones: they select by the rule ``one_standard_error``.
    """
    search.expect(folds)
    rows_by_trial: dict[int, list[TrialFold]] = {}
    for row in recorded:
        rows_by_trial.setdefault(row.trial, []).append(row)
    trials_by_budget: dict[tuple[float, tuple[int, ...]], list[Trial]] = {}
    for number, rows in sorted(rows_by_trial.items()):
        validated = {row.fold for row in rows}
        budget = min(row.share for row in rows), tuple(fold for fold in folds if fold in validated)
        trials_by_budget.setdefault(budget, []).append(Trial(number, rows[0].family, json.loads(rows[0].params)))
    stopped = {row.trial for row in recorded if row.state == STOPPED}
    seconds_by_fit = {(row.trial, row.fold): row.score_seconds for row in recorded}
    done: list[TrialFold] = []
    for (share, own_folds), trials in trials_by_budget.items():
        for row in search.run(trials, own_folds, share=share):
            timed = dataclasses.replace(row, score_seconds=seconds_by_fit.get((row.trial, row.fold), row.score_seconds))
            done.append(_mark_stopped(timed) if row.trial in stopped else timed)
    by_number = {trial.number: trial for trials in trials_by_budget.values() for trial in trials}
    return TuningResult(tuple(by_number[number] for number in sorted(by_number)), tuple(done))


def _split_generations(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """Yield the trials by generations, with families in turn, so that a timeout leaves no family out."""
    by_family: dict[str, list[Trial]] = {}
    for trial in trials:
        by_family.setdefault(trial.family, []).append(trial)
    turns = [trial for turn in range(len(trials)) for family in by_family.values() for trial in family[turn : turn + 1]]
    for start in range(0, len(turns), GENERATION):
        yield turns[start : start + GENERATION]
