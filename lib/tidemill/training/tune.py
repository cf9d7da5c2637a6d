"""How a search is walked: all trials at once, generation by generation, or rung by rung; and when it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidemill.spec.blocks import seconds
from tidemill.spec.models import Space, Tuner
from tidemill.training.halving import halve, stopped_means
from tidemill.training.sampler import GENERATION, Sampler
from tidemill.training.search import Search
from tidemill.training.selection import TrialFold, means
from tidemill.training.tuner import Trial, plan_trials

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
