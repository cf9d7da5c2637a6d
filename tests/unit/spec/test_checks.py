"""The rules between keys, the tables that SQL names, the user's Python, and what is not built yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tidemill.errors import Fault, SpecError, UsageError
from tidemill.spec import load_spec
from tidemill.spec.loading.grammar import json_schema


def test_the_good_spec_is_good(write: Callable[..., Path], changed: Callable[..., str]) -> None:
    spec = load_spec(write(changed()), environ={})
    assert spec.table_inputs("flights") == ["bronze.flights"]
    assert spec.dataset_inputs() == ["silver.flights"]
    assert spec.scoring_inputs() == ["gold.flights_dataset"]


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "message"),
    [
        ("format: csv", "format: cvs", 5, "sources.flights.format",
         "unknown format 'cvs'; did you mean 'csv'?; known: csv, tsv, json, parquet, orc, avro, xml, text, binaryFile, delta, jdbc, kafka"),
        ("    path: ${DATA:-./data}/*.csv\n", "", 4, "sources.flights.path",
         "missing; `format: csv` reads files, so give `path:` (globs are fine)"),
        ("format: csv", "format: xml", 7, "sources.flights.options.rowTag",
         "missing; name the element that is a record, such as `rowTag: book`"),
        ("format: csv\n    path: ${DATA:-./data}/*.csv\n    options: {header: true}", "format: xml\n    path: a.xml", 4,
         "sources.flights.options.rowTag", "missing; name the element that is a record, such as `rowTag: book`"),
        ("format: csv\n    path: ${DATA:-./data}/*.csv\n    options: {header: true}",
         "format: xml\n    path: a.xml\n    options: {row_tag: book}", 7, "sources.flights.options.rowTag",
         "missing (did you mean it by 'row_tag'?); name the element that is a record, such as `rowTag: book`"),
        ("format: csv\n    path: ${DATA:-./data}/*.csv\n    options: {header: true}",
         "format: xml\n    path: a.xml\n    options: {rowtag: '<>'}", 7, "sources.flights.options.rowtag",
         "expected the name of the element that is a record, such as `book`"),
        ("path: ${DATA:-./data}/*.csv", "path: ' '", 6, "sources.flights.path", "empty; give the path of the files"),
        ("check: distance > 0", "check: ''", 14, "tables.flights.expectations.far.check",
         "empty; write a condition that is true for good rows, such as `distance > 0`"),
        ("sql: SELECT * FROM silver.flights", "from: silver.flihgts", 16, "dataset.from",
         "reads silver.flihgts, which is not declared under `tables:`; did you mean 'silver.flights'?"),
        ("sql: SELECT * FROM bronze.flights", "sql: SELECT * FROM bronze.planes", 11, "tables.flights.sql",
         "reads bronze.planes, which is not declared under `sources:`"),
        ("sql: SELECT * FROM silver.flights", "sql: SELECT * FROM bronze.flights JOIN gold.flights_dataset", 16, "dataset.sql",
         "reads gold.flights_dataset, which this pipeline makes later; read bronze and silver tables here"),
        ("sql: SELECT * FROM silver.flights", "sql: DELETE FROM silver.flights", 16, "dataset.sql",
         "the SQL must be one query (SELECT …); tidemill itself writes the result"),
        ("sql: SELECT * FROM bronze.flights", "sql: SELECT * FROM silver.flights", 10, "tables.flights",
         "reads itself: silver.flights → silver.flights; split one of these tables in two"),
        ("label: is_late", "label: flight_id", 18, "dataset.label",
         "'flight_id' is also in `key`; a key identifies rows, and a label is predicted"),
        ("exclude: [arr_time]", "exclude: [is_late]", 21, "dataset.exclude",
         "holds the label 'is_late'; the label is never a feature, so leave it out here"),
        ("exclude: [arr_time]", "exclude: [a, b, a]", 21, "dataset.exclude", "'a' is listed twice"),
        ("columns: [distance]", "columns: [distance, is_late]", 23, "features.numeric.columns.1",
         "'is_late' is the label; a model may not see it"),
        ("columns: [distance]", "columns: [arr_time]", 23, "features.numeric.columns.0",
         "'arr_time' is also in `dataset.exclude`; remove it from one of the two"),
        ("test: \"2013-11-01\"", "test: november", 20, "dataset.split.test",
         "expected a share such as 0.2 or an instant such as \"2013-11-01\", found 'november'"),
        ("test: \"2013-11-01\"", "test: 0", 20, "dataset.split.test",
         "expected a share between 0 and 1, found 0; 0.2 keeps a fifth of the rows for the test"),
        ("test: \"2013-11-01\"", "test: 0.2, folds_by: group", 20, "dataset.split.folds_by",
         "`group` needs `group: <column>` in the split"),
        ("metric: areaUnderPR", "metric: rmse", 26, "training.metric",
         "'rmse' does not fit `task: binary`; known: areaUnderPR, areaUnderROC, averagePrecision, accuracy, balancedAccuracy, f1, "
         "precision, recall, specificity, mcc, logLoss, brier, expectedCalibrationError, selectionRate, falsePositiveRate"),
        ("random_forest: {", "linear_regression: {", 28, "training.models.linear_regression",
         "unknown model family for `task: binary`; did you mean 'logistic_regression'?; "
         "known: logistic_regression, linear_svm, naive_bayes, multilayer_perceptron, factorization_machines, "
         "random_forest, gradient_boosted_trees, hist_gradient_boosting, xgboost, lightgbm"),
        ("{int: [20, 100]}", "{int: [100, 20]}", 28, "training.models.random_forest.numTrees.int",
         "the lower bound 100 is above the upper bound 20; write [20, 100]"),
        ("{int: [20, 100]}", "{float: [1, .inf]}", 28, "training.models.random_forest.numTrees.float.1",
         "expected a finite number, found .inf"),
        ("drift: {warn: 0.1}", "drift: {warn: 0.5}", 30, "monitoring.drift.warn", "0.5 is above `alert` (0.25); a warning comes first"),
        ("  flights:\n    sql", "  flights_quarantine: {sql: SELECT 1 AS a}\n  flights: {sql: SELECT 2 AS a}\n  f:\n    sql", 10,
         "tables.flights_quarantine", "this is the name of the quarantine of 'flights'; choose another"),
    ],
)  # fmt: skip
def test_one_fault(faults: Callable, changed: Callable, old: str, new: str, line: int, key: str, message: str) -> None:
    assert faults(changed(old, new)) == [(line, key, message)]


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ("sql: SELECT * FROM silver.flights", "sql: SELECT FROM WHERE x", 16, "dataset.sql"),
        ("sql: SELECT * FROM silver.flights", "sql: SELECT 1; SELECT 2", 16, "dataset.sql"),
        ("check: distance > 0", "check: distance >", 14, "tables.flights.expectations.far.check"),
    ],
)
def test_sql_that_does_not_parse(faults: Callable, changed: Callable, old: str, new: str, line: int, key: str) -> None:
    [(found_line, found_key, message)] = faults(changed(old, new))
    assert (found_line, found_key) == (line, key)
    assert "does not parse" in message or "one SQL statement" in message


def test_sql_files_are_looked_up_beside_the_spec(write: Callable[..., Path], faults: Callable, changed: Callable[..., str]) -> None:
    text = changed("sql: SELECT * FROM silver.flights", "sql: dataset.sql")
    write("SELECT *\nFROM silver.flihgts\n", "dateset.sql")
    [(line, key, message)] = faults(text)
    assert (line, key) == (16, "dataset.sql")
    assert message.endswith("dataset.sql; did you mean 'dateset.sql'?; SQL files are looked up beside the spec")
    write("SELECT *\nFROM silver.flihgts\n", "dataset.sql")
    assert faults(text)[0][2].startswith("reads silver.flihgts")
    write("SELECT *\nFROM silver.flights\n", "dataset.sql")
    spec = load_spec(write(text), environ={})
    assert spec.sql_text("dataset.sql") == "SELECT *\nFROM silver.flights\n"
    assert spec.sql_text("SELECT 1") == "SELECT 1"
    with pytest.raises(UsageError):
        spec.sql_text("none.sql")


def test_circles_among_tables_are_drawn(faults: Callable, changed: Callable[..., str]) -> None:
    more = "  a: {sql: SELECT * FROM silver.b}\n  b: {sql: SELECT * FROM silver.c}\n  c: {sql: SELECT * FROM silver.a}\n"
    assert faults(changed("tables:\n", "tables:\n" + more)) == [
        (10, "tables.a", "reads itself: silver.a → silver.b → silver.c → silver.a; split one of these tables in two")
    ]


FUNCTIONS = """
from __future__ import annotations
from dataclasses import dataclass
import rules

