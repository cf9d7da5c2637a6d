"""Every family on every task it suits: fitted, saved, loaded, and better than a guess."""

import math

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.functions import vector_to_array
from sklearn.metrics import accuracy_score, r2_score
from tests.tiers import parametrize_cover

from tidemill.families import FAMILIES, MLlibFamily, family_names
from tidemill.features import slot_names
from tidemill.training.importances import list_importances
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.tuning.tuner import Trial

from .conftest import PLAN

CHEAP = {
    "random_forest": {"numTrees": 5, "maxDepth": 4},
    "gradient_boosted_trees": {"maxIter": 4, "maxDepth": 3},
    "naive_bayes": {"smoothing": 0.5},
    "multilayer_perceptron": {"hiddenUnits": 4, "maxIter": 30},
    "factorization_machines": {"factorSize": 2, "stepSize": 0.1, "maxIter": 60},
}
# Those of other libraries are tested with the engine tasks.
CASES = [
    (task, name)
    for task in ("binary", "multiclass", "regression")
    for name in family_names(task)
    if isinstance(FAMILIES.get(name), MLlibFamily)
]


@pytest.mark.long("some families of MLlib run a hundred Spark jobs for one fit")
@parametrize_cover(("task", "name"), CASES)
def test_a_family_fits_saves_loads_and_beats_a_guess(frames, tmp_path, task, name):
    frame = frames[task]
    problem = Problem(task, "f1", {"binary": 2, "multiclass": 3, "regression": 0}[task], seed=7)
    model = refit(frame, PLAN, Trial(0, name, CHEAP.get(name, {"regParam": 0.01})), problem)
    assert all(stage.__class__.__module__.startswith("pyspark.ml") for stage in model.stages)
    model.write().overwrite().save(str(tmp_path / "model"))
    columns = ["label", "prediction"] + ([] if task == "regression" else [vector_to_array("probability").alias("p")])

    def scored(fitted):
        # The model needs the raw columns alone: no label, no fold.
        raw = fitted.transform(frame.select(*PLAN.columns, frame["label"].alias("truth"))).withColumnRenamed("truth", "label")
        return raw.select(*columns).toPandas()

    found, loaded = scored(model), scored(PipelineModel.load(str(tmp_path / "model")))
    assert found["prediction"].equals(loaded["prediction"])
    if task == "regression":
        assert r2_score(found["label"], found["prediction"]) > 0.3
        return
    probabilities = np.stack(found["p"])
    assert probabilities.shape == (len(found), problem.n_classes)
    assert np.allclose(probabilities.sum(axis=1), 1.0)
    assert (probabilities >= 0).all()
    assert (probabilities.argmax(axis=1) == found["prediction"]).mean() == 1.0
    # Bayes takes the columns for independent counts, which these are not: it is held to being no worse than a guess.
    lead = 0.0 if name == "naive_bayes" else 0.1
    assert accuracy_score(found["label"], found["prediction"]) > found["label"].value_counts(normalize=True).max() + lead
    assert np.array_equal(probabilities, np.stack(loaded["p"]))


@pytest.mark.long("fits three models of boosted trees twice")
def test_one_against_the_rest_divides_each_classs_probability_by_their_sum(frames):
    from pyspark.ml.classification import GBTClassifier
    from pyspark.sql import functions as F

    from tidemill.features import feature_pipeline

    frame = frames["multiclass"]
    problem = Problem("multiclass", "f1", 3, seed=7)
    model = refit(frame, PLAN, Trial(0, "gradient_boosted_trees", {"maxIter": 3, "maxDepth": 2}), problem)
    vectors = feature_pipeline(PLAN, ["tree"]).fit(frame).transform(frame)
    each, gains = [], []
    for label in range(3):
        against = vectors.select("features_tree", (F.col("label") == label).cast("double").alias("label"))
        alone = GBTClassifier(featuresCol="features_tree", maxIter=3, maxDepth=2, seed=7).fit(against)
        gains.append(alone.featureImportances.toArray())
        each.append(alone.transform(against).select(vector_to_array("probability")[1].alias("p")).toPandas()["p"])
    expected = np.stack(each, axis=1)
    expected = expected / expected.sum(axis=1, keepdims=True)
    found = np.stack(model.transform(frame).select(vector_to_array("probability").alias("p")).toPandas()["p"])
    assert np.allclose(found, expected, atol=1e-12)
    told = {row.slot: row.importance for row in list_importances(model, slot_names(model, "tree"), PLAN.columns)}
    assert np.allclose([told[slot] for slot in slot_names(model, "tree")], np.mean(gains, axis=0))


@pytest.mark.parametrize("name", [name for task, name in CASES if task == "multiclass"])
def test_a_class_that_no_training_row_has_keeps_its_place(frames, name):
    without = frames["multiclass"].where("label <> 2")
    params = {**CHEAP, "logistic_regression": {"maxIter": 3}, "linear_svm": {"maxIter": 3}}[name]
    model = refit(without, PLAN, Trial(0, name, params), Problem("multiclass", "f1", 3, seed=7))
    row = model.transform(frames["multiclass"]).select(vector_to_array("probability").alias("p")).first()
    assert len(row["p"]) == 3
    assert math.isclose(sum(row["p"]), 1.0)


@pytest.mark.parametrize(("categories", "declared", "expected"), [(2, None, 32), (105, None, 106), (105, 200, 200), (105, 64, 106)])
def test_trees_get_bins_for_every_category(spark, categories, declared, expected):
    params = {} if declared is None else {"maxBins": declared}
    for name in ("random_forest", "gradient_boosted_trees"):
        estimator = FAMILIES.get(name).build_estimator(params, task="binary", n_classes=2, seed=5, max_categories=categories)
        assert (estimator.getMaxBins(), estimator.getSeed()) == (expected, 5)
