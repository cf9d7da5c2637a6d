"""Columns that a spec names and its data lacks are told with file, line and the nearest name; what a run could accept is not refused."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from tidemill.cli import main
from tidemill.errors import SpecError
from tidemill.lake import Lake
from tidemill.preflight import column_faults, refuse_unknown_columns
from tidemill.spec import load_spec

SPEC = """\
pipeline: p
lake: ./lake
sources:
  events:
    format: csv
    path: events.csv
    options: {header: true}
tables:
  clean:
    sql: SELECT id, amount, at, is_late FROM bronze.events
    key: [id]
    latest_by: at
    expectations:
      positive: {check: amount > 0}
      whole: {not_null: [id, at]}
      known: {in_reference: bronze.events.id, column: id}
      total: {sum: {column: amount * 2, equals: bronze.events.amount}}
dataset:
  sql: SELECT * FROM silver.clean
  lookups:
    weather: {table: bronze.events, by: [id], time: at, columns: [temp]}
  aggregates: {over: bronze.events, by: [id], time: at, windows: [1d], features: {spent: sum(amount)}}
  key: [id]
  label: is_late
  event_time: at
  exclude: [spent_1d]
features:
  numeric: {columns: [amount, temp]}
training:
  task: binary
scoring:
  keep: [at]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "events.csv").write_text("id,amount,at,is_late,temp\n1,2,2026-01-01,0,3\n")
    (tmp_path / "pipeline.yml").write_text(SPEC)
    return tmp_path


@pytest.fixture
def faults_of(project: Path) -> Callable[..., list[tuple[int | None, str, str]]]:
    """Return (line, key, message) of each fault of the spec with some of its text replaced."""

    def faults_of(*pairs: str) -> list[tuple[int | None, str, str]]:
        text = SPEC
        for old, new in zip(pairs[::2], pairs[1::2], strict=True):
            assert old in text
            text = text.replace(old, new, 1)
        (project / "pipeline.yml").write_text(text)
        spec = load_spec(project, environ={})
        return [(fault.line, fault.key, fault.message) for fault in column_faults(spec, Lake(spec.pipeline.lake))]

    return faults_of


def test_a_spec_whose_columns_are_all_there_has_no_fault(faults_of) -> None:
    assert faults_of() == []


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ("    key: [id]\n    latest", "    key: [idd]\n    latest", 11, "tables.clean.key"),
        ("latest_by: at", "latest_by: ad", 12, "tables.clean.latest_by"),
        ("check: amount > 0", "check: amuont > 0 AND id > 0", 14, "tables.clean.expectations.positive.check"),
        ("not_null: [id, at]", "not_null: [id, att]", 15, "tables.clean.expectations.whole.not_null"),
        ("bronze.events.id, column: id", "bronze.events.iid, column: id", 16, "tables.clean.expectations.known.in_reference"),
        ("events.id, column: id}", "events.id, column: ids}", 16, "tables.clean.expectations.known.column"),
        ("column: amount * 2", "column: amnt * 2", 17, "tables.clean.expectations.total.sum.column"),
        ("equals: bronze.events.amount", "equals: bronze.events.amounts", 17, "tables.clean.expectations.total.sum.equals"),
        ("by: [id], time: at, columns: [temp]", "by: [id], time: att, columns: [temp]", 21, "dataset.lookups.weather.time"),
        ("time: at, columns", "time: at, latest_by: seq, columns", 21, "dataset.lookups.weather.latest_by"),
        ("sum(amount)", "sum(amont)", 22, "dataset.aggregates.features.spent"),
        ("  key: [id]\n  label", "  key: [id, part]\n  label", 23, "dataset.key"),
        ("label: is_late", "label: Is_Late", 24, "dataset.label"),
        ("exclude: [spent_1d]", "exclude: [spent_2d]", 26, "dataset.exclude"),
        ("event_time: at", "event_time: at\n  weight: heft", 26, "dataset.weight"),
        ("event_time: at", "event_time: at\n  split: {by: group, group: tail}", 26, "dataset.split.group"),
        ("columns: [amount, temp]", "columns: [amount, temper]", 28, "features.numeric.columns"),
        ("numeric: {columns: [amount, temp]}", "numeric: [{columns: [amount]}, {columns: [tmp]}]", 28, "features.numeric.1.columns"),
        ("numeric:", "interactions: {pairs: [[amount, tempo]]}\n  numeric:", 28, "features.interactions.pairs"),
        ("keep: [at]", "keep: [att]", 32, "scoring.keep"),
        ("is_late FROM", "is_lat AS is_late FROM", 10, "tables.clean.sql"),
    ],
)  # fmt: skip
def test_each_column_that_is_not_there_is_told(faults_of, old: str, new: str, line: int, key: str) -> None:
    [(found_line, found_key, message)] = faults_of(old, new)
    assert (found_line, found_key) == (line, key)
    assert message.startswith(("column '", "no column '"))


