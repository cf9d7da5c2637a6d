"""Which trial is chosen, and what is said when none can be."""

import pytest

from tidemill.errors import StepError
from tidemill.training.selection import TrialFold, choose
from tidemill.training.tuner import Trial

TRIALS = [Trial(0, "a", {}), Trial(1, "a", {}), Trial(2, "b", {})]


def row(trial, fold, value, error=None):
    state = "FAILED" if error else "SUCCEEDED"
    return TrialFold(trial, fold, TRIALS[trial].family, "{}", "rmse", value, 1.0, state, "spark", error)


def rows(values):
    return [row(trial, fold, value) for trial, found in enumerate(values) for fold, value in enumerate(found)]


def test_the_best_mean_wins_in_the_direction_of_the_metric():
    values = [[1.0, 4.0], [2.0, 2.0], [3.0, 0.5]]
    assert choose(rows(values), TRIALS, "rmse").best.number == 2
    found = choose(rows(values), TRIALS, "r2")
    assert (found.best.number, found.best_value) == (0, 2.5)
    assert found.means == {0: 2.5, 1: 2.0, 2: 1.75}


def test_the_earlier_of_equals_wins():
    assert choose(rows([[3.0], [2.0], [2.0]]), TRIALS, "rmse").best.number == 1


def test_a_trial_that_failed_in_one_fold_cannot_win():
    found = choose([*rows([[1.0], [2.0], [3.0]]), row(0, 1, None, "boom"), row(1, 1, 2.0), row(2, 1, 3.0)], TRIALS, "rmse")
    assert found.best.number == 1
    assert found.failures == {0: "boom"}


def test_where_all_fail_each_familys_first_error_is_named():
    failed = [row(0, 0, None, "first of a"), row(1, 0, None, "second of a"), row(2, 0, None, "first of b")]
    with pytest.raises(StepError, match="none of 3 trials succeeded; a: first of a; b: first of b"):
        choose(failed, TRIALS, "rmse")
