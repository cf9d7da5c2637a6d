"""The engine tasks: the same figures as MLlib's where the problem is the same, models that Spark scores, failures, and layouts."""

import dataclasses
import math
import time

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F
from sklearn.metrics import accuracy_score, r2_score
from tests.tiers import parametrize_cover

from tidemill.errors import SpecError
from tidemill.families import ENGINES, FAMILIES, family_names
from tidemill.features import feature_pipeline
from tidemill.training.engines.choice import Engines, Resources, choose_engines
from tidemill.training.engines.fold_matrix import HELD_OUT, TRAIN, MatrixTooLarge, open_rows, write_fold_matrix
from tidemill.training.folds import select_matrix_columns
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.tuning.search import Search, cross_validate
from tidemill.training.tuning.tuner import Trial

from .conftest import PLAN

CLASSES = {"binary": 2, "multiclass": 3, "regression": 0}
METRIC = {"binary": "areaUnderROC", "multiclass": "logLoss", "regression": "rmse"}
LEARNED = [(task, name) for task in CLASSES for name in family_names(task) if FAMILIES.get(name).learner_at]
PARAMS = {
    "naive_bayes": {"smoothing": 0.5},
    "gradient_boosted_trees": {"maxIter": 8, "maxDepth": 3},
    "random_forest": {"numTrees": 5, "maxDepth": 4},
    "hist_gradient_boosting": {"max_iter": 8, "min_samples_leaf": 5},
    "xgboost": {"n_estimators": 8, "max_depth": 3},
    "lightgbm": {"n_estimators": 8, "min_child_samples": 5},
}


def problem_of(task):
    return Problem(task, METRIC[task], CLASSES[task], seed=7)


def params_of(name):
    return PARAMS.get(name, {"regParam": 0.01})


def engines_of(tmp_path, *names, **given):
    return Engines(dict.fromkeys(names, "tasks"), str(tmp_path), **given)


@parametrize_cover(("task", "name"), LEARNED)
def test_what_tasks_choose_scores_by_spark_after_it_was_saved(frames, tmp_path, task, name):
    frame, problem = frames[task], problem_of(task)
    model = refit(frame, PLAN, Trial(0, name, params_of(name)), problem, engines_of(tmp_path, name))
    # The feature stages before it are saved and loaded by the tests of MLlib's families.
    last = model.stages[-1]
    last.write().overwrite().save(str(tmp_path / "model"))
    columns = ["prediction"] + ([] if task == "regression" else [vector_to_array("probability").alias("p")])
    vectors = PipelineModel(model.stages[:-1]).transform(frame.select(*PLAN.columns, frame["label"].alias("truth"))).coalesce(1)
    found, loaded = (
        stage.transform(vectors).select("truth", *columns).toPandas() for stage in (last, type(last).load(str(tmp_path / "model")))
    )
    assert found["prediction"].equals(loaded["prediction"])
    assert not list(tmp_path.glob("copy-*")), "the copy is gone"
    if task == "regression":
        assert r2_score(found["truth"], found["prediction"]) > 0.3
        return
    probabilities = np.stack(found["p"])
    assert probabilities.shape == (len(found), problem.n_classes)
    assert np.allclose(probabilities.sum(axis=1), 1.0)
    assert (probabilities.argmax(axis=1) == found["prediction"]).all()
    lead = 0.0 if name == "naive_bayes" else 0.1
    assert accuracy_score(found["truth"], found["prediction"]) > found["truth"].value_counts(normalize=True).max() + lead