def test_the_nearest_name_and_the_place_in_a_file_are_told(project: Path, faults_of, capsys) -> None:
    (project / "clean.sql").write_text("-- a comment\nSELECT id, amount,\n  ad AS at, is_late\nFROM bronze.events e WHERE e.tmp > 0\n")
    actual = faults_of("SELECT id, amount, at, is_late FROM bronze.events", "clean.sql")
    assert [(line, key) for line, key, _ in actual] == [(3, "tables.clean.sql"), (4, "tables.clean.sql")]
    assert "did you mean 'temp'?" in actual[1][2]
    assert main(["check", str(project)]) == 2
    shown = capsys.readouterr().err
    assert f"{project}/clean.sql:3:3: tables.clean.sql: no column 'ad' in the tables of this query" in shown
    assert f"{project}/clean.sql:4:30: tables.clean.sql: no column 'tmp'" in shown


def test_a_run_is_refused_before_anything_is_written(project: Path, faults_of, capsys) -> None:
    assert faults_of("label: is_late", "label: is_lat")
    assert main(["run", str(project)]) == 2
    assert "pipeline.yml:24: dataset.label: column 'is_lat' is not in the dataset; did you mean 'is_late'?" in capsys.readouterr().err
    assert not list((project / "lake").rglob("*.parquet"))


