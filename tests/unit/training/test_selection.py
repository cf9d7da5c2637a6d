"""Which trial is chosen, and what is said when none can be."""

import pytest

from tidemill.errors import StepError
from tidemill.training.selection import TrialFold, first_errors, select_trial
from tidemill.training.tuning.tuner import Trial

TRIALS = [Trial(0, "a", {}), Trial(1, "a", {}), Trial(2, "b", {})]


def row(trial, fold, value, error=None):
    state = "FAILED" if error else "SUCCEEDED"
    return TrialFold(trial, fold, TRIALS[trial].family, "{}", "rmse", value, 1.0, state, "spark", error)


def rows(values):
    return [row(trial, fold, value) for trial, found in enumerate(values) for fold, value in enumerate(found)]


def test_the_best_mean_wins_in_the_direction_of_the_metric():
    values = [[1.0, 4.0], [2.0, 2.0], [3.0, 0.5]]
    assert select_trial(rows(values), TRIALS, "rmse").best.number == 2
    found = select_trial(rows(values), TRIALS, "r2")
    assert (found.best.number, found.best_value) == (0, 2.5)
    assert found.means == {0: 2.5, 1: 2.0, 2: 1.75}


def test_the_earlier_of_equals_wins():
    assert select_trial(rows([[3.0], [2.0], [2.0]]), TRIALS, "rmse").best.number == 1


def test_a_trial_that_failed_in_one_fold_cannot_win():
    found = select_trial([*rows([[1.0], [2.0], [3.0]]), row(0, 1, None, "boom"), row(1, 1, 2.0), row(2, 1, 3.0)], TRIALS, "rmse")
    assert found.best.number == 1
    assert first_errors(found.rows) == {0: "boom"}


def test_where_all_fail_each_familys_first_error_is_named():
    failed = [row(0, 0, None, "first of a"), row(1, 0, None, "second of a"), row(2, 0, None, "first of b")]
    with pytest.raises(StepError, match="none of 3 trials succeeded; a: first of a; b: first of b"):
        select_trial(failed, TRIALS, "rmse")


def test_a_trial_that_was_stopped_early_cannot_win():
    whole = rows([[2.0, 2.0], [3.0, 3.0]])
    stopped = TrialFold(2, 0, "b", "{}", "rmse", 0.1, 1.0, "STOPPED", "spark", None)
    assert select_trial([*whole, stopped], TRIALS, "rmse").best.number == 0
    assert select_trial([*whole, stopped], TRIALS, "rmse").means == {0: 2.0, 1: 3.0}


def test_one_standard_error_takes_the_cheapest_that_is_no_worse_than_chance_explains():
    def timed(trial, values, seconds):
        return [
            TrialFold(trial, fold, TRIALS[trial].family, "{}", "r2", value, 1.0, "SUCCEEDED", "spark", None, score_seconds=seconds)
            for fold, value in enumerate(values)
        ]

    # Behind the best by 0.01, 0.03 and 0 (mean 0.0133, standard error 0.0088), and by 0.1 in each fold.
    found = [*timed(0, [0.80, 0.90, 0.70], 9.0), *timed(1, [0.79, 0.87, 0.70], 2.0), *timed(2, [0.70, 0.80, 0.60], 1.0)]
    assert select_trial(found, TRIALS, "r2", rule="one_standard_error").best.number == 0
    # By 0.01, 0.03 and -0.03: mean 0.0033, standard error 0.0176.
    found = [*timed(0, [0.80, 0.90, 0.70], 9.0), *timed(1, [0.79, 0.87, 0.73], 2.0), *timed(2, [0.70, 0.80, 0.60], 1.0)]
    chosen = select_trial(found, TRIALS, "r2", rule="one_standard_error")
    assert (chosen.best.number, select_trial(found, TRIALS, "r2").best.number) == (1, 0)
    assert chosen.best_value == pytest.approx((0.79 + 0.87 + 0.73) / 3)
