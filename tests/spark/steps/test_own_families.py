"""An Estimator beside the spec as a model family, and what is done to the probabilities of the one that is chosen."""

import numpy as np
import pandas as pd
import pytest

from tidemill.errors import SpecError, StepError
from tidemill.model_registry import load_model
from tidemill.model_registry.predict import predict
from tidemill.steps.train.step import train
from tidemill.training.adjustment import AdjustedProbabilities

FUNCTIONS = """
import os
import re
import sys

from pyspark.ml import Estimator, Model
from pyspark.ml.functions import array_to_vector
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasFeaturesCol, HasLabelCol
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import functions as F
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import Binarizer


class Mine(LogisticRegression):
    encoding = "tree"


class NoEstimator(Binarizer):
    pass


class Leaves(LogisticRegression):
    def _fit(self, rows):
        sys.exit(0)


class Freezes(LogisticRegression):
    def _fit(self, rows):
        re.match("(a+)+$", "a" * 64 + "b")


class Grows(LogisticRegression):
    def _fit(self, rows):
        if rows.count() > 100:  # those of all folds together
            re.match("(a+)+$", "a" * 64 + "b")
        return super()._fit(rows)


class Crashes(LogisticRegression):
    def _fit(self, rows):
        os._exit(3)


class Counts(Estimator, HasFeaturesCol, HasLabelCol):
    encoding = "tree"

    def _fit(self, rows):
        return Counted(rows.where("label = 1").count() / rows.count())


class Counted(Model, DefaultParamsReadable, DefaultParamsWritable):
    share = Param(Params._dummy(), "share", "", TypeConverters.toFloat)

    def __init__(self, share=0.0):
        super().__init__()
        self._set(share=share)

    def _transform(self, rows):
        share = self.getOrDefault("share")
        return rows.withColumn("prediction", F.lit(float(share > 0.5))).withColumn(
            "probability", array_to_vector(F.array(F.lit(1 - share), F.lit(share)))
        )


class Astray(LogisticRegression):
    encoding = "trees"
"""