def test_a_part_of_a_run_is_refused_only_for_what_it_goes_by(project: Path, faults_of) -> None:
    faults_of("label: is_late", "label: is_lat", "latest_by: at", "latest_by: ad")
    spec = load_spec(project, environ={})
    lake = Lake(spec.pipeline.lake)
    refuse_unknown_columns(spec, lake, ["ingest.events", "score"])
    for node, key in (("prepare.clean", "tables.clean.latest_by"), ("dataset", "dataset.label"), ("train", "dataset.label")):
        with pytest.raises(SpecError) as refused:
            refuse_unknown_columns(spec, lake, ["ingest.events", node])
        assert [fault.key for fault in refused.value.faults] == [key]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SELECT * FROM silver.clean", "SELECT *, upper(id) FROM silver.clean"),  # Spark names that column
        ("SELECT * FROM silver.clean", "SELECT c.*, x.* FROM silver.clean c, LATERAL explode(array(c.id)) x"),
        ("path: events.csv", "path: events.csv\n    on_new_column: add"),
        ("path: events.csv", "path: none.csv"),
        ("format: csv", "format: xml"),
        ("options: {header: true}", "options: {header: false}"),
        ("path: events.csv", "path: s3a://bucket/events.csv"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_not_refused(faults_of, old: str, new: str) -> None:
    row_tag = ("header: true", "header: true, rowTag: r") if "xml" in new else ()
    everything = ("SELECT id, amount, at, is_late FROM bronze.events", "SELECT * FROM bronze.events")
    elsewhere = ("label: is_late", "label: not_there", "keep: [at]", "keep: [nor_this]", "[amount, temp]", "[amount, nor_that]")
    assert faults_of(*everything, *elsewhere, *row_tag, old, new) == []


def source_faults(folder: Path, source: dict[str, object], label: str) -> list[str]:
    spec = {"pipeline": "p", "lake": str(folder / "lake"), "sources": {"s": source}}
    spec |= {"dataset": {"from": "bronze.s", "key": ["id"], "label": label}, "training": {"task": "binary"}}
    (folder / "pipeline.yml").write_text(json.dumps(spec))
    loaded = load_spec(folder, environ={})
    return [fault.key for fault in column_faults(loaded, Lake(loaded.pipeline.lake))]


def test_columns_are_those_of_every_file_of_every_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;price (EUR)\n1;2\n")
    (tmp_path / "b.csv").write_text("id;late\n1;2\n")
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n\n{"id": 2, "late": true}\n')
    pq.write_table(pa.table({"id": [1], "late": [True]}), tmp_path / "a.parquet")
    with sqlite3.connect(tmp_path / "x.db") as base:
        base.execute("create table t (id integer, late integer)")
    write_deltalake(str(tmp_path / "d"), pa.table({"id": [1], "late": [True]}))
    sources: list[dict[str, object]] = [
        {"format": "csv", "path": "*.csv", "options": {"header": True, "sep": ";"}},
        {"format": "json", "path": "a.jsonl"},
        {"format": "parquet", "path": "a.parquet"},
        {"format": "jdbc", "url": "jdbc:sqlite:x.db", "table": "t"},
        {"format": "jdbc", "url": "jdbc:sqlite:x.db", "query": "select id, late from t"},
        {"format": "delta", "path": "d"},
        {"format": "csv", "path": "none/*.csv", "schema": "id INT COMMENT 'a key', late: BOOLEAN"},
        {"format": "csv", "path": "none/*.csv", "schema": "id INT NOT NULL, late BOOLEAN"},
        {"format": "csv", "path": "none/*.csv", "schema": '{"type": "struct", "fields": [{"name": "id"}, {"name": "late"}]}'},
    ]
    for source in sources:
        assert source_faults(tmp_path, source, "late") == [], source
        is_known = "late: BOOLEAN" not in str(source.get("schema"))
        assert source_faults(tmp_path, source, "lat") == (["dataset.label"] if is_known else []), source
    assert source_faults(tmp_path, sources[0], "price__EUR_") == []
    assert source_faults(tmp_path, sources[0], "_source_file") == []


def test_the_lakes_own_schema_counts_once_it_is_pinned(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,new\n1,2\n")
    write_deltalake(str(tmp_path / "lake" / "bronze" / "s"), pa.table({"id": [1], "late": [1], "_source_file": ["x"]}))
    source: dict[str, object] = {"format": "csv", "path": "a.csv", "options": {"header": True}}
    assert source_faults(tmp_path, source, "late") == []
    assert source_faults(tmp_path, source, "new") == ["dataset.label"]
    assert source_faults(tmp_path, {**source, "on_new_column": "add"}, "new") == []


TYPED = (
    "id INT, name STRING, at TIMESTAMP, day DATE, amount DECIMAL(10,2), is_late BOOLEAN, ok BOOLEAN, n BIGINT, tags ARRAY<STRING>, "
    "m MAP<STRING, INT>, b BINARY"
)


def typed_faults(folder: Path, dataset: dict[str, object], **blocks: object) -> list[tuple[str, str]]:
    """Return (key, message) of each fault of a dataset of ``bronze.s``, whose columns are declared."""
    source = {"format": "csv", "path": "none.csv", "schema": TYPED}
    training = blocks.pop("training", {"task": "binary"})
    spec = {"pipeline": "p", "lake": str(folder / "lake"), "sources": {"s": source, "t": source}, "training": training, **blocks}
    spec |= {"dataset": {"key": ["id"], "label": "is_late", **({} if "sql" in dataset else {"from": "bronze.s"}), **dataset}}
    (folder / "pipeline.yml").write_text(json.dumps(spec))
    loaded = load_spec(folder, environ={})
    return [(fault.key, fault.message) for fault in column_faults(loaded, Lake(loaded.pipeline.lake))]


LOOKUP = {"table": "bronze.t", "by": ["id"], "time": "at", "columns": ["tags"], "prefix": "t_"}
AGGREGATE = {"over": "bronze.t", "by": ["id"], "time": "at", "windows": ["1d"]}
UNFIT: list[tuple[str, str, str, dict[str, object], dict[str, object]]] = [
    ("dataset.event_time", "name", "STRING", {"event_time": "name"}, {}),
    ("dataset.event_time", "ok", "BOOLEAN", {"event_time": "ok"}, {}),
    ("dataset.label", "name", "STRING", {"label": "name"}, {"training": {"task": "regression"}}),
    ("dataset.label", "tags", "ARRAY<STRING>", {"label": "tags"}, {}),
    ("dataset.weight", "name", "STRING", {"weight": "name"}, {}),
    ("dataset.key", "m", "MAP<STRING, INT>", {"key": ["id", "m"]}, {}),
    ("dataset.lookups.w.time", "name", "STRING", {"event_time": "at", "lookups": {"w": {**LOOKUP, "time": "name"}}}, {}),
    ("dataset.lookups.w.time", "id", "INT", {"event_time": "at", "lookups": {"w": {**LOOKUP, "time": "id"}}}, {}),
    ("dataset.lookups.w.latest_by", "m", "MAP<STRING, INT>", {"event_time": "at", "lookups": {"w": {**LOOKUP, "latest_by": "m"}}}, {}),
    (
        "dataset.lookups.w.by", "id", "INT",
        {"event_time": "at", "lookups": {"w": LOOKUP}, "key": ["k"], "sql": "SELECT name AS id, at, is_late, id AS k FROM bronze.s"}, {},
    ),
    (
        "dataset.aggregates.features.x", "day", "DATE",
        {"event_time": "at", "aggregates": {**AGGREGATE, "features": {"x": "sum(day)"}}}, {},
    ),
    ("features.numeric.columns", "at", "TIMESTAMP", {}, {"features": {"numeric": {"columns": ["amount", "at"]}}}),
    ("features.datetime.columns", "amount", "DECIMAL(10, 2)", {}, {"features": {"datetime": {"columns": ["day", "amount"]}}}),
    ("features.text.columns", "n", "BIGINT", {}, {"features": {"text": {"columns": ["n"]}}}),
    ("features.array.columns", "name", "STRING", {}, {"features": {"array": {"columns": ["name", "tags"]}}}),
    ("features.buckets.0.columns", "b", "BINARY", {}, {"features": {"buckets": [{"columns": ["b"], "quantiles": 4}]}}),
]  # fmt: skip


@pytest.mark.parametrize(("key", "name", "kind", "dataset", "blocks"), UNFIT, ids=lambda value: value if isinstance(value, str) else "")
def test_a_column_whose_type_does_not_fit_is_told_with_what_to_do(tmp_path: Path, key, name, kind, dataset, blocks) -> None:
    [(actual, message)] = typed_faults(tmp_path, dataset, **blocks)
    assert actual == key
    assert message.startswith(f"column {name!r} is of type {kind}; expected ")
    assert "CAST" in message


@pytest.mark.parametrize(
    ("dataset", "blocks"),
    [
        ({"event_time": "day"}, {}),
        ({"event_time": "id"}, {}),
        ({"event_time": "name", "split": {"by": "hash"}}, {}),  # nothing goes by it
        ({"label": "amount"}, {"training": {"task": "regression"}}),
        ({"label": "name", "weight": "amount", "key": ["id", "tags"]}, {}),
        ({"event_time": "at", "lookups": {"w": {**LOOKUP, "time": "day", "by": ["id", "amount"], "latest_by": "b"}}}, {}),
        ({}, {"features": {"numeric": {"columns": ["name", "ok"]}, "categorical": {"columns": ["day", "m"]}}}),
        ({"sql": "SELECT CASE WHEN id > 1 THEN 1 ELSE name END AS w, id, is_late FROM bronze.s", "weight": "w"}, {}),
        ({"sql": "SELECT id, is_late, name AS w FROM bronze.s UNION SELECT id, is_late, id FROM bronze.t", "weight": "w"}, {}),
        ({"sql": "SELECT id, is_late, coalesce(name, 1) AS w FROM bronze.s", "weight": "w"}, {}),
    ],
)  # fmt: skip
def test_a_column_whose_type_may_fit_is_not_refused(tmp_path: Path, dataset, blocks) -> None:
    assert typed_faults(tmp_path, dataset, **blocks) == []


def test_types_of_expressions_files_and_tables(tmp_path: Path) -> None:
    sql = "SELECT s.id, s.is_late, upper(s.name) AS w FROM bronze.s"
    [(key, message)] = typed_faults(tmp_path, {"sql": sql, "weight": "w"})
    assert (key, "of type STRING" in message) == ("dataset.weight", True)
    assert [key for key, _ in typed_faults(tmp_path, {"sql": sql.replace("upper(s.name)", "count(*)"), "weight": "w"})] == []
    pq.write_table(pa.table({"id": [1], "w": ["x"], "late": [True]}), tmp_path / "a.parquet")
    write_deltalake(str(tmp_path / "lake" / "bronze" / "s"), pa.table({"id": [1], "w": ["x"], "late": [True]}))
    for source in ({"format": "parquet", "path": "a.parquet"}, {"format": "csv", "path": "a.csv", "options": {"header": True}}):
        for extra, expected in (({}, ["dataset.weight"]), ({"on_type_change": "widen"}, [])):
            spec = {"pipeline": "p", "lake": str(tmp_path / "lake"), "sources": {"s": {**source, **extra}}}
            spec |= {"dataset": {"from": "bronze.s", "key": ["id"], "label": "late", "weight": "w"}, "training": {"task": "binary"}}
            (tmp_path / "pipeline.yml").write_text(json.dumps(spec))
            loaded = load_spec(tmp_path, environ={})
            assert [fault.key for fault in column_faults(loaded, Lake(loaded.pipeline.lake))] == expected
