"""MLflow as a projection of the lake: loads, mends, repeats, and keeps quiet."""

import json
import subprocess
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import SQLTransformer, VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import functions as F

from tidemill.lake.ops import MetricRow, StepRow
from tidemill.model_registry import Deployments, Manifest, project, save_model
from tidemill.model_registry.mlflow.target import store_uri
from tidemill.model_registry.predict import predict

ROWS = [(float(x), 2.0 * x + 1) for x in range(8)]


@pytest.fixture
def champion_of_line(spark, lake):
    """A linear model of y = 2x + 1, saved and CHAMPION as version 1 of `line`."""
    frame = spark.createDataFrame(ROWS, "x double, label double")
    model = Pipeline(stages=[VectorAssembler(inputCols=["x"], outputCol="features"), LinearRegression()]).fit(frame)
    deployments = Deployments(lake.ledger, "line")
    _save(lake, model, deployments, 1)
    return model, deployments


@contextmanager
def _store(lake):
    """Let MLflow look into the lake's own store."""
    import mlflow

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    try:
        mlflow.set_tracking_uri(store_uri(lake))
        mlflow.set_registry_uri(store_uri(lake))
        yield
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])


def _save(lake, model, deployments, version):
    manifest = Manifest(
        pipeline="line",
        version=version,
        task="regression",
        family="linear_regression",
        params={"regParam": 0.5},
        metric="rmse",
        cv_value=0.25,
        classes=None,
        label_type="double",
        positive=None,
        feature_columns={"x": "double"},
        run_id=f"r{version}",
        dataset_version=3,
        dataset_inputs={"silver.weather": 2, "silver.flights": 9},
    )
    save_model(lake, model, manifest)
    for state in ("CANDIDATE", "CHALLENGER", "CHAMPION"):
        deployments.move(version, state, run_id=f"r{version}", reason="test")
    _measure(lake, version, f"r{version}", 0.1)


def _measure(lake, version, run_id, rmse):
    """Record what evaluate does: metrics, then the end of the step."""
    names = {"pipeline": "line", "run_id": run_id}
    values = {"rmse": rmse, "r2": float("nan")}
    lake.ledger.append(
        [MetricRow(**names, model_version=version, split="test", metric=name, value=value) for name, value in values.items()]
    )
    lake.ledger.append([StepRow(**names, node="evaluate", state="SUCCEEDED")])


class _ClockOf1970:
    """A machine's clock that was set back."""

    @staticmethod
    def now(zone):
        return datetime(1970, 1, 1, 0, 0, 1, tzinfo=zone)


def test_projection_loads_repeats_and_follows_the_champion(spark, lake, champion_of_line, capfd, monkeypatch):
    model, deployments = champion_of_line
    project(lake, "line")
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")

    import mlflow
    import mlflow.spark

    client = mlflow.MlflowClient(store_uri(lake), store_uri(lake))
    version = client.get_model_version_by_alias("line", "champion")
    run = client.get_run(version.run_id)
    assert run.data.params == {"family": "linear_regression", "regParam": "0.5"}
    assert run.data.metrics == {"cv_rmse": 0.25, "test_rmse": 0.1}
    assert {key: run.data.tags[key] for key in ("run_id", "model_version", "dataset_version", "dataset_inputs")} == {
        "run_id": "r1",
        "model_version": "1",
        "dataset_version": "3",
        "dataset_inputs": '{"silver.flights": 9, "silver.weather": 2}',
    }
    assert version.tags["dataset_inputs"] == run.data.tags["dataset_inputs"]

    project(lake, "line")
    assert len(client.search_model_versions("name = 'line'")) == 1
    assert len(client.search_runs([run.info.experiment_id])) == 1

    _save(lake, model, deployments, 2)
    project(lake, "line")
    assert client.get_model_version_by_alias("line", "champion").tags["model_version"] == "2"
    assert client.get_model_version("line", "1").tags["state"] == "RETIRED"

    with _store(lake):
        loaded = mlflow.spark.load_model("models:/line@champion")
        by_run = mlflow.spark.load_model(f"runs:/{version.run_id}/model")
        answers = mlflow.pyfunc.load_model("models:/line@champion").predict(pd.DataFrame({"x": [10.0]}))
    rows = spark.createDataFrame([(10.0,)], "x double")
    assert loaded.transform(rows).first()["prediction"] == pytest.approx(21.0)
    assert by_run.transform(rows).first()["prediction"] == pytest.approx(21.0)
    assert list(answers["prediction"]) == pytest.approx([21.0])

    # Measured again, by a later run and by the same one, when the machine's clock is years behind.
    client.set_registered_model_alias("line", "champion", "1")
    for run_id in ("r9", "r1"):
        with monkeypatch.context() as patched:
            patched.setattr("tidemill.lake.ledger.datetime", _ClockOf1970)
            _measure(lake, 1, run_id, 0.3)
    project(lake, "line")
    assert client.get_run(run.info.run_id).data.metrics["test_rmse"] == 0.3
    [again] = client.search_runs([run.info.experiment_id], "tags.run_id = 'r9'")
    assert again.data.metrics == {"test_rmse": 0.3} and again.data.params == {}
    model = client.get_logged_model(run.outputs.model_outputs[0].model_id)
    assert {metric.run_id for metric in model.metrics if metric.key == "test_rmse"} == {run.info.run_id, again.info.run_id}
    assert client.get_model_version_by_alias("line", "champion").tags["model_version"] == "2"


