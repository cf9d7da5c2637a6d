"""Contributions of raw columns to the predictions of trained models: they add up, and equal what brute force gives."""

from itertools import permutations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import functions as F
from tests.tiers import parametrize_cover

from tidemill.families import FAMILIES, family_names
from tidemill.learners.contributions import ContributionStage
from tidemill.model_registry import Manifest
from tidemill.model_registry.predict import predict
from tidemill.steps import contributions as module
from tidemill.steps.contributions import CONTRIBUTIONS, explain_predictions
from tidemill.training.engines.choice import Engines
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.tuning.tuner import Trial

from .conftest import PLAN

COLUMNS = {"x": "double", "z": "double", "carrier": "string"}
CHEAP = {
    "random_forest": {"numTrees": 5, "maxDepth": 4},
    "gradient_boosted_trees": {"maxIter": 4, "maxDepth": 3},
    "naive_bayes": {"smoothing": 0.5},
    "multilayer_perceptron": {"hiddenUnits": 4, "maxIter": 10},
    "factorization_machines": {"factorSize": 2, "stepSize": 0.1, "maxIter": 10},
    "hist_gradient_boosting": {"max_iter": 10},
    "xgboost": {"n_estimators": 10},
    "lightgbm": {"n_estimators": 10},
}
EXACT_TREES = ("random_forest", "gradient_boosted_trees", "hist_gradient_boosting", "xgboost", "lightgbm")
LINEAR = ("logistic_regression", "linear_regression", "linear_svm")
CASES = [
    (task, name, engine)
    for task in ("binary", "multiclass", "regression")
    for name in family_names(task)
    for engine in ("spark", "tasks")
    if (FAMILIES.get(name).learner_at if engine == "tasks" else FAMILIES.get(name).has_estimator(task))
]


def _manifest(task):
    classes = {"binary": [0.0, 1.0], "multiclass": [0.0, 1.0, 2.0], "regression": None}[task]
    return Manifest("p", 1, task, "f", {}, "m", None, classes, "double", 1.0, COLUMNS, "r", 0)


def _fit(frames, tmp_path, task, name, engine):
    problem = Problem(task, "m", {"binary": 2, "multiclass": 3, "regression": 0}[task], seed=7)
    trial = Trial(0, name, CHEAP.get(name, {"regParam": 0.01}))
    return refit(frames[task], PLAN, trial, problem, Engines({name: engine}, str(tmp_path)))


@pytest.fixture
def background(frames, monkeypatch):
    """The rows that a version would keep: the first ten."""
    rows = frames["binary"].select(*COLUMNS).limit(10).toArrow().combine_chunks()
    monkeypatch.setattr(module, "_read_background", lambda lake, manifest: rows)
    return rows


def _explain(model, task, rows):
    with explain_predictions(model, _manifest(task), None, rows) as explained:
        return explained.toPandas()


def _check_sums(found, task):
    """Compare base and contributions with the prediction on the scale that they state."""
    for _, row in found.iterrows():
        struct = row[CONTRIBUTIONS]
        assert set(struct["columns"]) == set(COLUMNS)
        total = struct["base"] + sum(struct["columns"].values())
        if struct["scale"] == "value":
            assert total == pytest.approx(row["prediction"], rel=1e-5, abs=1e-5)
        elif task == "multiclass":
            assert struct["class_index"] == np.argmax(row["probability"]) == row["prediction"]
            if struct["scale"] == "probability":
                assert total == pytest.approx(row["probability"][struct["class_index"]], abs=1e-6)
        elif struct["scale"] == "probability":
            assert total == pytest.approx(row["probability"], abs=1e-6)
        else:
            assert (struct["scale"], total) == ("log-odds", pytest.approx(np.log(row["probability"] / (1 - row["probability"])), abs=1e-4))


@pytest.mark.slow
@parametrize_cover(("task", "name", "engine"), CASES)
def test_the_contributions_of_every_family_add_up(frames, tmp_path, background, task, name, engine):
    model = _fit(frames, tmp_path, task, name, engine)
    found = _explain(model, task, frames[task].select(*COLUMNS).limit(8))
    _check_sums(found, task)
    kinds = {row["kind"] for row in found[CONTRIBUTIONS]}
    if name in LINEAR:
        assert kinds == {"linear"}
    elif name in EXACT_TREES and engine == "tasks":
        assert kinds == {"tree"}


