"""Tasks, metrics and engines that a spec names by a dotted path: those that do not fit are one fault of the spec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import tidemill
from tidemill.extensions import search_beside
from tidemill.spec import load_spec
from tidemill.workflow.fingerprint import fingerprint_definition
from tidemill.workflow.graph import build_graph

LABELLED = """\
pipeline: p
sources: {a: {format: csv, path: a.csv}}
tables: {a: {sql: SELECT * FROM bronze.a, key: [id]}}
dataset: {from: silver.a, key: [id], label: y}
training: {task: TASK, OPTIONS}
evaluation: {gates: GATES}
"""
CODE = """\
class Raises:
    tasks = ("binary",)
    def __init__(self): raise ValueError("boom")
    def value(self, counts): return 1.0

class OfRegressions:
    tasks = ("regression",)
    def value(self, counts): return 1.0

class OfAnomalies:
    tasks = ("anomaly",)
    def value(self, counts): return 1.0

class OneName:
    base = "binary"
    metrics = "logLoss"

class ItsOwnBase:
    base = "functions.ItsOwnBase"

class Misspelt:
    base = "binary"
    familes = ("random_forest",)

class OneNumber:
    base = "binary"
    classes = 5

class NoTrainer:
    base = "binary"
    trainer = "functions:nothing"

class Volume:
    base = "anomaly"
    metrics = ("massVolume",)

class Judged:
    base = "anomaly"
    metrics = ("areaUnderPR",)

class OneWay:
    ways = "spark"
    def choose(self, spaces, problem, resources): return {}
"""


def text(task: str = "binary", options: str = "folds: 3", gates: str = "[]", label: str = ", label: y") -> str:
    return LABELLED.replace("TASK", task).replace("OPTIONS", options).replace("GATES", gates).replace(", label: y", label)


@pytest.mark.parametrize(
    ("spec", "key", "message"),
    [
        (text(options="metric: functions.Raises"), "training.metric", "the metric 'functions.Raises' cannot be used: ValueError: boom"),
        (text(gates="[functions.OfRegressions < 1]"), "evaluation.gates.0",
         "gate 'functions.OfRegressions < 1': 'functions.OfRegressions' measures regression, found `task: binary`"),
        (text("functions.OneName"), "training.task",
         "the task 'functions.OneName' cannot be used: its `metrics` must be a tuple of names, found 'logLoss'"),
        (text("functions.ItsOwnBase"), "training.task", "RecursionError"),
        (text("functions.Misspelt"), "training.task", "a task has no field `familes`; did you mean 'families'?"),
        (text("functions.OneNumber"), "training.task", "its `classes` must be the least and the greatest number of classes, found 5"),
        (text("functions.NoTrainer"), "training.task", "defines no 'nothing'"),
        (text("functions.Judged", label=""), "training.metric", "areaUnderPR needs `dataset.label`"),
        (text("anomaly", "metric: functions.OfAnomalies", label=""), "training.metric", "functions.OfAnomalies needs `dataset.label`"),
        (text("anomaly", gates="[functions.OfAnomalies < 1]", label=""), "evaluation.gates.0",
         "functions.OfAnomalies needs `dataset.label`"),
        (text(options="engine: functions.OneWay"), "training.engine", "its `ways` are 'spark', expected a tuple of some of spark, tasks"),
    ],
)  # fmt: skip
def test_one_that_does_not_fit_is_one_fault(faults: Callable, tmp_path: Path, spec: str, key: str, message: str) -> None:
    (tmp_path / "functions.py").write_text(CODE, encoding="utf-8")
    [(_, place, sentence)] = faults(spec)
    assert place == key
    assert message in sentence


def test_an_error_in_the_file_is_one_fault(faults: Callable, tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text("x = y\n", encoding="utf-8")
    [(_, place, sentence)] = faults(text(options="metric: functions.Cost"))
    assert (place, sentence) == ("training.metric", "the metric 'functions.Cost' cannot be used: NameError: name 'y' is not defined")


def test_a_task_without_metrics_of_labels_has_gates_without_a_label(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text(CODE, encoding="utf-8")
    spec = load_spec(write(text("functions.Volume", gates="[massVolume < 0.5]", label="")), environ={})
    assert spec.pipeline.selection_metric == "massVolume"


def test_trainer_and_base_beside_the_spec_are_found_and_part_of_the_fingerprint(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text('class Mine:\n    base = "parent.Parent"\n', encoding="utf-8")
    parent = tmp_path / "parent.py"
    parent.write_text('class Parent:\n    base, trainer = "binary", "steps_of_mine:train"\n', encoding="utf-8")
    steps = tmp_path / "steps_of_mine.py"
    steps.write_text("def train(context):\n    return 1\n", encoding="utf-8")

    def definitions() -> dict[str, str]:
        spec = load_spec(write(text("functions.Mine")), environ={})
        with search_beside(tmp_path):
            assert spec.pipeline.task.load("trainer")(None) in (1, 2)
        return {node.step: fingerprint_definition(spec, node) for node in build_graph(spec).nodes}

    before = definitions()
    steps.write_text("def train(context):\n    return 2\n", encoding="utf-8")
    after = definitions()
    assert [step for step in before if before[step] != after[step]] == ["train", "evaluate"]
    parent.write_text('class Parent:\n    base, trainer, classes = "multiclass", "steps_of_mine:train", (2, 5)\n', encoding="utf-8")
    last = definitions()
    assert [step for step in after if after[step] != last[step]] == ["dataset", "train", "evaluate"]


def test_two_specs_in_one_process_have_metrics_of_the_same_name(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tidemill.pipeline.lists.build_leaderboard", lambda *_: [{"metric": "functions.Mine", "value": n} for n in (1.0, 2.0)]
    )
    pipelines = []
    for folder, is_greater_better in (("a", True), ("b", False)):
        file = write(text(options="metric: functions.Mine"), f"{folder}/pipeline.yml")
        code = CODE.replace("class Raises", "class Unused").replace("class OfRegressions", "class Mine").replace("regression", "binary")
        code = code.replace("class Mine:", f"class Mine:\n    greater_is_better = {is_greater_better}")
        file.with_name("functions.py").write_text(code, encoding="utf-8")
        pipelines.append(tidemill.load(file))
    assert [[row["value"] for row in pipeline.trials(as_="rows")] for pipeline in pipelines] == [[2.0, 1.0], [1.0, 2.0]]
