"""Features tuned along with their estimator: each variant is fitted as if it were declared, and learns only what no other has."""

import dataclasses

import pytest
from tests.tiers import parametrize_first

from tidemill.errors import StepError
from tidemill.features import FeaturePlan
from tidemill.spec.models import Features, with_values
from tidemill.training.engines.choice import Engines
from tidemill.training.problem import Problem
from tidemill.training.selection import first_errors
from tidemill.training.tuning.search import Search, cross_validate
from tidemill.training.tuning.tuner import Trial

PROBLEM = Problem("binary", "areaUnderROC", 2, seed=7)
DECLARED = Features.model_validate({"numeric": {"columns": ["x", "z"]}, "categorical": {"columns": ["carrier"]}})
TRIALS = [
    Trial(0, "logistic_regression", {"regParam": 0.1}),
    Trial(1, "logistic_regression", {"regParam": 0.1, "features.numeric.scale": "none", "standardization": False}),
    Trial(2, "logistic_regression", {"regParam": 0.1, "features.categorical.min_frequency": 60}),
    Trial(3, "logistic_regression", {"regParam": 0.2, "features.categorical.min_frequency": 60}),
]


def plan_with(values):
    features = with_values(DECLARED, values)
    return FeaturePlan(features.groups)


def plan_of(variant):
    import json

    return plan_with(json.loads(variant))


@pytest.mark.long("seven searches")
@parametrize_first("engine", ["tasks", "spark"], 1)
def test_a_variant_has_the_values_of_features_that_are_declared_so(frames, tmp_path, engine):
    engines = Engines({"logistic_regression": engine}, str(tmp_path))
    search = Search(frames["binary"], plan_of, ["logistic_regression"], PROBLEM, engines=engines)
    rows = search.run(TRIALS, [0, 1], is_last=True)
    assert {row.error for row in rows} == {None}
    assert search.folds.fits == 6  # three variants, two folds
    # Both numbers, the same scaled otherwise, and the counts of the carriers; the last variant asks for nothing new.
    assert (search.folds.misses, search.folds.requests - search.folds.misses) == (2 * (1 + 2 + 1 + 2), 2 * (1 + 1 + 1 + 1 + 2))
    for trial in TRIALS[:3]:
        alone = dataclasses.replace(trial, params=trial.of_family)
        declared = cross_validate(frames["binary"], plan_with(trial.of_features), [alone], [0, 1], PROBLEM, engines).rows
        assert [row.value for row in rows if row.trial == trial.number] == pytest.approx([row.value for row in declared], abs=1e-9)
    values = {row.trial: row.value for row in rows if row.fold == 0}
    assert len(set(values.values())) == 4
    assert not list(tmp_path.glob("copy-*"))


@parametrize_first("engine", ["spark", "tasks"], 1)
def test_features_that_cannot_be_made_fail_the_trials_that_ask_for_them_alone(frames, tmp_path, engine):
    def plan_or_none(variant):
        if "min_frequency" in variant:
            raise StepError("features: nothing is left")
        return plan_of(variant)

    engines = Engines({"logistic_regression": engine}, str(tmp_path))
    found = cross_validate(frames["binary"], plan_or_none, [TRIALS[2], TRIALS[0], TRIALS[1]], [0, 1], PROBLEM, engines)
    assert {row.trial: row.state for row in found.rows} == {2: "FAILED", 0: "SUCCEEDED", 1: "SUCCEEDED"}
    error = first_errors(found.rows)[2]
    assert "nothing is left" in error and "min_frequency" in error
    assert found.best.number in (0, 1)
    with pytest.raises(StepError, match="fold 0"):
        cross_validate(frames["binary"], lambda _: plan_or_none("min_frequency"), TRIALS[:1], [0, 1], PROBLEM, engines)
