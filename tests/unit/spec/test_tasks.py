"""What a task asks of the rest of a spec: the label, and what cannot be without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.spec import load_spec
from tidemill.spec.loading.grammar import json_schema
from tidemill.tasks import TASKS

FREE = """\
pipeline: p
sources: {a: {format: csv, path: a.csv}}
tables: {a: {sql: SELECT * FROM bronze.a, key: [id]}}
dataset: {from: silver.a, key: [id]}
training: {task: clustering}
"""


@pytest.mark.parametrize(
    ("task", "metric", "families"),
    [
        ("clustering", "silhouette", ["kmeans", "bisecting_kmeans", "gaussian_mixture"]),
        ("anomaly", "massVolume", ["isolation_forest", "gaussian_mixture"]),
    ],
)
def test_no_label_is_needed(write: Callable[..., Path], task: str, metric: str, families: list[str]) -> None:
    pipeline = load_spec(write(FREE.replace("clustering", task)), environ={}).pipeline
    assert (pipeline.dataset.label, pipeline.selection_metric, list(pipeline.families)) == (None, metric, families)
    assert pipeline.training.contamination == 0.01


def test_a_label_of_anomalies_judges(write: Callable[..., Path]) -> None:
    text = FREE.replace("clustering", "anomaly").replace("key: [id]}\ntraining", "key: [id], label: odd}\ntraining")
    assert load_spec(write(text), environ={}).pipeline.selection_metric == "areaUnderPR"
    text = text.replace("{task: anomaly}", "{task: anomaly, metric: massVolume}")
    assert load_spec(write(text), environ={}).pipeline.selection_metric == "massVolume"


def test_every_task_is_known_everywhere() -> None:
    tasks = TASKS.all_built_in()
    assert [name for name, task in tasks.items() if "training.monotone" in task.keys] == ["binary", "multiclass", "regression"]
    assert all(task.name == name == task.kind for name, task in tasks.items())
    schema = json_schema()["$defs"]
    assert schema["Training"]["properties"]["task"]["examples"] == list(tasks)
    assert "label" not in schema["Dataset"]["required"]


LABEL = "missing; `label:` is required in this block for `task: {}`; only `clustering` and `anomaly` do without"
TARGET = "features: {categorical: {columns: [c], encode: target}}\ntraining"


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("clustering", "binary", "dataset.label", LABEL.format("binary")),
        ("clustering", "regression", "dataset.label", LABEL.format("regression")),
        ("key: [id]}\ntraining", "key: [id], split: {by: hash, stratified: true}}\ntraining", "dataset.split.stratified",
         "deals out the classes of a label, and the dataset has none; leave it out, or give `dataset.label`"),
        ("key: [id]}\ntraining", "key: [id], positive: 1}\ntraining", "dataset.positive",
         "is a value of the label, and the dataset has none, which `task: clustering` does without; leave it out"),
        ("training", TARGET, "features.categorical.encode",
         "`target` learns from the label, and `task: clustering` learns from none; write `hashing` or `count`"),
        ("training", "features: {select: {method: univariate, top: 3}}\ntraining", "features.select.method",
         "learns from the label, and `task: clustering` learns from none; write `variance`"),
        ("clustering}", "clustering, features: {numeric.scale: [none, standard]}}\nfeatures: {numeric: {columns: [x]}}",
         "training.features", "cannot be tuned by silhouette, which compares models of the same features alone; set it in `features`"),
        ("key: [id]}\ntraining: {task: clustering}", "key: [id], label: odd}\ntraining: {task: anomaly, features: {categorical.encode: "
         "[onehot, target]}}\nfeatures: {categorical: {columns: [x]}}", "training.features.categorical.encode",
         "`target` learns from the label, and `task: anomaly` learns from none; leave it out"),
        ("clustering}", "clustering, balance: weights}", "training.balance",
         "is for `task: binary` and `multiclass` alone, found `task: clustering`; leave it out"),
        ("clustering}", "anomaly, calibrate: isotonic}", "training.calibrate",
         "is for `task: binary` and `multiclass` alone, found `task: anomaly`; leave it out"),
        ("clustering}", "anomaly, threshold: {maximise: f1}}", "training.threshold",
         "is for `task: binary` alone, found `task: anomaly`; leave it out"),
        ("clustering}", "clustering, contamination: 0.1}", "training.contamination",
         "is for `task: anomaly` alone, found `task: clustering`; leave it out"),
        ("clustering}", "anomaly, contamination: 0.6}", "training.contamination", "expected a number of at most 0.5, found 0.6"),
        ("clustering}", "anomaly, contamination: 0}", "training.contamination", "expected a number of more than 0, found 0"),
        ("clustering}", "anomaly, metric: areaUnderPR}", "training.metric",
         "areaUnderPR needs `dataset.label`, which marks the anomalies; write `massVolume`, or leave it out"),
        ("clustering}", "clustering, metric: f1}", "training.metric", "'f1' does not fit `task: clustering`; known: silhouette"),
        ("clustering}", "anomaly}\nevaluation: {gates: [areaUnderROC >= 0.8]}", "evaluation.gates.0",
         "areaUnderROC needs `dataset.label`, which marks the anomalies; gate massVolume"),
        ("clustering}", "clustering, models: {random_forest: {}}}", "training.models.random_forest",
         "unknown model family for `task: clustering`; known: kmeans, bisecting_kmeans, gaussian_mixture"),
        ("clustering}", "anomaly, models: {mine: {python: functions.Mine}}}", "training.models.mine",
         "a custom family is for the other tasks; choose isolation_forest or gaussian_mixture"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_the_task_is_one_fault(faults: Callable, old: str, new: str, key: str, message: str) -> None:
    actual = [(where, fault_message) for _, where, fault_message in faults(FREE.replace(old, new))]
    assert (key, message) in actual
    assert len(actual) == 1 or "mine" in new