def test_a_classifier_gives_its_classes_and_says_what_it_takes_and_needs(spark, lake):
    classes = ["not fraud", "fraud"]
    data = pd.DataFrame({"x": [-2.0, -1.0, 0.5, 1.0, 3.0, None], "colour": ["red", "blue", "red", None, "blue", "red"]})
    data["n"] = [1, 2, 3, 4, 5, 6]
    frame = spark.createDataFrame(data).selectExpr("CAST(n AS INT) AS n", "nullif(x, double('NaN')) AS x", "colour", "x > 0.7 AS y")
    version = lake.replace(frame, "gold.fraud_dataset", meta={})
    filled = SQLTransformer(statement="SELECT *, coalesce(x, 0.0D) AS z FROM __THIS__")
    stages = [filled, VectorAssembler(inputCols=["z"], outputCol="features"), LogisticRegression(regParam=0.01)]
    model = Pipeline(stages=stages).fit(frame.withColumn("label", F.coalesce(F.col("y"), F.lit(False)).cast("double")))
    manifest = Manifest(
        pipeline="fraud",
        version=1,
        task="binary",
        family="logistic_regression",
        params={},
        metric="f1",
        cv_value=0.5,
        classes=classes,
        label_type="string",
        positive="fraud",
        feature_columns={"n": "int", "x": "double", "colour": "string"},
        run_id="r1",
        dataset_version=version,
        library="xgboost 3.2.0",
    )
    save_model(lake, model, manifest)
    deployments = Deployments(lake.ledger, "fraud")
    for state in ("CANDIDATE", "CHALLENGER", "CHAMPION"):
        deployments.move(1, state, run_id="r1", reason="test")
    project(lake, "fraud")

    import mlflow

    with _store(lake):
        loaded = mlflow.pyfunc.load_model("models:/fraud@champion")
    given = data[::-1].drop(columns="n").assign(n=data["n"].astype(float), extra=1, colour=data["colour"].astype("category"))
    answers = loaded.predict(given)
    expected = predict(model, manifest, frame).toPandas().sort_values("n", ascending=False)
    assert list(answers.columns) == ["prediction", "probability", "score_error"] and list(answers.index) == [5, 4, 3, 2, 1, 0]
    assert list(answers["prediction"]) == list(expected["prediction"]) and set(answers["prediction"]) == set(classes)
    assert list(answers["probability"]) == pytest.approx(list(expected["probability"]))
    bad = loaded.predict(pd.DataFrame({"n": ["1", "one"], "x": [1.0, 2.0], "colour": ["red", "red"]}))
    assert list(bad["prediction"].notna()) == [True, False] and "n: 'one' is not a value of type int" in bad["score_error"][1]
    described = loaded.metadata
    assert described.signature.inputs.input_names() == ["n", "x", "colour"]
    assert described.signature.outputs.input_names() == ["prediction", "probability", "score_error"]
    assert described.metadata == {"feature_columns": dict(manifest.feature_columns)}
    folder = next((Path(lake.root) / "mlflow" / "fraud" / "models").glob("*/artifacts"))
    assert json.loads((folder / "input_example.json").read_text())["columns"] == ["n", "x", "colour"]
    requirements = (folder / "requirements.txt").read_text().splitlines()
    assert {line.partition("==")[0] for line in requirements} >= {"tidemill", "scikit-learn", "pyspark", "xgboost-cpu"}
    # In a process that finds no tidemill but in the model, workers of Spark included.
    code = "import sys, zipfile; from tidemill.model_registry.mlflow.model import _load_pyfunc; import tidemill; print(tidemill.__file__)"
    wheel = next((folder / "wheels").glob("*.whl"))
    ran = subprocess.run([sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(wheel)}, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == f"{wheel}/tidemill/__init__.py"
