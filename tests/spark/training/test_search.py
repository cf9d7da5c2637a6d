"""The search against a loop written by hand, its failures, and what it must never see."""

import json

import pandas as pd
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import GBTClassifier, LogisticRegression
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.feature import Imputer, OneHotEncoder, StandardScaler, StringIndexer, VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.features import feature_pipeline, max_categories
from tidemill.training.engines.spark import fit_family
from tidemill.training.problem import Problem
from tidemill.training.tuning.search import cross_validate
from tidemill.training.tuning.staged_boosting import group_by_shared_fit, predict_trial
from tidemill.training.tuning.tuner import Trial

from .conftest import PLAN

AUC = Problem(task="binary", metric="areaUnderROC", n_classes=2, seed=7)


def by_hand(frame, params, *, leaking=False):
    """Cross-validate a logistic regression with MLlib's own stages; ``leaking`` fits the features on all rows."""
    features = Pipeline(
        stages=[
            Imputer(inputCols=["x", "z"], outputCols=["xi", "zi"], strategy="median", relativeError=1e-6),
            VectorAssembler(inputCols=["xi", "zi"], outputCol="numbers"),
            StandardScaler(inputCol="numbers", outputCol="scaled", withMean=True, withStd=True),
            StringIndexer(inputCol="carrier", outputCol="index", handleInvalid="keep"),
            OneHotEncoder(inputCol="index", outputCol="hot", dropLast=False),
            VectorAssembler(inputCols=["scaled", "hot"], outputCol="features"),
        ]
    )
    values = []
    for fold in (0, 1):
        train, held_out = frame.where(F.col("fold") != fold), frame.where(F.col("fold") == fold)
        fitted = features.fit(frame if leaking else train)
        model = LogisticRegression(maxIter=50, **params).fit(fitted.transform(train))
        values.append(BinaryClassificationEvaluator().evaluate(model.transform(fitted.transform(held_out))))
    return values


@pytest.mark.long("a search and the same loop by hand")
def test_values_are_those_of_a_loop_by_hand_with_the_features_fitted_inside_each_fold(frames):
    params = {"regParam": 0.05, "elasticNetParam": 0.0}
    found = cross_validate(frames["binary"], PLAN, [Trial(0, "logistic_regression", params)], [0, 1], AUC)
    values = [row.value for row in found.rows]
    assert values == pytest.approx(by_hand(frames["binary"], params), abs=1e-4)
    # The same loop with features that have seen the validation rows gives something else.
    leaked = by_hand(frames["binary"], params, leaking=True)
    assert max(abs(a - b) for a, b in zip(values, leaked, strict=True)) > 1e-3
    assert found.best_value == pytest.approx(sum(values) / 2)


@pytest.mark.long("two searches by MLlib over two families")
def test_one_trials_failure_is_its_own_and_two_searches_agree(frames):
    trials = [
        Trial(0, "random_forest", {"numTrees": 3, "maxDepth": 3}),
        Trial(1, "random_forest", {"numTrees": 3, "maxDepth": 99}),
        Trial(2, "logistic_regression", {"regParam": 0.1, "maxIter": 5}),
    ]
    found = cross_validate(frames["binary"], PLAN, trials, [0, 1], AUC)
    assert [(row.trial, row.fold, row.state) for row in found.rows] == [
        (0, 0, "SUCCEEDED"), (1, 0, "FAILED"), (2, 0, "SUCCEEDED"), (0, 1, "SUCCEEDED"), (1, 1, "FAILED"), (2, 1, "SUCCEEDED"),
    ]  # fmt: skip
    failed = [row for row in found.rows if row.trial == 1]
    assert [row.value for row in failed] == [None, None]
    assert "maxDepth" in failed[0].error and "\n" not in failed[0].error
    assert failed[1].error == f"not counted, since it failed in an earlier fold: {failed[0].error}"
    assert failed[1].seconds == 0.0 < failed[0].seconds
    row = found.rows[0].row()
    assert json.loads(row["params"]) == {"numTrees": 3, "maxDepth": 3}
    assert (row["family"], row["metric"], row["engine"], row["error"]) == ("random_forest", "areaUnderROC", "spark", None)

    again = cross_validate(frames["binary"], PLAN, trials, [0, 1], AUC)
    assert [row.value for row in again.rows] == [row.value for row in found.rows]
    assert again.best == found.best