# Objectives that MLlib has too, solved far enough that the solver does not matter.
@pytest.mark.parametrize(
    ("task", "name", "params"),
    [
        pytest.param("binary", "logistic_regression", {"regParam": 0.05}, marks=pytest.mark.slow),
        ("binary", "logistic_regression", {"regParam": 0.05, "standardization": False}),
        pytest.param("binary", "logistic_regression", {"regParam": 0.02, "elasticNetParam": 0.5, "maxIter": 200}, marks=pytest.mark.slow),
        ("multiclass", "logistic_regression", {"regParam": 0.05}),
        pytest.param("regression", "linear_regression", {"regParam": 0.1}, marks=pytest.mark.slow),
        pytest.param("regression", "linear_regression", {"regParam": 0.1, "standardization": False}, marks=pytest.mark.slow),
        ("regression", "linear_regression", {"regParam": 0.1, "elasticNetParam": 0.7}),
        ("binary", "naive_bayes", {"smoothing": 0.5}),
        ("multiclass", "naive_bayes", {"smoothing": 0.5}),
        ("binary", "linear_svm", {"regParam": 0.05, "maxIter": 200}),
    ],
)
def test_linear_families_find_what_mllib_finds(frames, tmp_path, task, name, params):
    trial, problem = Trial(0, name, params), problem_of(task)
    if name in ("logistic_regression", "linear_regression"):
        models = [refit(frames[task], PLAN, trial, problem, engines).stages[-1] for engines in (engines_of(tmp_path, name), None)]
        weights = [
            np.asarray(model.coefficientMatrix.toArray() if name == "logistic_regression" else model.coefficients.toArray())
            for model in models
        ]
        assert np.allclose(*weights, atol=5e-3)
        return
    by_tasks = cross_validate(frames[task], PLAN, [trial], [0], problem, engines_of(tmp_path, name)).rows[0]
    by_spark = cross_validate(frames[task], PLAN, [trial], [0], problem).rows[0]
    assert by_tasks.value == pytest.approx(by_spark.value, abs=2e-3)
    assert (by_tasks.engine, by_tasks.library.split()[0]) == ("tasks", "scikit-learn")
    assert (by_spark.engine, by_spark.library.split()[0]) == ("spark", "pyspark")


