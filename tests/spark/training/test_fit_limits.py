"""Fits behind the search and features of the user's own that take too long: each ends in time, with a sentence that names it."""

import time

import pytest
from pyspark.ml import Estimator
from pyspark.ml.classification import LogisticRegression

from tidemill.errors import StepError
from tidemill.features import FeaturePlan
from tidemill.features.custom import CustomStage
from tidemill.features.groups import Numeric
from tidemill.learners.custom import EstimatorFamily
from tidemill.training.engines.choice import Engines
from tidemill.training.ensembles.ensemble import Ensemble
from tidemill.training.ensembles.refit import refit_ensemble
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.tuning.search import Search
from tidemill.training.tuning.tuner import Trial

PLAN = FeaturePlan.of(numeric=Numeric(columns=["x", "z"]))
SAYS = r"stopped after 3 seconds, as training\.tuner\.trial_timeout says$"


class Sleeps(LogisticRegression):
    """An Estimator of the user's own that does not come to its end."""

    def _fit(self, rows):
        time.sleep(600)


class SleepingStage(Estimator):
    """A feature stage that does not come to its end."""

    def _fit(self, rows):
        time.sleep(600)


@pytest.fixture
def in_time():
    """Whatever is tested ends long before it would by itself."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 300


def _problem(**own):
    return Problem(
        "binary",
        "logLoss",
        2,
        7,
        own={name: EstimatorFamily.of(name, f"functions.{kind.__name__}", kind, {}) for name, kind in own.items()},
    )


def test_a_final_fit_that_takes_too_long_fails_with_its_family_and_limit(frames, in_time):
    problem = _problem(mine=Sleeps)
    with pytest.raises(StepError, match=r"^train: mine \{\} cannot be fitted on all training rows: " + SAYS):
        refit(frames["binary"], PLAN, Trial(0, "mine", {}), problem, limit=3.0)
    members = {0: Trial(0, "mine", {})}
    with pytest.raises(StepError, match=r"^train: blend: mine \{\} cannot be fitted on all training rows: " + SAYS):
        refit_ensemble(frames["binary"], PLAN, Ensemble(Trial(1, "blend", {}), members, ()), problem, Engines(), limit=3.0)


def test_a_final_fit_in_a_task_that_takes_too_long_is_ended_and_one_in_time_is_the_same_as_without_a_limit(frames, tmp_path, in_time):
    name = "hist_gradient_boosting"
    engines = Engines({name: "tasks"}, str(tmp_path))
    with pytest.raises(StepError, match=r"^train: hist_gradient_boosting .* cannot be fitted on all training rows: " + SAYS):
        refit(frames["binary"], PLAN, Trial(0, name, {"max_iter": 500_000, "max_leaf_nodes": 5}), _problem(), engines, limit=3.0)
    short = Trial(0, name, {"max_iter": 3})
    found = [
        [
            row["probability"]
            for row in refit(frames["binary"], PLAN, short, _problem(), engines, limit=limit)
            .transform(frames["binary"])
            .orderBy("x", "z")
            .select("probability")
            .collect()
        ]
        for limit in (None, 60.0)
    ]
    assert found[0] == found[1]


def test_features_of_the_users_own_that_take_too_long_do_not_hang_the_search_or_the_final_fit(frames, in_time):
    plan = FeaturePlan.of(numeric=Numeric(columns=["x", "z"]), custom=(CustomStage("functions.SleepingStage", SleepingStage),))
    trial = Trial(0, "logistic_regression", {})
    says = r"features\.custom: functions\.SleepingStage: " + SAYS
    search = Search(frames["binary"], plan, ["logistic_regression"], _problem(), limit=3.0)
    with pytest.raises(StepError, match=r"^train: the features cannot be fitted on the training rows of fold 0: " + says):
        search.run([trial], [0])
    search.close()
    with pytest.raises(StepError, match=r"^train: logistic_regression .* cannot be fitted on all training rows: " + says):
        refit(frames["binary"], plan, trial, _problem(), limit=3.0)


def test_fits_that_are_made_once_more_have_the_limit_too(frames, tmp_path, in_time):
    for name, engine, params in (("mine", "spark", {}), ("hist_gradient_boosting", "tasks", {"max_iter": 500_000, "max_leaf_nodes": 5})):
        search = Search(frames["binary"], PLAN, [name], _problem(mine=Sleeps), engines=Engines({name: engine}, str(tmp_path)), limit=3.0)
        with pytest.raises(Exception, match=SAYS.removesuffix("$")):
            search.out_of_fold(Trial(0, name, params), [0])
        search.close()
