"""Families that learn from no label: clusters by MLlib, what finds anomalies in tasks."""

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.clustering import KMeans
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F
from sklearn.ensemble import IsolationForest
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture

from tidemill.evaluation import compute_metrics
from tidemill.evaluation.unsupervised import SingleClusterError
from tidemill.features import feature_pipeline
from tidemill.learners.custom import EstimatorFamily
from tidemill.training.engines.choice import Engines
from tidemill.training.folds import ORDER
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.tuning.search import cross_validate
from tidemill.training.tuning.tuner import Trial

from .conftest import PLAN

CLUSTERING = Problem("clustering", "silhouette", 0, seed=7, own={"mine": EstimatorFamily.of("mine", "functions.Mine", KMeans)})
ANOMALY = Problem("anomaly", "areaUnderPR", 2, seed=7)


@pytest.fixture(scope="module")
def frame(frames):
    """The rows of a binary label, which clusters do not look at."""
    return frames["binary"]


def test_a_fold_is_judged_by_its_own_rows_in_clusters_of_the_others(frame):
    trials = [Trial(0, "kmeans", {"k": 3}), Trial(1, "mine", {"k": 3})]
    rows = {
        row.trial: row for row in cross_validate(frame.withColumn("label", F.lit(None).cast("double")), PLAN, trials, [0], CLUSTERING).rows
    }
    features = feature_pipeline(PLAN, ["linear"]).fit(frame.where("fold != 0"))
    train, held_out = (features.transform(frame.where(side)) for side in ("fold != 0", "fold = 0"))
    model = KMeans(featuresCol="features_linear", k=3, seed=7, maxIter=50).fit(train)
    found = model.transform(held_out).select(vector_to_array("features_linear").alias("v"), "prediction").toPandas()
    expected = silhouette_score(np.stack(found["v"]), found["prediction"], metric="sqeuclidean")
    assert rows[0].value == pytest.approx(expected, abs=1e-9)
    assert rows[1].value is not None and rows[1].value > 0


def test_one_cluster_tells_nothing_apart(frame):
    features = feature_pipeline(PLAN, ["linear"]).fit(frame)
    predictions = features.transform(frame).withColumn("prediction", F.lit(0))
    with pytest.raises(SingleClusterError, match="found one cluster only, of all 300 rows"):
        compute_metrics(predictions, "clustering")


@pytest.mark.parametrize("name", ["bisecting_kmeans", "gaussian_mixture"])
def test_clusters_are_saved_and_loaded(frame, tmp_path, name):
    model = refit(frame, PLAN, Trial(0, name, {"k": 2, "maxIter": 5}), CLUSTERING)
    model.write().overwrite().save(str(tmp_path / "model"))
    raw = frame.select(*PLAN.columns)
    found, loaded = (each.transform(raw).toPandas() for each in (model, PipelineModel.load(str(tmp_path / "model"))))
    assert found["prediction"].equals(loaded["prediction"]) and set(found["prediction"]) <= {0, 1}
    if name == "gaussian_mixture":
        shares = np.stack([vector.toArray() for vector in found["probability"]])
        assert np.allclose(shares.sum(axis=1), 1) and (shares.argmax(axis=1) == found["prediction"]).all()


@pytest.mark.parametrize(
    ("name", "params", "twin"),
    [
        ("isolation_forest", {"n_estimators": 20}, IsolationForest(n_estimators=20, random_state=7)),
        ("gaussian_mixture", {"k": 2}, GaussianMixture(2, random_state=7, reg_covar=1e-3)),
    ],
)
def test_strangeness_ranks_as_scikit_learn_does_and_is_saved(frame, tmp_path, name, params, twin):
    engines = Engines({name: "tasks"}, str(tmp_path))
    model = refit(frame, PLAN, Trial(0, name, params), ANOMALY, engines, threshold=0.9)
    stage = model.stages[-2]
    stage.write().overwrite().save(str(tmp_path / "model"))
    scored = PipelineModel(model.stages[:-2]).transform(frame)
    column = stage.getOrDefault("featuresCol")
    found = scored.select(ORDER, vector_to_array(column).alias("v"), column)
    told = stage.transform(found).withColumn("p", vector_to_array("probability")[1]).toPandas().sort_values(ORDER)
    loaded = type(stage).load(str(tmp_path / "model")).transform(found).withColumn("p", vector_to_array("probability")[1])
    assert told["p"].equals(loaded.toPandas().sort_values(ORDER)["p"])
    vectors = np.stack(told["v"])
    strange = -twin.fit(vectors).score_samples(vectors)
    shares = np.searchsorted(np.sort(strange), strange) / len(strange)
    assert np.allclose(told["p"], shares, atol=1e-9)
    called = model.transform(frame).where("prediction = 1").count()
    assert called == int((shares >= 0.9).sum())


def test_families_suit_the_tasks_that_they_say():
    assert CLUSTERING.own["mine"].tasks == ("binary", "multiclass", "regression", "clustering")
    with pytest.raises(Exception, match="unknown model family for `task: anomaly`; known: gaussian_mixture, isolation_forest"):
        ANOMALY.family("kmeans")