def test_a_copy_holds_the_vectors_of_each_part_in_one_order_whatever_the_layout(frames, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARK_LOCAL_DIRS", f"{tmp_path}/executor")
    frame = frames["binary"]
    features = feature_pipeline(PLAN, ["linear", "tree"]).fit(frame)
    vectors = select_matrix_columns(features.transform(frame), F.col("fold") == 1, None, ["linear", "tree"])
    found = []
    for partitions in (1, 3):
        copy = write_fold_matrix(vectors.repartition(partitions), str(tmp_path), ["linear", "tree"], 10**9)
        parts = [open_rows(copy, encoding, part, "any") for encoding in ("linear", "tree") for part in (TRAIN, HELD_OUT)]
        dense = [part.features if isinstance(part.features, np.ndarray) else part.features.toarray() for part in parts]
        found.append([np.array(array) for array in (*dense, *(part.labels for part in parts))])
        assert [home.name for home in tmp_path.glob("executor/copy-*")] == [copy.name], "what was made of the one before is gone"
        copy.remove()
    assert all(np.array_equal(one, three) for one, three in zip(*found, strict=True))
    rows = vectors.orderBy("order").toPandas()
    for place, (encoding, held_out) in enumerate([("linear", False), ("linear", True), ("tree", False), ("tree", True)]):
        chosen = rows[rows["is_held_out"] == held_out]
        assert np.array_equal(found[0][place], np.stack([vector.toArray() for vector in chosen[f"features_{encoding}"]]))


@pytest.mark.long("three searches")
def test_one_fit_gives_every_number_of_rounds_its_own_value(frames, tmp_path):
    trials = [Trial(number, "xgboost", {"n_estimators": rounds, "max_depth": 3}) for number, rounds in enumerate((3, 6))]
    engines = engines_of(tmp_path, "xgboost")
    together = Search(frames["binary"], PLAN, ["xgboost"], problem_of("binary"), engines=engines)
    rows = together.run(trials, [0, 1], is_last=True)
    alone = [cross_validate(frames["binary"], PLAN, [trial], [0, 1], problem_of("binary"), engines).rows for trial in trials]
    assert together.fits == 2
    for trial, own in zip(trials, alone, strict=True):
        assert [row.value for row in rows if row.trial == trial.number] == [row.value for row in own]
    assert rows[0].value != rows[1].value


def test_xgboost_is_fitted_on_all_workers_together_too(frames, tmp_path):
    trial = Trial(0, "xgboost", {"n_estimators": 4, "max_depth": 3})
    rows = cross_validate(frames["binary"], PLAN, [trial], [0], problem_of("binary"), Engines({"xgboost": "spark"})).rows
    alone = cross_validate(frames["binary"], PLAN, [trial], [0], problem_of("binary"), engines_of(tmp_path, "xgboost")).rows
    assert (rows[0].state, rows[0].engine, rows[0].library.split()[0]) == ("SUCCEEDED", "spark", "xgboost")
    # Its bins are those of each worker's rows, so that the trees differ a little.
    assert rows[0].value == pytest.approx(alone[0].value, abs=0.05)


def test_one_failure_is_one_failure(frames, tmp_path):
    trials = [Trial(0, "xgboost", {"n_estimators": 2, "max_depth": -7}), Trial(1, "logistic_regression", {"regParam": 0.1})]
    found = cross_validate(
        frames["binary"], PLAN, trials, [0, 1], problem_of("binary"), engines_of(tmp_path, "xgboost", "logistic_regression")
    )
    assert [row.state for row in found.rows] == ["FAILED", "SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert "max_depth" in found.rows[0].error and "\n" not in found.rows[0].error
    assert found.best.number == 1


@pytest.mark.long("four searches")
def test_what_is_known_is_not_fitted_again_and_a_copy_too_large_goes_to_mllib(frames, tmp_path):
    trials = [Trial(0, "logistic_regression", {"regParam": 0.1}), Trial(1, "logistic_regression", {"regParam": 0.01})]
    first = cross_validate(frames["binary"], PLAN, trials, [0, 1], problem_of("binary"), engines_of(tmp_path, "logistic_regression"))
    known = {(row.family, row.params, row.fold): dataclasses.replace(row, value=0.25) for row in first.rows if row.trial == 1}
    again = Search(
        frames["binary"],
        PLAN,
        ["logistic_regression"],
        problem_of("binary"),
        engines=engines_of(tmp_path, "logistic_regression"),
        known=known,
    )
    rows = again.run(trials, [0, 1], is_last=True)
    assert [row.value for row in rows if row.trial == 1] == [0.25, 0.25]
    assert [row.value for row in rows if row.trial == 0] == [row.value for row in first.rows if row.trial == 0]
    assert again.fits == 2

    small = Search(
        frames["binary"],
        PLAN,
        ["logistic_regression"],
        problem_of("binary"),
        engines=engines_of(tmp_path, "logistic_regression", most_bytes=100, is_free=True),
    )
    moved = small.run(trials[:1], [0, 1], is_last=True)
    assert {row.engine for row in moved} == {"spark"} and {row.state for row in moved} == {"SUCCEEDED"}
    assert "engine spark: the vectors of a fold take" in small.engines.notes[0]
    refused = Search(
        frames["binary"], PLAN, ["lightgbm"], problem_of("binary"), engines=engines_of(tmp_path, "lightgbm", most_bytes=100, is_free=True)
    )
    with pytest.raises(SpecError, match="write `engine: spark`"):
        refused.run([Trial(0, "lightgbm", {})], [0])
    assert not list(tmp_path.glob("copy-*"))


@pytest.mark.long("three searches, two by MLlib")
def test_a_copy_that_is_too_large_in_a_later_fold_goes_to_mllib_too(frames, tmp_path, monkeypatch):
    made = []

    def grown(*given):
        made.append(given)
        if len(made) > 1:
            raise MatrixTooLarge(10**10)
        return write_fold_matrix(*given)

    monkeypatch.setattr("tidemill.training.folds.write_fold_matrix", grown)
    engines = engines_of(tmp_path, "logistic_regression", is_free=True)
    search = Search(frames["binary"], PLAN, ["logistic_regression"], problem_of("binary"), engines=engines)
    trials = [Trial(0, "logistic_regression", {"regParam": 0.1})]
    rows = search.run(trials, [0, 1], is_last=True)
    assert [(row.engine, row.state, row.fold) for row in rows] == [("spark", "SUCCEEDED", 0), ("spark", "SUCCEEDED", 1)]
    assert not list(tmp_path.glob("copy-*"))
    # A search that was killed on its way there, and goes on where there is more memory, takes nothing over from the other engine.
    known = {(row.family, row.params, row.fold): row for row in rows}
    monkeypatch.setattr("tidemill.training.folds.write_fold_matrix", write_fold_matrix)
    again = Search(frames["binary"], PLAN, ["logistic_regression"], problem_of("binary"), engines=engines, known=known)
    assert {row.engine for row in again.run(trials, [0, 1], is_last=True)} == {"tasks"}


def test_the_engine_is_chosen_by_what_a_family_has_and_by_size(tmp_path):
    spaces = {"logistic_regression": {"regParam": [0.1]}, "factorization_machines": {}, "xgboost": {}}
    given = {"scratch": str(tmp_path), "rows": 1000, "columns": 10, "most_bytes": 10**6}
    auto = choose_engines(ENGINES.get("auto"), spaces, problem_of("binary"), Resources(**given))
    assert auto.by_family == {"logistic_regression": "tasks", "factorization_machines": "spark", "xgboost": "tasks"}
    assert any("factorization_machines: engine spark" in note for note in auto.notes)
    depth = {"logistic_regression": {"aggregationDepth": 3}}
    unknown = choose_engines(ENGINES.get("auto"), depth, problem_of("binary"), Resources(**given))
    assert unknown.by_family == {"logistic_regression": "spark"} and "aggregationDepth" in unknown.notes[0]
    large = choose_engines(ENGINES.get("auto"), spaces, problem_of("binary"), Resources(**{**given, "rows": 10**6}))
    assert set(large.by_family.values()) == {"spark"}
    for asked, family in (("spark", "lightgbm"), ("tasks", "factorization_machines")):
        with pytest.raises(SpecError) as caught:
            choose_engines(ENGINES.get(asked), {"lightgbm": {}, "factorization_machines": {}}, problem_of("binary"), Resources(**given))
        assert [fault.key for fault in caught.value.faults] == [f"training.models.{family}"]
    assert math.isfinite(auto.most_bytes)


@pytest.mark.parametrize(
    ("engine", "name", "endless", "short", "limit"),
    [
        ("tasks", "hist_gradient_boosting", {"max_iter": 500_000, "max_leaf_nodes": 5}, {"max_iter": 2, "max_leaf_nodes": 4}, 5.0),
        pytest.param(
            *("spark", "gradient_boosted_trees", {"maxIter": 5_000, "maxDepth": 3}, {"maxIter": 1, "maxDepth": 2}, 10.0),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_fit_that_takes_too_long_is_stopped_and_the_rest_goes_on(frames, tmp_path, engine, name, endless, short, limit):
    engines = Engines({name: engine}, str(tmp_path))
    search = Search(frames["binary"], PLAN, [name], problem_of("binary"), engines=engines, limit=limit, parallelism=1)
    started = time.monotonic()
    rows = search.run([Trial(0, name, endless), Trial(1, name, short)], [0])
    search.close()
    assert [row.state for row in rows] == ["FAILED", "SUCCEEDED"], [row.error for row in rows]
    assert rows[0].error == f"stopped after {limit:g} seconds, as training.tuner.trial_timeout says"
    assert time.monotonic() - started < 120
