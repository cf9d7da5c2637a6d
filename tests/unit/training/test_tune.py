"""How a search is walked: generations, plan_rungs, timeouts; the search itself is a table of known values here."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from tidemill.spec.models import IntRange, LogRange, Tuner
from tidemill.training.selection import TrialFold, select_trial
from tidemill.training.tuning.sampler import GENERATION, Sampler
from tidemill.training.tuning.tune import MIN_ROWS, plan_rungs, tune

SPACES = {"a": {"x": LogRange(log=[1e-3, 1e3]), "n": IntRange(int=[1, 9])}, "b": {"x": LogRange(log=[1e-3, 1e3]), "kind": ["p", "q"]}}


class Known:
    """A search whose every value is known: best where x is near 1; noisy on few rows."""

    def __init__(self, seconds=0.0, clock=None):
        self.problem = SimpleNamespace(metric="rmse", is_expanding=False)
        self.asked, self.chosen = [], []
        self.seconds, self.clock = seconds, clock

    def expect(self, folds):
        self.expected = list(folds)

    def run(self, trials, folds, *, share=1.0, is_last=False):
        self.asked.append((len(trials), len(folds), share))
        self.chosen.append(list(folds))
        if self.clock:
            self.clock.now += self.seconds
        return [self.row(trial, fold, share) for fold in folds for trial in trials]

    @staticmethod
    def row(trial, fold, share):
        value = abs(float(trial.params["x"]) - 1.0) + 0.01 * fold
        return TrialFold(trial.number, fold, trial.family, trial.params_json, "rmse", value, 0.1, "SUCCEEDED", "tasks", None, share=share)


@pytest.mark.parametrize("strategy", ["tpe", "qmc"])
def test_the_same_seed_asks_the_same_trials_and_another_seed_others(strategy):
    def tried(seed, trials=20):
        return tune(Known(), SPACES, Tuner(strategy=strategy, trials=trials, seed=seed), [0, 1], 1000).trials

    assert tried(3) == tried(3)
    assert tried(3) != tried(4)
    assert [trial.number for trial in tried(3)] == list(range(20))
    assert [sum(trial.family == name for trial in tried(3)) for name in SPACES] == [10, 10]
    for trial in tried(3):
        assert 1e-3 <= trial.params["x"] <= 1e3
        assert trial.params.get("n", 1) in range(1, 10) and trial.params.get("kind", "p") in "pq"


def test_tpe_finds_a_better_place_than_chance():
    def best(strategy):
        found = tune(Known(), {"a": SPACES["a"]}, Tuner(strategy=strategy, trials=60, seed=5), [0], 1000)
        return select_trial(found.rows, found.trials, "rmse").best_value

    assert best("tpe") < 0.5 * best("random")


def test_tpe_learns_of_trials_that_hyperband_stopped():
    tuner = Tuner(strategy="tpe", trials=60, seed=5, early_stopping="hyperband")
    search = Known()
    found = tune(search, {"a": SPACES["a"]}, tuner, [0, 1, 2], 300_000)
    assert search.expected == [0, 1, 2]
    at_random = tune(Known(), {"a": SPACES["a"]}, Tuner(strategy="random", trials=60, seed=5), [0, 1, 2], 300_000)

    def late(trials):
        return np.median([abs(np.log(trial.params["x"])) for trial in trials[30:]])

    assert late(found.trials) < 0.6 * late(at_random.trials), "the later half looks where the first did well"


def test_trials_that_failed_are_told_and_the_search_goes_on():
    sampler = Sampler(SPACES, Tuner(strategy="tpe", trials=12, seed=1), "rmse")
    first = sampler.ask()
    sampler.tell({})
    second = sampler.ask()
    sampler.tell({trial.number: 1.0 for trial in second})
    assert (len(first), len(second), sampler.ask()) == (GENERATION, 12 - GENERATION, [])


def test_budgets_rise_while_trials_fall():
    found = plan_rungs(64, 300_000, 5)
    assert [rung.trials for rung in found] == [64, 16, 4]
    assert [rung.share for rung in found] == [1 / 16, 1 / 4, 1.0]
    assert [rung.folds for rung in found] == [1, 2, 5]
    spent = sum(rung.trials * rung.share * rung.folds for rung in found) / (64 * 5)
    assert spent == 0.1
    # A rung of few rows picks by chance: it gets more of them.
    assert [rung.share * 9_000 >= MIN_ROWS for rung in plan_rungs(64, 9_000, 5)] == [True] * 3
    assert [rung.share for rung in plan_rungs(64, 1_000, 5)] == [1.0, 1.0, 1.0]
    assert [dataclasses.astuple(rung) for rung in plan_rungs(3, 10**6, 5)] == [(3, 1.0, 5)]


def test_halving_keeps_the_best_and_says_which_were_stopped():
    search = Known()
    tuner = Tuner(strategy="random", trials=64, seed=2, early_stopping="hyperband")
    found = tune(search, {"a": SPACES["a"]}, tuner, [0, 1, 2, 3, 4], 300_000)
    assert [asked[0] for asked in search.asked] == [64, 16, 4]
    chosen = select_trial(found.rows, found.trials, "rmse", folds=[0, 1, 2, 3, 4])
    assert chosen.best.number == min(found.trials, key=lambda trial: abs(trial.params["x"] - 1.0)).number
    states = {row.trial: row.state for row in found.rows}
    assert sorted(states.values()).count("SUCCEEDED") == 4 and len(states) == 64
    assert all(row.share < 1.0 for row in found.rows if row.state == "STOPPED")


@pytest.mark.parametrize(("is_expanding", "expected"), [(False, [0]), (True, [4])])
def test_the_first_rung_of_folds_that_expand_is_the_fold_with_most_rows(is_expanding, expected):
    search = Known()
    search.problem.is_expanding = is_expanding
    tune(search, {"a": SPACES["a"]}, Tuner(strategy="random", trials=64, seed=2, early_stopping="hyperband"), [0, 1, 2, 3, 4], 300_000)
    assert search.chosen[0] == expected and len(search.chosen[-1]) == 5


def test_no_trial_begins_after_the_timeout_and_no_family_is_left_out(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("tidemill.training.tuning.tune.time.monotonic", lambda: clock.now)
    search = Known(seconds=40.0, clock=clock)
    tuner = Tuner(strategy="random", trials=60, seed=2, timeout="1m")
    found = tune(search, SPACES, tuner, [0, 1], 1000)
    assert len(found.trials) == 2 * GENERATION
    assert {trial.family for trial in found.trials} == {"a", "b"}
    assert "training.tuner.timeout of 1m is over: 16 trials were tried" in found.notes[0]
    stopping = tune(Known(seconds=40.0, clock=clock), SPACES, Tuner(**{**tuner.model_dump(), "early_stopping": "hyperband"}), [0, 1], 1000)
    assert len(stopping.trials) == GENERATION and "8 trials were tried" in stopping.notes[0]