def test_a_metric_that_is_no_number_fails_the_trial_and_where_all_fail_the_families_are_named(frames):
    one_class = frames["binary"].where("fold = 1 OR label = 0")
    trials = [Trial(0, "logistic_regression", {"maxIter": 2}), Trial(1, "random_forest", {"maxDepth": 99})]
    with pytest.raises(StepError) as caught:
        cross_validate(one_class, PLAN, trials, [0, 1], AUC)
    message = str(caught.value)
    assert "none of 2 trials succeeded; logistic_regression: areaUnderROC is nan" in message
    assert "random_forest: " in message and "maxDepth" in message


def test_trials_that_differ_in_rounds_alone_share_one_fit():
    def boosted(number, **params):
        return Trial(number, "gradient_boosted_trees", params)

    trials = [boosted(0, maxIter=3, maxDepth=2), boosted(1, maxIter=6, maxDepth=2), boosted(2, maxIter=6, maxDepth=3)]
    trials += [boosted(3, maxDepth=2), Trial(4, "random_forest", {"numTrees": 3}), Trial(5, "random_forest", {"numTrees": 4})]
    assert [[trial.number for trial in group] for group in group_by_shared_fit(trials, "regression")] == [[1, 0], [2], [3], [4], [5]]
    assert [[trial.number for trial in group] for group in group_by_shared_fit(trials, "multiclass")] == [[0], [1], [2], [3], [4], [5]]


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_the_first_rounds_of_a_long_fit_are_the_short_fit(frames, task):
    problem = Problem(task, "logLoss" if task == "binary" else "rmse", 2 if task == "binary" else 0, seed=7)
    features = feature_pipeline(PLAN, ["tree"]).fit(frames[task])
    vectors = features.transform(frames[task]).select("label", "features_tree")
    long, short = (
        Trial(number, "gradient_boosted_trees", {"maxIter": rounds, "maxDepth": 3, "subsamplingRate": 0.8})
        for number, rounds in enumerate((5, 3))
    )
    fitted = fit_family(long, vectors, max_categories(features), problem)
    alone = fit_family(short, vectors, max_categories(features), problem)

    def values(predictions):
        columns = ["prediction"] + ([vector_to_array("probability")[1].alias("p")] if task == "binary" else [])
        return predictions.select("label", *columns).toPandas()

    shared = values(predict_trial(fitted, short, long, vectors, task))
    pd.testing.assert_frame_equal(shared, values(alone.transform(vectors)), rtol=1e-12)
    assert not shared.equals(values(predict_trial(fitted, long, long, vectors, task)))


@pytest.mark.long("boosts in a search, and four times by hand")
def test_a_shared_fit_gives_each_trial_the_value_of_its_own(frames):
    trials = [Trial(number, "gradient_boosted_trees", {"maxIter": rounds, "maxDepth": 3}) for number, rounds in enumerate((2, 4))]
    together = cross_validate(frames["binary"], PLAN, trials, [0, 1], AUC)
    vectors = {}
    for fold in (0, 1):
        train = frames["binary"].where(F.col("fold") != fold)
        features = feature_pipeline(PLAN, ["tree"]).fit(train)
        vectors[fold] = (features.transform(train), features.transform(frames["binary"].where(F.col("fold") == fold)))
    for trial in trials:
        for fold, (train, held_out) in vectors.items():
            model = GBTClassifier(featuresCol="features_tree", maxDepth=3, maxIter=trial.params["maxIter"], seed=7).fit(train)
            alone = BinaryClassificationEvaluator().evaluate(model.transform(held_out))
            value = next(row.value for row in together.rows if (row.trial, row.fold) == (trial.number, fold))
            assert value == pytest.approx(alone, abs=1e-4)