@dataclass
class Limits:
    low: int = rules.LOW

def clean_flights(flights, planes):
    return Limits().low + flights + planes

not_a_function = 3
"""


def python_table(changed: Callable[..., str], definition: str) -> str:
    return changed("sql: SELECT * FROM bronze.flights", definition, "tables:\n", "  planes: {format: csv, path: p.csv}\ntables:\n")


def test_python_functions_are_found_beside_the_spec(write: Callable[..., Path], changed: Callable[..., str]) -> None:
    write(FUNCTIONS, "functions.py")
    write("LOW = 40\n", "rules.py")
    spec = load_spec(write(python_table(changed, "python: functions.clean_flights")), environ={})
    assert spec.table_inputs("flights") == ["bronze.flights", "bronze.planes"]
    assert spec.function("functions.clean_flights")(1, 1) == 42
    assert spec.function("functions.clean_flights") is spec.function("functions.clean_flights")
    assert spec.source_code("functions.clean_flights") == (spec.folder / "functions.py").read_text()
    write(FUNCTIONS.replace("+ planes", "+ planes + 1"), "functions.py")
    assert spec.function("functions.clean_flights")(1, 1) == 43, "an edited file is read again"
    assert spec.function("textwrap.dedent")("  a") == "a"
    assert "def dedent" in spec.source_code("textwrap.dedent")


def test_two_pipelines_may_both_have_functions(write: Callable[..., Path], changed: Callable[..., str]) -> None:
    text = python_table(changed, "python: functions.name")
    specs = []
    for name in ("one", "two"):
        write("from rules import NAME\ndef name(flights): return NAME\n", f"{name}/functions.py")
        write(f"NAME = {name!r}\n", f"{name}/rules.py")
        specs.append(load_spec(write(text, f"{name}/pipeline.yml"), environ={}))
    assert [spec.function("functions.name")(None) for spec in specs] == ["one", "two"]


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("python: functions.clean_flight", "defines no 'clean_flight'; did you mean 'clean_flights'?"),
        ("python: function.clean_flights", "nothing installed has this name; did you mean 'functions'?"),
        ("python: functions.not_a_function", "name its tables: `inputs: [bronze.flights]`"),
        ("python: functions.other",
         "parameter 'plains' names no source or table; did you mean 'planes'?; rename it, or give `inputs: [bronze.flights]`"),
        ("python: broken.f", "broken.py:1: not valid Python: expected ':'"),
        ("python: functions.clean_flights\n    inputs: [bronze.flihgts]", "not declared under `sources:`; did you mean 'bronze.flights'?"),
    ],
)  # fmt: skip
def test_faults_of_python_functions(
    write: Callable[..., Path], faults: Callable, changed: Callable[..., str], definition: str, message: str
) -> None:
    write(FUNCTIONS + "\ndef other(flights, plains): pass\n", "functions.py")
    write("def f(flights)\n", "broken.py")
    [(line, key, actual)] = faults(python_table(changed, definition))
    assert (line, key) == (12, "tables.flights.python")
    assert actual.endswith(message)


def test_schema_files(write: Callable[..., Path], faults: Callable, changed: Callable[..., str]) -> None:
    text = changed("load: incremental", "schema: flights.ddl")
    assert faults(text)[0][:2] == (8, "sources.flights.schema")
    write("year INT\n", "flights.ddl")
    spec = load_spec(write(text), environ={})
    assert (spec.schema_text("flights.ddl"), spec.schema_text("a INT")) == ("year INT\n", "a INT")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("lake: ./lake", "lake: catalog:main.flights", "lake"),
        ("    key: [flight_id]\n    exp", "    load: incremental\n    exp", "tables.flights.load"),
        ("monitoring:", "scoring: {load: incremental}\nmonitoring:", "scoring.load"),
        ("monitoring:", "scoring: {shadow: true}\nmonitoring:", "scoring.shadow"),
        ("{warn: 0.1}", "{method: ks}", "monitoring.drift.method"),
        ("  drift:", "  freshness: {scheduled_at: 2d}\n  drift:", "monitoring.freshness"),
        ("  drift:", "  retrain: {breaches: 2, of: 3}\n  drift:", "monitoring.retrain"),
        ("  drift:", "  performance: {metric: f1, drop: 0.1}\n  drift:", "monitoring.performance"),
        ("  drift:", "  labels: {table: silver.flights, by: [a], column: b}\n  drift:", "monitoring.labels"),
    ],
)  # fmt: skip
def test_what_is_not_built_yet_is_named_with_a_way_out(faults: Callable, changed: Callable, old: str, new: str, key: str) -> None:
    text = changed(old, new)
    [(line, actual, message)] = faults(text)
    assert actual == key
    assert message.startswith("not built yet; ")
    name = next(part for part in reversed(key.split(".")) if not part.isdecimal())
    assert line is not None
    assert name in text.splitlines()[line - 1]


def test_defaults_that_are_spelt_out_are_built(write: Callable[..., Path], changed: Callable[..., str]) -> None:
    text = changed(
        "load: incremental", "load: full\n    on_new_column: rescue\n    on_missing_column: 'null'\n    on_type_change: quarantine",
        "task: binary",
         "task: binary\n  engine: spark\n  balance: none\n  calibrate: none\n  tuner: {early_stopping: none, strategy: grid}",
        "monitoring:", "scoring: {shadow: false, load: full}\nevaluation: {slices: [], approval: auto}\nmonitoring:\n  freshness: {}",
    )  # fmt: skip
    assert load_spec(write(text), environ={}).pipeline.training.engine == "spark"


def test_the_json_schema_knows_the_keys_and_lets_variables_stand_anywhere(changed: Callable[..., str]) -> None:
    schema = json_schema()
    assert set(yaml.safe_load(changed())) <= set(schema["properties"])
    assert schema["required"] == ["pipeline", "sources", "dataset", "training"]
    assert set(schema["$defs"]["Source"]["properties"]) >= {"schema", "format", "on_bad_file"}
    assert {"type": "integer", "minimum": 2, "maximum": 50} in schema["$defs"]["Training"]["properties"]["folds"]["anyOf"]
    assert {"type": "string", "pattern": r"\$\{[^}]+\}"} in schema["$defs"]["Training"]["properties"]["folds"]["anyOf"]


def test_a_quarantine_may_be_read_and_counts_in_circles(write: Callable[..., Path], faults: Callable, changed: Callable[..., str]) -> None:
    text = changed("tables:\n", "tables:\n  refused: {sql: SELECT * FROM silver.flights_quarantine}\n")
    assert load_spec(write(text), environ={}).table_inputs("refused") == ["silver.flights_quarantine"]
    [(line, key, _)] = faults(text.replace("FROM bronze.flights\n", "FROM silver.refused\n"))
    assert (line, key) == (10, "tables.refused")


def test_faults_found_later_get_their_line(write: Callable[..., Path], changed: Callable[..., str]) -> None:
    spec = load_spec(write(changed()), environ={})
    later = [
        Fault("pipeline.yml", None, "features.numeric.columns.0", "no such column"),
        Fault("pipeline.yml", None, "training.models.random_forest.maxDepht", "no such parameter"),
        Fault("pipeline.yml", None, "dataset.folds", "no such key"),
        Fault("other.yml", 3, "x", "stays"),
    ]
    actual = spec.locate_faults(SpecError(later)).faults
    assert [(fault.file, fault.line) for fault in actual] == [
        (str(spec.file), 23),
        (str(spec.file), 28),
        (str(spec.file), 15),
        ("other.yml", 3),
    ]


@pytest.mark.parametrize(
    ("task", "given", "key", "message"),
    [
        (
            "regression",
            "calibrate: isotonic",
            "training.calibrate",
            "is for `task: binary` and `multiclass` alone, found `task: regression`; leave it out",
        ),
        (
            "multiclass",
            "threshold: {maximise: f1}",
            "training.threshold",
            "is for `task: binary` alone, found `task: multiclass`; leave it out",
        ),
        (
            "regression",
            "balance: weights",
            "training.balance",
            "is for `task: binary` and `multiclass` alone, found `task: regression`; leave it out",
        ),
        ("binary", "threshold: {maximise: f1, at_recall: 0.5}", "training.threshold", "takes one of maximise, at_precision, at_recall"),
        ("binary", "threshold: {}", "training.threshold", "takes one of maximise, at_precision, at_recall"),
    ],
)
def test_what_is_done_to_probabilities_needs_classes(faults: Callable, task: str, given: str, key: str, message: str) -> None:
    text = SMALL.format(task=task, given=given)
    assert [actual[1:] for actual in faults(text)] == [(key, message)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "ensemble: stack\n  models: {random_forest: {}}",
            "a stack needs two families, found random_forest alone; name another in `models`, or leave it out",
        ),
        (
            "ensemble: blend\n  features: {numeric.scale: [none, standard]}",
            "needs members with the same features, and `training.features` tunes them; leave out one of the two",
        ),
        ("ensemble: blend\nlake: s3a://bucket/lake", "needs a lake on a file system that all executors see; leave it out"),
    ],
)
def test_an_ensemble_needs_families_and_a_place(faults: Callable, given: str, message: str) -> None:
    actual = [each[1:] for each in faults(SMALL.format(task="regression", given=given))]
    assert [each for each in actual if each[0] == "training.ensemble"] == [("training.ensemble", message)]


def test_an_ensemble_needs_something_to_learn(faults: Callable) -> None:
    actual = faults(SMALL.format(task="clustering", given="ensemble: blend").replace(", label: y", ""))
    assert [each[1:] for each in actual] == [
        ("training.ensemble", "is for `task: binary`, `multiclass` and `regression` alone, found `task: clustering`; leave it out")
    ]


def test_all_that_is_done_to_probabilities_fits_together(write: Callable) -> None:
    given = "calibrate: isotonic\n  balance: weights\n  threshold: {at_recall: 0.5}"
    training = load_spec(write(SMALL.format(task="binary", given=given)), environ={}).pipeline.training
    assert (training.calibrate, training.balance, training.threshold.at_recall) == ("isotonic", "weights", 0.5)


SMALL = """
pipeline: small
sources:
  rows: {{format: csv, path: rows.csv}}
dataset: {{from: bronze.rows, key: [id], label: y}}
training:
  task: {task}
  {given}
"""


def test_secrets_are_refused_where_none_is_looked_up(faults: Callable, changed: Callable[..., str]) -> None:
    actual = faults(
        changed(
            *(
                "lake: ./lake",
                'lake: "s3a://${secret:a/b}/lake"',
                "options: {header: true}",
                'options: {header: true, sep: "${secret:ab}"}',
            ),
            *("check: distance > 0", 'check: "distance > ${secret:a/b}"', "path: ${DATA:-./data}/*.csv", 'path: "${secret:a/b}/*.csv"'),
        )
    )
    messages = {(line, key): message for line, key, message in reversed(actual)}
    assert list(messages) == [(14, "tables.flights.expectations.far.check"), (7, "sources.flights.options.sep"), (2, "lake")]
    assert messages[2, "lake"].startswith("no secret is looked up here")
    assert messages[7, "sources.flights.options.sep"] == "a secret is written ${secret:scope/key}, with the slash and the closing brace"
