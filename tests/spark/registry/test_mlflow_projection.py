"""MLflow as a projection of the lake: loads, mends, repeats, and keeps quiet."""

import pandas as pd
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression

from tidemill.registry import Deployments, Manifest, project, save_model
from tidemill.registry.mlflow_projection import store_uri

ROWS = [(float(x), 2.0 * x + 1) for x in range(8)]


@pytest.fixture
def champion_of_line(spark, lake):
    """A linear model of y = 2x + 1, saved and CHAMPION as version 1 of `line`."""
    frame = spark.createDataFrame(ROWS, "x double, label double")
    model = Pipeline(stages=[VectorAssembler(inputCols=["x"], outputCol="features"), LinearRegression()]).fit(frame)
    deployments = Deployments(lake.ledger, "line")
    _save(lake, model, deployments, 1)
    return model, deployments


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
        evidence = {"metrics": {"rmse": 0.1, "r2": float("nan")}} if state == "CHALLENGER" else None
        deployments.move(version, state, run_id=f"r{version}", reason="test", evidence=evidence)


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

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    try:
        mlflow.set_tracking_uri(store_uri(lake))
        mlflow.set_registry_uri(store_uri(lake))
        loaded = mlflow.spark.load_model("models:/line@champion")
        by_run = mlflow.spark.load_model(f"runs:/{version.run_id}/model")
        answers = mlflow.pyfunc.load_model("models:/line@champion").predict(pd.DataFrame({"x": [10.0]}))
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])
    rows = spark.createDataFrame([(10.0,)], "x double")
    assert loaded.transform(rows).first()["prediction"] == pytest.approx(21.0)
    assert by_run.transform(rows).first()["prediction"] == pytest.approx(21.0)
    assert list(answers) == pytest.approx([21.0])

    # Measured again when the machine's clock is years behind.
    monkeypatch.setattr("mlflow.tracking._tracking_service.client.get_current_time_millis", lambda: 1000)
    deployments.move(1, "CHAMPION", run_id="r3", reason="test", evidence={"metrics": {"rmse": 0.3}})
    project(lake, "line")
    assert client.get_run(run.info.run_id).data.metrics["test_rmse"] == 0.3


def test_a_lake_that_is_not_local_is_named(lake):
    from tidemill.errors import SetupError
    from tidemill.lake import Lake

    with pytest.raises(SetupError, match="local path"):
        project(Lake("s3a://bucket/lake"), "line")
