"""MLflow shows the runs, trials and evaluations that the ledger records; it may fail, and is repaired."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import mlflow.data
import numpy as np
import pytest
from matplotlib.image import imread
from mlflow import MlflowClient
from sklearn.metrics import accuracy_score, confusion_matrix, precision_score, recall_score

from tidemill.lake import Lake
from tidemill.lake.ops import ConfusionRow, CurveRow, GateRow, MetricRow, RunRow, StepRow, TrialRow
from tidemill.model_registry import is_projected, lacks_mlflow, project
from tidemill.model_registry.mlflow import target as target_module
from tidemill.model_registry.mlflow.charts import build_matrix
from tidemill.model_registry.mlflow.target import store_uri
from tidemill.spec.models.pipeline import Registry
from tidemill.workflow.mlflow_projection import show_in_mlflow

T0 = datetime(2024, 5, 1, 12, tzinfo=UTC)
FOLDS = {0: [0.5, 0.75, 0.25], 1: [0.5, None, None], 2: [0.125, 0.25, None]}
STATES = {0: ["SUCCEEDED"] * 3, 1: ["SUCCEEDED", "FAILED", "FAILED"], 2: ["SUCCEEDED", "SUCCEEDED", "STOPPED"]}
LABELS = np.random.default_rng(3).random(500) < 0.3
PREDICTIONS = np.where(np.random.default_rng(4).random(500) < 0.7, LABELS, ~LABELS)


def record_run(lake, run_id="r1", state="FAILED", seed=0):
    """Record a run that trained three trials and whose candidate, version 1, was refused."""
    at = T0 + timedelta(minutes=seed)
    names = {"pipeline": "late", "run_id": run_id}
    lake.ledger.append([RunRow(**names, state="RUNNING", started_at=at)])
    rows = [
        TrialRow(
            **names, trial=trial, fold=fold, family="forest", params=json.dumps({"depth": trial + 1}), metric="areaUnderPR", value=value,
            seconds=1.5, state=STATES[trial][fold], engine="tasks", library="scikit-learn 1.0", recorded_at=at,
            error="no memory" if STATES[trial][fold] == "FAILED" else None,
        )
        for trial, values in FOLDS.items() for fold, value in enumerate(values)
    ]  # fmt: skip
    lake.ledger.append(rows)
    measured = {
        "accuracy": accuracy_score(LABELS, PREDICTIONS),
        "recall": recall_score(LABELS, PREDICTIONS),
        "specificity": recall_score(~LABELS, ~PREDICTIONS),
        "precision": precision_score(LABELS, PREDICTIONS),
    }
    metrics = [
        MetricRow(**names, model_version=1, split="test", metric=metric, value=value, lower=value - 0.1, rows=500, recorded_at=at)
        for metric, value in measured.items()
    ]
    metrics.append(MetricRow(**names, model_version=1, split="test", slice="carrier=OO", metric="recall", value=0.25, recorded_at=at))
    metrics.append(MetricRow(**names, model_version=0, split="test", metric="accuracy", value=0.7, recorded_at=at))
    lake.ledger.append(metrics)
    lake.ledger.append([GateRow(**names, model_version=1, gate="accuracy >= 0.9", value=measured["accuracy"], bound=0.9, passed=False)])
    pairs = [(label, prediction) for label in (False, True) for prediction in (False, True)]
    lake.ledger.append([
        ConfusionRow(
            **names, model_version=1, split="test", label=str(label).lower(), prediction=str(prediction).lower(),
            rows=float(np.sum((label == LABELS) & (prediction == PREDICTIONS))),
        )
        for label, prediction in pairs
    ])  # fmt: skip
    curve = [CurveRow(**names, model_version=1, split="test", curve="roc", x=x / 10, y=(x / 10) ** 0.5) for x in range(11)]
    lake.ledger.append(curve)
    dataset = {"gold.late_dataset": 4}
    steps = [
        StepRow(**names, node="ingest.flights", state="SUCCEEDED", outputs={"bronze.flights": 7, "bronze.flights_quarantine": 1}),
        StepRow(**names, node="train", state="SUCCEEDED", rows_in=900, inputs=dataset, outputs={"models.late": 1}),
        StepRow(**names, node="evaluate", state="FAILED", rows_in=500, inputs={**dataset, "models.late": 1}, error="refused"),
        StepRow(**names, node="deploy", state="BLOCKED"),
    ]
    lake.ledger.append(steps)
    lake.ledger.append([RunRow(**names, state=state, started_at=at, ended_at=at + timedelta(seconds=90), error="evaluate: refused")])
    return measured


def dump(lake):
    """Return every row of every table of the embedded store."""
    with closing(sqlite3.connect(Path(lake.root) / "mlflow.db")) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {table: sorted(map(repr, connection.execute(f'SELECT * FROM "{table}"'))) for table in tables}


def runs_of(client, kind):
    experiment = client.get_experiment_by_name("late")
    return client.search_runs([experiment.experiment_id], f"tags.kind = '{kind}'", order_by=["attributes.start_time ASC"])


def test_a_run_its_trials_and_its_evaluation_are_shown_once_and_again_after_a_loss(lake):
    measured = record_run(lake)
    project(lake, "late", description="Late or not?")
    client = MlflowClient(store_uri(lake), store_uri(lake))
    assert client.get_experiment_by_name("late").tags["mlflow.note.content"] == "Late or not?"
    [parent] = runs_of(client, "run")
    assert (parent.info.run_name, parent.info.status) == ("r1", "FAILED")
    assert (parent.info.start_time, parent.info.end_time) == (T0.timestamp() * 1000, (T0.timestamp() + 90) * 1000)
    expected_tags = {
        "run_id": "r1", "pipeline": "late", "state": "FAILED", "step.train": "SUCCEEDED", "step.evaluate": "FAILED",
        "gates": "0 of 1 passed",
        "step.deploy": "BLOCKED", "table.bronze.flights": "7", "table.gold.late_dataset": "4", "error": "evaluate: refused",
    }  # fmt: skip
    assert {name: parent.data.tags.get(name) for name in expected_tags} == expected_tags
    assert "**refused**" in parent.data.tags["mlflow.note.content"]
    assert parent.data.metrics["test_accuracy"] == measured["accuracy"] and parent.data.metrics["baseline_accuracy"] == 0.7
    assert parent.data.metrics["test_recall_lower"] == measured["recall"] - 0.1
    assert [point.step for point in client.get_metric_history(parent.info.run_id, "trial_areaUnderPR")] == [0]
    inputs = {given.tags[0].value: given.dataset for given in parent.inputs.dataset_inputs}
    assert {name: json.loads(given.profile)["num_rows"] for name, given in inputs.items()} == {"train": 900, "test": 500}
    source = json.loads(inputs["test"].source)
    assert (source["path"], source["delta_table_version"]) == (lake.path("gold.late_dataset"), 4)
    assert mlflow.data.get_source(parent.inputs.dataset_inputs[0])._path == lake.path("gold.late_dataset")

    children = {run.data.tags["trial"]: run for run in runs_of(client, "trial")}
    assert {name: run.info.status for name, run in children.items()} == {"0": "FINISHED", "1": "FAILED", "2": "KILLED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert children["0"].data.params == {"family": "forest", "depth": "1"} and children["1"].data.tags["error"] == "no memory"
    assert (children["0"].data.tags["library"], children["0"].data.tags["engine"]) == ("scikit-learn 1.0", "tasks")
    points = client.get_metric_history(children["0"].info.run_id, "areaUnderPR")
    assert {point.step: point.value for point in points} == dict(enumerate(FOLDS[0]))
    assert children["0"].data.metrics["mean_areaUnderPR"] == np.mean(FOLDS[0]) and "mean_areaUnderPR" not in children["1"].data.metrics

    folder = Path(client.download_artifacts(parent.info.run_id, "evaluation"))
    with (folder / "metrics.csv").open() as stream:
        assert {(row["slice"], row["metric"]) for row in csv.DictReader(stream)} >= {("", "recall"), ("carrier=OO", "recall")}
    matrix = json.loads((folder / "confusion_matrix.json").read_text())
    assert (matrix["labels"], matrix["matrix"]) == (["false", "true"], confusion_matrix(LABELS, PREDICTIONS).tolist())
    assert len((folder / "curves" / "roc.csv").read_text().splitlines()) == 12
    for image in ("confusion_matrix.png", "curves/roc.png"):
        assert len(np.unique(imread(folder / image))) > 10, image


def test_it_is_shown_once_follows_the_run_and_comes_back_after_a_loss(lake):
    measured = record_run(lake)
    project(lake, "late", description="Late or not?")
    client = MlflowClient(store_uri(lake), store_uri(lake))
    before = dump(lake)
    assert is_projected(lake, "late")
    project(lake, "late", description="Late or not?")
    assert dump(lake) == before

    names = {"pipeline": "late", "run_id": "r1"}
    lake.ledger.append([RunRow(**names, state="RUNNING", started_at=T0)])
    assert is_projected(lake, "late"), "a later step of the run begins"
    lake.ledger.append([StepRow(**names, node="score", state="SUCCEEDED"), StepRow(**names, node="monitor", state="SUCCEEDED")])
    lake.ledger.append([RunRow(**names, state="SUCCEEDED", started_at=T0, ended_at=T0 + timedelta(seconds=120))])
    assert not is_projected(lake, "late")
    project(lake, "late", description="Late or not?")
    [parent] = runs_of(client, "run")
    assert (parent.info.status, parent.info.end_time, parent.data.tags["step.score"]) == (
        "FINISHED", (T0.timestamp() + 120) * 1000, "SUCCEEDED",
    )  # fmt: skip
    before = dump(lake)

    record_run(lake, "r2", "SUCCEEDED", seed=5)
    assert not is_projected(lake, "late")
    project(lake, "late", description="Late or not?")
    after = dump(lake)
    assert [set(after[name]) >= set(before[name]) for name in ("runs", "metrics", "params", "inputs")] == [True] * 4
    assert [run.info.run_name for run in runs_of(client, "run")] == ["r1", "r2"]

    (Path(lake.root) / "mlflow.db").unlink()
    shutil.rmtree(Path(lake.root) / "mlflow")
    assert not is_projected(lake, "late")
    project(lake, "late", description="Late or not?")
    assert [(run.info.run_name, run.data.metrics["test_accuracy"]) for run in runs_of(client, "run")] == [
        ("r1", measured["accuracy"]),
        ("r2", measured["accuracy"]),
    ]
    assert {name: len(rows) for name, rows in dump(lake).items()} == {name: len(rows) for name, rows in after.items()}


def test_a_matrix_of_many_classes_is_in_their_order():
    truth, called = [2, 10, 10, 2, 1, 10], [2, 10, 2, 1, 1, 10]
    rows = [
        ConfusionRow(label=str(label), prediction=str(prediction), rows=float(count))
        for (label, prediction), count in Counter(zip(truth, called, strict=True)).items()
    ]
    matrix = build_matrix(rows)
    assert (matrix.labels, matrix.cells) == (["1", "2", "10"], confusion_matrix(truth, called, labels=[1, 2, 10]).tolist())
    assert build_matrix([]) is None and build_matrix([*rows, ConfusionRow(label=None, prediction="1", rows=1.0)]).labels[-1] == "unknown"


@pytest.fixture
def spec():
    """What `show_in_mlflow` reads of a spec."""
    return SimpleNamespace(pipeline=SimpleNamespace(pipeline="late", registry=None, description=""))


def test_a_store_that_is_locked_damaged_or_copied_is_told_in_a_sentence_and_repaired(lake, spec, monkeypatch, tmp_path):
    monkeypatch.setattr(target_module, "_PATIENCE_S", 0.1)
    record_run(lake)
    file = Path(lake.root) / "mlflow.db"
    file.write_bytes(b"no database at all, but long enough to be taken for one" * 40)
    assert "cannot be written (file is not a database)" in show_in_mlflow(spec, lake)
    file.unlink()
    assert show_in_mlflow(spec, lake) is None

    record_run(lake, "r2", seed=5)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        sentence = show_in_mlflow(spec, lake)
        assert "mlflow.db cannot be read (database is locked)" in sentence or "cannot be written (database is locked)" in sentence
        assert sentence.endswith("the lake does, and the next run repairs MLflow") and "\n" not in sentence
        connection.execute("ROLLBACK")
    assert show_in_mlflow(spec, lake) is None and is_projected(lake, "late")

    copy = Lake(str(shutil.copytree(lake.root, tmp_path / "copy")))
    original = dump(lake)
    record_run(copy, "r3", seed=9)
    project(copy, "late")
    client = MlflowClient(store_uri(copy), store_uri(copy))
    assert {run.info.artifact_uri.startswith(Path(copy.root).as_uri()) for run in runs_of(client, "run")} == {True}
    assert [run.info.run_name for run in runs_of(client, "run")] == ["r1", "r2", "r3"] and dump(lake) == original


def test_a_lake_without_training_needs_no_mlflow(lake):
    lake.ledger.append([StepRow(pipeline="late", run_id="r1", node="ingest.flights", state="SUCCEEDED")])
    assert is_projected(lake, "late")
    project(lake, "late")
    assert not (Path(lake.root) / "mlflow.db").exists()


def test_a_lake_that_is_not_local_needs_a_server(lake):
    assert "local path" in lacks_mlflow(Lake("s3a://bucket/lake"), None)
    assert lacks_mlflow(Lake("s3a://bucket/lake"), Registry(uri="http://mlflow.example.com")) is None
