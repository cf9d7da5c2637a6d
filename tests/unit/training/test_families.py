"""Model families: names, defaults and what a spec may set; none of this needs a JVM."""

import pytest

from tidemill.errors import SpecError
from tidemill.families import FAMILIES, family_names, find_family, resolve_spaces
from tidemill.learners.boosting import Library
from tidemill.spec.models import FloatRange, IntRange, LogRange
from tidemill.tasks import TASKS


@pytest.mark.parametrize("task", TASKS.all_built_in())
def test_every_family_a_spec_may_name_exists_with_a_default_space_that_its_estimator_takes(task):
    spaces = resolve_spaces({name: {} for name in family_names(task)}, task)
    assert list(spaces) == family_names(task) and set(TASKS.get(task).families) | set(TASKS.get(task).text_families) <= set(spaces)
    for name, space in spaces.items():
        assert space
        assert find_family(name, task).parameter_faults(space, task) == {}


def test_default_spaces_of_boosted_trees_have_30_to_60_rounds():
    space = FAMILIES.get("gradient_boosted_trees").default_space("binary")
    assert space["maxIter"] == IntRange(int=[30, 60])


def test_all_wrong_parameters_are_named_with_the_nearest_right_one():
    with pytest.raises(SpecError) as caught:
        resolve_spaces(
            {
                "logistic_regression": {"regparam": LogRange(log=[1e-5, 1.0]), "maxIter": 20},
                "random_forest": {"numTrees": FloatRange(float=[10, 20]), "seed": 3, "labelCol": "x"},
                "boosted": {},
            },
            "binary",
            "conf/x/pipeline.yml",
        )
    found = {fault.key: fault.message for fault in caught.value.faults}
    assert list(found) == [
        "training.models.logistic_regression.regparam",
        "training.models.random_forest.numTrees",
        "training.models.random_forest.seed",
        "training.models.random_forest.labelCol",
        "training.models.boosted",
    ]
    assert "did you mean 'regParam'?" in found["training.models.logistic_regression.regparam"]
    assert "is no value for numTrees" in found["training.models.random_forest.numTrees"]
    assert "set training.tuner.seed instead" in found["training.models.random_forest.seed"]
    assert "set by tidemill" in found["training.models.random_forest.labelCol"]
    assert "known: logistic_regression, linear_svm, naive_bayes" in found["training.models.boosted"]


def test_a_library_that_is_not_installed_is_asked_for_only_where_it_is_needed(monkeypatch):
    monkeypatch.setattr(Library, "missing", lambda _: "pip install it")
    declared = {"xgboost": {"max_dpth": 3}, "random_forest": {"numTrees": 5}}
    with pytest.raises(SpecError) as caught:
        resolve_spaces(declared, "binary")
    assert [(fault.key, fault.message) for fault in caught.value.faults] == [("training.models.xgboost", "pip install it")]
    assert resolve_spaces(declared, "binary", needs_libraries=False) == declared


def test_a_family_that_does_not_suit_the_task_is_refused():
    with pytest.raises(SpecError, match=r"unknown model family for `task: regression`; did you mean 'linear_regression'\?"):
        resolve_spaces({"logistic_regression": {}}, "regression")
