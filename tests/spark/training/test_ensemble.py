"""Blends and fit_stacks against scikit-learn and a solver on the same rows; members' predictions against fits of their own."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss

from tidemill.learners.class_labels import class_metadata
from tidemill.training.engines.choice import Engines
from tidemill.training.ensembles import member_predictions
from tidemill.training.ensembles.combined import LEAST, AsidePredictions, member_column
from tidemill.training.ensembles.combiners import fit_blends, fit_stack
from tidemill.training.ensembles.ensemble import try_ensemble
from tidemill.training.ensembles.member_predictions import read_predictions, write_predictions
from tidemill.training.folds import ORDER
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.selection import SearchResult, select_trial
from tidemill.training.tuning.search import Search
from tidemill.training.tuning.staged_boosting import list_rounds, with_mean_rounds
from tidemill.training.tuning.tuner import Trial

from .conftest import PLAN

CLASSES = {"binary": 2, "multiclass": 3, "regression": 0}
ROWS = 600


def problem_of(task):
    return Problem(task, {"binary": "logLoss", "multiclass": "logLoss", "regression": "rmse"}[task], CLASSES[task], seed=7)


def said(task):
    """Folds, labels, and what three members say of the rows, each with another error: (fold, label, [rows × classes or 1])."""
    rng = np.random.default_rng(3)
    classes = CLASSES[task]
    score = rng.normal(size=(ROWS, max(classes, 1)))
    if not classes:
        label = 100 + 20 * score[:, 0]
        members = [100 + 20 * (0.9 * score + rng.normal(0.1, error, score.shape)) for error in (0.3, 0.5, 2.0)]
        return np.arange(ROWS) % 3, label, members
    label = (2 * score + rng.gumbel(size=score.shape)).argmax(axis=1).astype(float)
    raised = [np.exp(scale * score + rng.normal(0, error, score.shape)) for scale, error in ((2.0, 1.0), (4.0, 1.5), (0.3, 1.0))]
    return np.arange(ROWS) % 3, label, [each / each.sum(axis=1, keepdims=True) for each in raised]


def frame_of(spark, task):
    fold, label, members = said(task)
    rows = [(int(f), float(y), *[each[place].tolist() for each in members]) for place, (f, y) in enumerate(zip(fold, label, strict=True))]
    columns = ", ".join(f"{member_column(place)} ARRAY<DOUBLE>" for place in range(3))
    frame = spark.createDataFrame(rows, f"fold INT, label DOUBLE, {columns}")
    label = F.col("label").alias("label", metadata=class_metadata(CLASSES[task])) if CLASSES[task] else F.col("label")
    return frame.select("fold", label, *map(member_column, range(3)))


def predictions(frame, stages, task):
    for stage in stages:
        frame = stage.transform(frame)
    assert not [name for name in frame.columns if name.startswith("_") or name == "rawPrediction"]
    column = F.col("prediction") if task == "regression" else vector_to_array("probability")
    found = frame.select(column.alias("p"), "prediction").toPandas()
    if task != "regression":
        assert (np.stack(found["p"]).argmax(axis=1) == found["prediction"]).all()
    return np.stack(found["p"])


@pytest.mark.parametrize("task", CLASSES)
def test_a_blend_has_the_weights_of_least_squares_of_the_rows_it_may_see(spark, task):
    fold, label, members = said(task)
    truth = np.eye(CLASSES[task])[label.astype(int)] if CLASSES[task] else label[:, None]

    def solved(rows):
        scale = np.var(truth)
        start = np.full(3, 1 / 3)
        return minimize(
            lambda w: np.mean((sum(wi * p[rows] for wi, p in zip(w, members, strict=True)) - truth[rows]) ** 2) / scale,
            start,
            method="SLSQP",
            bounds=[(0, 1)] * 3,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-14},
        ).x

    frame = frame_of(spark, task)
    whole, by_fold = fit_blends(frame, 3, [0, 1, 2], problem_of(task))
    assert np.allclose(whole.weights, solved(fold >= 0), atol=1e-4)
    for held_out, combiner in by_fold.items():
        assert np.allclose(combiner.weights, solved(fold != held_out), atol=1e-4)
    blended = sum(weight * p for weight, p in zip(whole.weights, members, strict=True))
    assert np.allclose(predictions(frame, whole.stages, task).reshape(blended.shape), blended)


@pytest.mark.parametrize("task", CLASSES)
def test_a_stack_is_scikit_learns_on_the_same_rows(spark, task):
    _, label, members = said(task)
    frame = frame_of(spark, task)
    combiner = fit_stack(frame, 3, problem_of(task))
    found = predictions(frame, combiner.stages, task)
    if task == "regression":
        x = np.hstack(members)
        scaled = x / x.std(axis=0, ddof=1)
        model = Ridge(alpha=1.0).fit(scaled, label)
        assert np.allclose(combiner.weights, model.coef_ / x.std(axis=0, ddof=1), atol=1e-3)
        assert np.allclose(found, model.predict(scaled), rtol=1e-4)
        return
    held = [np.clip(p, LEAST, 1 - LEAST) for p in members]
    x = np.stack([np.log(p[:, 1] / (1 - p[:, 1])) for p in held], axis=1) if task == "binary" else np.log(np.hstack(held))
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(x, label)
    assert np.allclose(found, model.predict_proba(x), atol=1e-3)
    own = model.coef_[0] if task == "binary" else [np.mean([model.coef_[c, 3 * place + c] for c in range(3)]) for place in range(3)]
    assert np.allclose(combiner.weights, own, atol=1e-3)


def test_what_a_member_has_no_number_for_the_ensemble_has_none_for(spark):
    frame = frame_of(spark, "binary")
    silent = frame.limit(1).withColumn(member_column(1), F.array(F.lit(float("nan")), F.lit(float("nan"))))
    for combiner in (fit_blends(frame, 3, [0, 1, 2], problem_of("binary"))[0], fit_stack(frame, 3, problem_of("binary"))):
        rows = silent
        for stage in combiner.stages:
            rows = stage.transform(rows)
        assert np.isnan(rows.select(vector_to_array("probability")[1]).first()[0])
    nothing = spark.createDataFrame([(None, None)], "probability STRUCT<a: INT>, prediction DOUBLE")
    assert np.isnan(AsidePredictions("m", 0).transform(nothing.drop("probability")).first()["m"]).all()


def test_members_speak_of_the_rows_of_a_fold_as_models_that_have_not_seen_it(spark, frames, tmp_path):
    frame, problem = frames["multiclass"], problem_of("multiclass")
    trials = [Trial(0, "logistic_regression", {"regParam": 0.01}), Trial(1, "naive_bayes", {"smoothing": 0.5})]
    engines = Engines({"logistic_regression": "tasks", "naive_bayes": "spark"}, str(tmp_path))
    search = Search(frame, PLAN, list(engines.by_family), problem, engines=engines)
    write_predictions(spark, search, trials, [1], str(tmp_path / "said"))
    search.close()
    found = read_predictions(spark, 2, str(tmp_path / "said"), problem).toPandas()
    assert len(found) == frame.where("fold = 1").count() and set(found["fold"]) == {1}
    for place, trial in enumerate(trials):
        model = refit(frame.where("fold = 0"), PLAN, trial, problem, engines)
        alone = model.transform(frame.where("fold = 1")).select("label", vector_to_array("probability").alias("p")).toPandas()
        pairs = [
            sorted(map(tuple, np.column_stack([each["label"], np.stack(each[name])]).round(6)))
            for each, name in ((alone, "p"), (found, member_column(place)))
        ]
        assert np.allclose(*pairs, atol=1e-5)


def test_one_that_fails_leaves_out_those_that_have_not_begun(spark, tmp_path, monkeypatch):
    begun = []

    def fit(_finder, _trial, fold, _place):
        begun.append(fold)
        if fold == 0:
            raise ValueError("no model")
        time.sleep(0.3)

    monkeypatch.setattr(member_predictions, "_fit_by_spark", fit)
    with pytest.raises(ValueError, match="no model"):
        write_predictions(spark, SimpleNamespace(engines=Engines()), [Trial(0, "naive_bayes", {})], range(12), str(tmp_path))
    assert len(begun) <= 4


def test_a_note_names_the_trial_that_was_chosen_also_where_it_is_not_the_best():
    trials = [Trial(number, "naive_bayes", {"smoothing": float(number)}) for number in (0, 1)]
    found = SearchResult((), {0: 0.5, 1: 0.4}, trials[0])
    tried = try_ensemble("blend", None, SimpleNamespace(problem=problem_of("binary")), found, trials, [0, 1], scratch="")
    assert tried.notes == ("ensemble: 1 family succeeded, a blend needs two; the candidate is naive_bayes, trial 0",)


@pytest.mark.long("a search and the folds once more")
def test_a_member_that_stopped_early_counts_as_it_is_with_the_rounds_that_all_folds_settled_on(spark, frames, tmp_path):
    frame, problem, folds = frames["binary"].withColumn("fold", F.pmod(ORDER, F.lit(2)).cast("int")), problem_of("binary"), [0, 1]
    boosted = {"max_iter": 200, "learning_rate": 0.1, "max_leaf_nodes": 4, "early_stopping_rounds": 5}
    trials = [Trial(0, "hist_gradient_boosting", boosted), Trial(1, "logistic_regression", {"regParam": 50.0})]
    engines = Engines(dict.fromkeys(("hist_gradient_boosting", "logistic_regression"), "tasks"), str(tmp_path))
    search = Search(frame, PLAN, list(engines.by_family), problem, engines=engines)
    found = select_trial(search.run(trials, folds), trials, problem.metric)
    tried = try_ensemble("stack", spark, search, found, trials, folds, scratch=str(tmp_path))
    search.close()
    assert len(set(list_rounds(trials[0], found.rows))) == 2, "so that no fold has both the best rounds and those settled on"
    losses = []
    for fold in folds:
        model = refit(frame.where(F.col("fold") != fold), PLAN, with_mean_rounds(trials[0], found.rows, problem), problem, engines)
        held_out = model.transform(frame.where(F.col("fold") == fold)).select("label", vector_to_array("probability").alias("p")).toPandas()
        losses.append(log_loss(held_out["label"], np.stack(held_out["p"])))
    assert found.means[0] < np.mean(losses) < found.means[1]
    assert f"{np.mean(losses):.4g} for the best of them alone" in tried.notes[0]