@pytest.mark.long("fits three models")
def test_contributions_are_exact_where_the_model_allows_it(frames, tmp_path, background):
    rows = frames["binary"].select(*COLUMNS).limit(8)
    trees = _explain(_fit(frames, tmp_path, "binary", "hist_gradient_boosting", "tasks"), "binary", rows)
    _check_sums(trees, "binary")
    assert {(row["kind"], row["scale"]) for row in trees[CONTRIBUTIONS]} == {("tree", "log-odds")}

    # A linear model: coefficient × (value - mean over the background) of the slots of a column, here of z, which has one slot.
    model = _fit(frames, tmp_path, "multiclass", "logistic_regression", "tasks")
    linear = _explain(model, "multiclass", frames["multiclass"].select(*COLUMNS).limit(8))
    _check_sums(linear, "multiclass")
    slots = PipelineModel(model.stages[:-1])
    vectors, means = (
        np.stack([row[0].toArray() for row in slots.transform(frame).select("features_linear").collect()])
        for frame in (frames["multiclass"].select(*COLUMNS).limit(8), rows.sparkSession.createDataFrame(background))
    )
    from tidemill.features import slot_names

    place = slot_names(model, "linear").index("z")
    weights = model.stages[-1].coefficientMatrix.toArray()
    for vector, struct in zip(vectors, linear[CONTRIBUTIONS], strict=True):
        assert struct["scale"] == "margin"
        expected = weights[struct["class_index"], place] * (vector[place] - means[:, place].mean())
        assert struct["columns"]["z"] == pytest.approx(expected)
    # The margins of all classes give the probabilities.
    exact = module._find_exact(model, _manifest("multiclass"), rows.sparkSession, background)
    staged = PipelineModel([*model.stages, ContributionStage(exact, "raw")])
    scored = predict(staged, _manifest("multiclass"), frames["multiclass"].select(*COLUMNS).limit(8), ["raw"]).toPandas()
    margins = np.stack(scored["raw"]).reshape(8, 3, 4).sum(axis=2)
    odds = np.exp(margins - margins.max(axis=1, keepdims=True))
    assert odds / odds.sum(axis=1, keepdims=True) == pytest.approx(np.stack(scored["probability"]))


@pytest.mark.long("fits a model, and scores its rows among 80 others")
def test_any_other_model_has_shapley_values_of_its_probability(frames, tmp_path, background):
    model = _fit(frames, tmp_path, "binary", "naive_bayes", "spark")
    rows = frames["binary"].select(*COLUMNS).limit(3)
    found = _explain(model, "binary", rows)
    _check_sums(found, "binary")
    assert {(row["kind"], row["scale"]) for row in found[CONTRIBUTIONS]} == {("sampled", "probability")}
    # Of three columns every order is tried, beside every background row: so does this.
    first, others = rows.toPandas().iloc[0], background.to_pandas()
    orders = list(permutations(COLUMNS))
    hybrids = []
    for _, other in others.iterrows():
        for order in orders:
            hybrid = other.copy()
            hybrids.append(hybrid.copy())
            for name in order:
                hybrid[name] = first[name]
                hybrids.append(hybrid.copy())
    frame = pd.DataFrame(hybrids)
    arrow = pa.Table.from_pandas(frame.assign(place=range(len(frame))), preserve_index=False)
    scored = predict(model, _manifest("binary"), rows.sparkSession.createDataFrame(arrow)).orderBy("place").toPandas()
    p = scored["probability"].to_numpy().reshape(len(others), len(orders), 4)
    steps = np.diff(p, axis=2)
    expected = {name: np.mean([steps[:, at, order.index(name)] for at, order in enumerate(orders)]) for name in COLUMNS}
    assert found[CONTRIBUTIONS][0]["columns"] == pytest.approx(expected)
    assert found[CONTRIBUTIONS][0]["base"] == pytest.approx(p[:, 0, 0].mean())


def test_a_row_that_cannot_be_scored_has_no_contributions(frames, tmp_path, background):
    model = _fit(frames, tmp_path, "regression", "linear_regression", "tasks")
    rows = frames["regression"].select(F.lit("much").alias("x"), "z", "carrier").limit(1)
    good = rows.withColumn("x", F.lit("1.5"))
    found = _explain(model, "regression", rows.unionByName(good))
    assert found[CONTRIBUTIONS].isna().tolist() == [True, False]