@pytest.fixture
def context(spark, lake, make_context, tmp_path):
    """The context of train over 200 rows, ``functions.py`` beside the spec; the trials that are declared, and more of training."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    rng = np.random.default_rng(3)
    x = rng.normal(5, 2, 200)
    data = pd.DataFrame({"id": range(200), "x": x, "y": x + rng.normal(0, 2, 200) > 7})
    data["split"] = np.where(data.id < 160, "train", "test")
    frame = spark.createDataFrame(data).selectExpr("*", "CASE WHEN id < 160 THEN CAST(id % 2 AS INT) END AS fold")
    version = lake.replace(frame, "gold.late_dataset", meta={})

    def make(models, **training):
        declared = {
            "pipeline": "late",
            "sources": {"raw": {"format": "csv", "path": "raw.csv"}},
            "dataset": {"from": "silver.rows", "key": ["id"], "label": "y"},
            "features": {"numeric": {"columns": ["x"]}},
            "training": {"task": "binary", "folds": 2, "tuner": {"strategy": "grid"}, "models": models, **training},
        }
        return make_context(declared, "train", {"gold.late_dataset": version})

    return make


@pytest.mark.long("searches, calibrates, evaluates and scores")
def test_an_estimator_of_ones_own_is_searched_calibrated_and_given_a_threshold(context, lake, spark):
    models = {"mine": {"python": "functions.Mine", "space": {"regParam": [0.01, 0.1]}}, "xgboost": {"n_estimators": 1, "max_depth": 1}}
    result = train(context(models, balance="weights", calibrate="sigmoid", threshold={"at_recall": 0.95}, tuner={"strategy": "grid"}))
    rows = lake.ledger.rows("ops.trials", run_id="r1")
    assert {(row["family"], row["engine"], row["library"].split()[0], row["state"]) for row in rows if row["family"] != "mine"} == {
        ("xgboost", "tasks", "xgboost", "SUCCEEDED")
    }
    # Its weights of rows are not known to be heeded: the trials fail, and the rest goes on.
    mine = [row for row in rows if row["family"] == "mine"]
    assert {row["state"] for row in mine} == {"FAILED"} and "mine does not support sample weights" in mine[0]["error"]
    assert any("2 of 3 trials failed" in note for note in result.notes)

    result = train(context({"mine": models["mine"]}, calibrate="sigmoid", threshold={"at_recall": 0.95}))
    model, manifest = load_model(lake, "late", result.outputs["models.late"])
    assert (manifest.family, manifest.library.split()[0]) == ("mine", "pyspark")
    assert [name for name in manifest.code if name.endswith("_functions")], "the file is kept with the model"
    assert isinstance(model.stages[-1], AdjustedProbabilities)
    limit = model.stages[-1].getOrDefault("threshold")
    scored = predict(model, manifest, lake.read(spark, "gold.late_dataset")).toPandas()
    assert (scored["prediction"] == (scored["probability"] >= limit)).all()
    found = scored[scored["split"] == "train"]
    assert found[found["y"]]["prediction"].mean() > 0.9 and limit < 0.5
    assert found["probability"].mean() == pytest.approx(found["y"].mean(), abs=0.03)
    assert [row["slot"] for row in lake.ledger.rows("ops.importances", model_version=manifest.version)] == ["x"]


@pytest.mark.long("trials that are ended by their time limit")
def test_a_fit_that_leaves_hangs_or_crashes_is_one_trials_failure(context, lake):
    errors = {
        "freezes": "stopped after 10 seconds, as training.tuner.trial_timeout says",
        "crashes": "its process ended without a result",
        "leaves": "functions.Leaves called sys.exit(0) (functions.py, line",
    }
    own = {name: {"python": f"functions.{name.capitalize()}"} for name in (*errors, "mine", "counts")}
    models = {**own, "hist_gradient_boosting": {"max_iter": 5}}
    result = train(context(models, tuner={"strategy": "grid", "trial_timeout": "10s"}))
    rows = {row["family"]: row for row in lake.ledger.rows("ops.trials", run_id="r1") if row["fold"] == 0}
    assert {name: row["error"] for name, row in rows.items() if row["state"] == "SUCCEEDED"} == dict.fromkeys(
        ("mine", "counts", "hist_gradient_boosting")
    )
    for name, error in errors.items():
        assert error in rows[name]["error"]
    assert rows["counts"]["value"] < rows["mine"]["value"]
    assert load_model(lake, "late", result.outputs["models.late"])[1].family in ("mine", "hist_gradient_boosting")


@pytest.mark.long("a fit that is ended by its time limit")
def test_a_final_fit_that_hangs_fails_the_step_with_the_family_and_the_limit(context):
    message = r"^train: grows \{\} cannot be fitted on all training rows: stopped after 8 seconds, as training\.tuner\.trial_timeout says$"
    with pytest.raises(StepError, match=message):
        train(context({"grows": {"python": "functions.Grows"}}, tuner={"strategy": "grid", "trial_timeout": "8s"}))


def test_what_cannot_be_a_family_is_named(context):
    with pytest.raises(StepError, match=r"functions.NoEstimator is no Estimator with the params featuresCol and labelCol"):
        train(context({"mine": {"python": "functions.NoEstimator"}}))
    with pytest.raises(StepError, match=r"functions.Astray.encoding is 'trees', expected one of linear, tree, positive"):
        train(context({"mine": {"python": "functions.Astray"}}))
    with pytest.raises(StepError, match=r"training.models.mine: functions.Mine has no parameter 'regPram'; did you mean 'regParam'\?"):
        train(context({"mine": {"python": "functions.Mine", "space": {"regPram": 0.1}}}))
    with pytest.raises(SpecError, match=r"xgboost has no parameter 'maxdepth'; did you mean 'max_depth'\?"):
        train(context({"xgboost": {"maxdepth": 3}}))
