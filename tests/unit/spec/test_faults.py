"""Each rule of the models, as a user meets it: line, key, message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.errors import SpecError
from tidemill.spec import load_spec

MANY = """\
pipeline: flights
sources:
  flights:
    formt: csv
    path: ${DATTA}/*.csv
  weather: {format: json, path: w.jsonl, load: fulll}
  weather: {format: json, path: w.jsonl}
dataset:
  sql: SELECT * FROM bronze.flihgts
  key: []
features:
  numeric: {columns: [distance], impute: medain}
training:
  task: binary
  metric: areaUnderRP
  folds: three
  trials: 3
  models:
    random_forrest: {}
    logistic_regression: {regParam: {log: [0, 1]}, elasticNetParam: {lg: [0, 1]}}
    xgboost: {}
"""


def test_all_faults_at_once_in_the_order_of_the_file(faults: Callable) -> None:
    assert faults(MANY, environ={"DATA": "d"}) == [
        (4, "sources.flights.formt", "unknown key; did you mean 'format'?"),
        (
            5,
            "sources.flights.path",
            "variable 'DATTA' is not set; did you mean 'DATA'?; export it, pass `--set vars.DATTA=…`, declare it under `vars:`, "
            "or write ${DATTA:-default}",
        ),
        (6, "sources.weather.load", "expected one of 'incremental', 'full', found 'fulll'; did you mean 'full'?"),
        (7, "sources.weather", "duplicate key; it is already on line 6: keep one of them"),
        (8, "dataset.label", "missing; `label:` is required in this block for `task: binary`; only `clustering` and `anomaly` do without"),
        (9, "dataset.sql", "reads bronze.flihgts, which is not declared under `sources:`; did you mean 'bronze.flights'?"),
        (10, "dataset.key", "expected at least 1 item, found a list of 0"),
        (
            12,
            "features.numeric.impute",
            "expected one of 'median', 'mean', 'mode', 'none' or a number, found 'medain'; did you mean 'median'?",
        ),
        (
            15,
            "training.metric",
            "'areaUnderRP' does not fit `task: binary`; did you mean 'areaUnderPR'?; "
            "known: areaUnderPR, areaUnderROC, averagePrecision, accuracy, balancedAccuracy, f1, precision, recall, specificity, "
            "mcc, logLoss, brier, expectedCalibrationError, selectionRate, falsePositiveRate",
        ),
        (16, "training.folds", "expected a whole number, found 'three'"),
        (17, "training.trials", "unknown key here; it belongs under `training.tuner:`"),
        (
            19,
            "training.models.random_forrest",
            "unknown model family for `task: binary`; did you mean 'random_forest'?; known: logistic_regression, "
            "linear_svm, naive_bayes, multilayer_perceptron, factorization_machines, random_forest, gradient_boosted_trees, "
            "hist_gradient_boosting, xgboost, lightgbm",
        ),
        (20, "training.models.logistic_regression.elasticNetParam.lg", "unknown key; did you mean 'log'?"),
        (
            20,
            "training.models.logistic_regression.regParam.log",
            "a logarithmic range starts above 0, found 0; write 1.0e-5, say, or use `float:`",
        ),
    ]


def test_the_message_names_file_line_and_key(write: Callable, changed: Callable) -> None:
    file = write(changed("task: binary", "task: binry"))
    with pytest.raises(SpecError) as caught:
        load_spec(file, environ={})
    known = "binary, multiclass, regression, clustering, anomaly, recommendation"
    expected = f"training.task: no task is called 'binry'; did you mean 'binary'?; choose from {known}, or give the dotted path of your own"
    assert str(caught.value) == f"{file}:25: {expected}"


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "message"),
    [
        ("pipeline: flights", "pipeline: 3 flights", 1, "pipeline",
         "expected a name (a letter or _, then letters, digits and _), found '3 flights'"),
        ("pipeline: flights", "pipeline: [a]", 1, "pipeline", "expected text, found a list of 1"),
        ("lake: ./lake", "lake: 7", 2, "lake", 'expected text, found 7; write it in quotes: "7"'),
        ("lake: ./lake", "lakes: ./lake", 2, "lakes", "unknown key; did you mean 'lake'?"),
        ("lake: ./lake", "watermark: x", 2, "watermark", "unknown key here; it belongs under `sources.*:`"),
        ("options: {header: true}", "options: {header: [1]}", 7, "sources.flights.options.header",
         "expected a plain value (text, a number, true or false), found a list of 1"),
        ("options: {header: true}", "options:", 7, "sources.flights.options", "expected a block of keys, found nothing"),
        ("sql: SELECT * FROM bronze.flights", "key2: a", 11, "tables.flights.key2", "unknown key; did you mean 'key'?"),
        ("key: [flight_id]\n    exp", "key: flight_id\n    exp", 12, "tables.flights.key", "expected a list, found 'flight_id'"),
        ("pipeline: flights", "pipeline: is late", 1, "pipeline",
         "expected a name (a letter or _, then letters, digits and _), found 'is late'"),
        ("test: \"2013-11-01\"", "test: 1.5", 20, "dataset.split.test", "expected a number of at most 1, found 1.5"),
        ("test: \"2013-11-01\"", "test: true", 20, "dataset.split.test", "expected a number or text, found true"),
        ("columns: [distance]", "columns: [distance, 3]", 23, "features.numeric.columns.1",
         'expected text, found 3; write it in quotes: "3"'),
        ("task: binary", "task: binary\n  tuner: {trial_timeout: 5}", 26, "training.tuner.trial_timeout",
         "expected a duration such as 30m, 2h or 1d, found 5"),
        ("task: binary", "task: binary\n  folds: 2.5", 26, "training.folds", "expected a whole number, found 2.5"),
        ("task: binary", "task: binary\n  folds: 1", 26, "training.folds", "expected a number of at least 2, found 1"),
        ("task: binary", "task: binary\n  folds: true", 26, "training.folds", "expected a whole number, found true"),
        ("task: binary", "task: binary\n  tuner: {trials: 0}", 26, "training.tuner.trials", "expected a number of more than 0, found 0"),
        ("maxDepth: [4, 8]", "maxDepth: {int: [4]}", 28, "training.models.random_forest.maxDepth.int",
         "expected at least 2 items, found a list of 1"),
        ("maxDepth: [4, 8]", "maxDepth: {int: [4, 8.5]}", 28, "training.models.random_forest.maxDepth.int.1",
         "expected a whole number, found 8.5"),
        ("maxDepth: [4, 8]", "maxDepth: {int: [4, 8], log: [1, 2]}", 28, "training.models.random_forest.maxDepth.log",
         "only one of log, int, float can be given here"),
        ("drift: {warn: 0.1}", "drift: {on_alert: explode}", 30, "monitoring.drift.on_alert",
         "expected one of 'warn', 'fail', found 'explode'"),
        ("columns: [distance]", "columns: [distance], impute: .inf", 23, "features.numeric.impute",
         "expected one of 'median', 'mean', 'mode', 'none' or a finite number, found .inf"),
        ("drift: {warn: 0.1}", "drift: {warn: .nan}", 30, "monitoring.drift.warn", "expected a finite number, found .nan"),
        ("lake: ./lake", "monitoring2: {}", 2, "monitoring2", "unknown key; did you mean 'monitoring'?"),
    ],
)  # fmt: skip
def test_one_fault(faults: Callable, changed: Callable, old: str, new: str, line: int, key: str, message: str) -> None:
    assert faults(changed(old, new)) == [(line, key, message)]


def test_what_is_missing_is_said_at_the_block_around_it(faults: Callable) -> None:
    actual = faults("pipeline: x\nsources:\n  a: {path: x.csv}\ndataset: {sql: SELECT 1 AS a}\ntraining: {}\n")
    assert [(line, key) for line, key, _ in actual] == [
        (3, "sources.a.format"), (4, "dataset.key"), (4, "dataset.label"), (5, "training.task"),
    ]  # fmt: skip
    assert faults("lake: ./lake\n")[0] == (1, "pipeline", "missing; `pipeline:` is required at the top level")


def test_models_rules_stand_at_their_block(faults: Callable, changed: Callable) -> None:
    assert faults(changed("sql: SELECT * FROM silver.flights", "from: silver.flights\n  sql: SELECT * FROM silver.flights")) == [
        (15, "dataset", "needs exactly one of `sql` and `from`")
    ]
    assert faults(changed("event_time: scheduled_at", "positive: true")) == [
        (15, "dataset", "`split: {by: time}` needs `event_time: <column>`")
    ]


def test_python_names_of_keys_are_no_keys(faults: Callable, changed: Callable) -> None:
    actual = faults(changed("sql: SELECT * FROM silver.flights", "from_: silver.flights"))
    assert (16, "dataset.from_", "unknown key; did you mean 'from'?") in actual


def test_files_that_are_no_spec(tmp_path: Path, faults: Callable) -> None:
    with pytest.raises(SpecError, match="cannot be read: No such file or directory") as caught:
        load_spec(tmp_path / "none.yml")
    assert caught.value.exit_code == 2
    assert faults("") == [(None, "", "empty; a spec starts with `pipeline: <name>`")]
    assert faults("- a\n") == [(1, "", "expected keys such as `pipeline:` and `sources:`, found something else")]
    assert faults("a: [1\n")[0][2].startswith("not valid YAML")


def test_a_folder_means_the_pipeline_in_it(write: Callable, changed: Callable) -> None:
    file = write(changed())
    assert load_spec(file.parent, environ={}) == load_spec(file, environ={})
    assert load_spec(file, environ={}).folder == file.parent


@pytest.mark.parametrize("value", [".inf", "-.INF", ".nan", "1e999", "9" * 400])
@pytest.mark.parametrize("way", ["written", "variable", "set"])
def test_numbers_that_are_none_are_no_parameters_however_they_come(faults, changed, value: str, way: str) -> None:
    models = "training.models.random_forest.minInfoGain"
    given = {"written": value, "variable": "${R}", "set": "0.5"}[way]
    text = changed("numTrees: {int: [20, 100]}, maxDepth: [4, 8]", f"minInfoGain: {given}" if way != "variable" else 'minInfoGain: "${R}"')
    options = {"set_values": {models: value}} if way == "set" else {}
    [(_, key, message)] = faults(text, environ={"R": value}, **options)
    assert key == models
    assert message.startswith(("expected a finite number", "expected a whole number of at most 64 bits"))
