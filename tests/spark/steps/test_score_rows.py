"""Rows that have just arrived are the model's rows of a run: the same reader, SQL, functions, lookups, and every record answered."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fastavro
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F
from tests.spark.tables import write_table

from tidemill.columns import column
from tidemill.errors import SourceError, StepError, UsageError
from tidemill.lake import Lake
from tidemill.model_registry import Deployments, Manifest
from tidemill.model_registry.predict import predict
from tidemill.spec import load_spec
from tidemill.steps.dataset.history import with_history
from tidemill.steps.dataset.step import _read as read_dataset
from tidemill.steps.result import StepContext
from tidemill.steps.score import nodes as row_nodes
from tidemill.steps.score import rows as module
from tidemill.steps.score.entry import find_entry
from tidemill.steps.score.rows import score_input_rows
from tidemill.workflow import LazySpark, Runner

STAMPS = ("split", "fold", "_ingested_at", "_batch_id", "_source_file", "_source_row_hash", "_rescued")


class Echo:
    """Stands for a model whose prediction is a hash of all that it is given, so that equal predictions mean equal rows."""

    def __init__(self, features: list[str]) -> None:
        self._features = features

    def transform(self, rows: Any) -> Any:
        parts = [part for name in self._features for part in (column(name), column(name).isNull())]
        return rows.withColumn("prediction", F.pmod(F.xxhash64(*parts), F.lit(2**40)).cast("double"))


class Scorer:
    """A lake made from a spec as far as its dataset, with a champion that is an ``Echo`` of the dataset's columns."""

    def __init__(self, spark: Any, folder: Path, declared: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        file = folder / "pipeline.yml"
        file.write_text(json.dumps({"pipeline": "p", "lake": str(folder / "lake"), "training": {"task": "regression"}, **declared}))
        self.spark, self.spec, self.lake = spark, load_spec(file), Lake(str(folder / "lake"))
        runner = Runner(self.spec, LazySpark(lambda: spark))
        outcome = runner.run([node for node in runner.graph.nodes if node.step in ("ingest", "prepare")])
        assert outcome.exit_code == 0, outcome.to_json()
        versions = {table: self.lake.version(table) for table in self.spec.dataset_inputs()}
        context = StepContext(spark, self.spec, self.lake, versions, "r0", "dataset")
        with with_history(context, read_dataset(context)) as (known, _):  # the step but for its checks, which a few rows do not pass
            write_table(self.lake, known, "gold.p_dataset")
        self.dataset = self.lake.read(spark, "gold.p_dataset")
        leave = {self.spec.pipeline.dataset.label, *self.spec.pipeline.dataset.exclude, *STAMPS}
        kinds = {part.name: part.dataType.simpleString() for part in self.dataset.schema.fields if part.name not in leave}
        self.manifest = Manifest("p", 1, "regression", "echo", {}, "rmse", 0.0, None, "double", None, kinds, "r0", 0)
        for state in ("CANDIDATE", "CHALLENGER", "CHAMPION"):
            Deployments(self.lake.ledger, "p").move(1, state, run_id="r0", reason="test")
        model = Echo(list(kinds))
        monkeypatch.setattr(module, "load_model", lambda *_: (model, self.manifest))
        self.expected = {row["id"]: row["prediction"] for row in predict(model, self.manifest, self.dataset).collect()}

    def __call__(self, given: str | Path, **where: str) -> dict[Any, SimpleNamespace]:
        """Return the answers by id."""
        return {row.id: row for row in self.rows(given, **where)}

    def rows(self, given: str | Path, **where: str) -> list[SimpleNamespace]:
        """Return the answers in their order."""
        entry = find_entry(self.spec, self.lake, str(given), **where)
        with score_input_rows(self.spark, self.spec, self.lake, entry) as scored:
            self.notes = scored.notes
            return [SimpleNamespace(**row.asDict()) for row in scored.frame.collect()]

    def assert_same(self, given: str | Path, **where: str) -> None:
        """Assert that an input gets the predictions of the run's own rows."""
        found = self(given, **where)
        assert {key: row.score_error for key, row in found.items() if key in self.expected and row.score_error} == {}
        assert {key: row.prediction for key, row in found.items() if key in self.expected} == self.expected


@pytest.fixture
def scorer(spark, tmp_path, monkeypatch) -> Callable[..., Scorer]:
    return lambda **declared: Scorer(spark, tmp_path, declared, monkeypatch)


def source(path: Path, kind: str, **more: object) -> dict[str, Any]:
    return {
        "sources": {"t": {"format": kind, "path": str(path), **more}},
        "dataset": {"from": "bronze.t", "key": ["id"], "label": "y"},
    }


AT = pd.to_datetime(["2024-03-31 01:30:00.123456", "2024-07-01 00:00:00", "2024-11-05 23:59:59.5"], format="ISO8601")


@pytest.mark.long("a run, and a scoring of its own files")
def test_csv_with_every_option(scorer, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    head = "id;size (cm);day;at;amount;y\n"
    lines = [
        '1;"7\\" pipe; é";18/10/2024;2024-05-14 20:42:00;1.50;1.0\n',
        '2;"two\nlines";01/02/2024;2024-02-01 00:21:00;NA;2.0\n',
        "3;a\\\\b;31/12/2023;2024-12-31 23:59:59;0.25;3.0\n",
    ]
    main = folder / "main.csv"
    main.write_bytes((head + "".join(lines)).encode("latin-1"))
    options = {"header": True, "sep": ";", "escape": "\\", "dateFormat": "dd/MM/yyyy", "nullValue": "NA", "multiLine": True}
    schema = "id INT, size__cm_ STRING, day DATE, at TIMESTAMP, amount DECIMAL(6,2), y DOUBLE"
    p = scorer(**source(folder, "csv", timezone="Europe/Berlin", schema=schema, options={**options, "encoding": "ISO-8859-1"}))
    assert p.dataset.where("id = 1").first()["at"].hour == 18  # summer in Berlin is two hours ahead of UTC
    assert [row["size__cm_"] for row in p.dataset.orderBy("id").collect()] == ['7" pipe; é', "two\nlines", "a\\\\b"]
    p.assert_same(main)
    odd = tmp_path / "_a:b [1]{x,y}*.csv.gz"
    odd.write_bytes(gzip.compress(main.read_bytes()))
    p.assert_same(odd)

    new = tmp_path / "new.csv"  # no label, another order of the columns, and what cannot be read
    new.write_text(
        "day;id;size (cm);at;amount\n18/10/2024;1;x;2024-05-14 20:42:00;1.5\n18/10/2024;2;x\n2024-10-18;3;x;2024-05-14 20:42:00;1.5\n"
        "18/10/2024;4;x;2024-05-14 20:42:00;1.555\nday;id;size (cm);at;amount\n",
        encoding="latin-1",
    )
    rows = p.rows(new)
    assert (rows[0].id, rows[0].score_error) == (1, None) and rows[0].prediction is not None
    assert [row.prediction for row in rows[1:]] == [None] * 4 and len(rows) == 5
    assert "cannot be parsed into its fields: 18/10/2024;2;x" in rows[1].score_error
    assert rows[2].id == 3 and "day is not a value of type date" in rows[2].score_error
    assert rows[3].id == 4 and "amount is not a value of type decimal(6,2)" in rows[3].score_error
    assert "repeats the header" in rows[4].score_error
    short = tmp_path / "short.csv"
    short.write_text("id;amount\n1;2\n", encoding="latin-1")
    with pytest.raises(UsageError, match="needs the columns size__cm_, day, at, which the rows to score lack; they have id, amount"):
        p.rows(short)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(SourceError, match="it is empty"):
        p.rows(tmp_path / "empty.csv")


@pytest.mark.long("a run, and a scoring of its own files")
def test_json_with_optional_keys(scorer, tmp_path):
    file = tmp_path / "t.jsonl"
    records = [
        {"id": 1, "x": 2, "at": "2024-05-14T20:42:00", "on": "05.04.2024", "y": 1.5, "price": 3.25},
        {"id": 2, "x": None, "at": "2024-01-14T20:42:00+02:00", "y": 2.5},
        {"id": 3, "x": 7, "c": "a", "y": 3.5},
    ]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    options = {"dateFormat": "dd.MM.yyyy"}
    schema = "id BIGINT, x INT, at TIMESTAMP, `on` DATE, c STRING, y DOUBLE, price DECIMAL(6,2)"
    p = scorer(**source(file, "json", timezone="America/New_York", schema=schema, options=options))
    p.assert_same(file)
    array = tmp_path / "_array.json"
    array.write_text(json.dumps(records, indent=1))
    p.assert_same(array)
    new = tmp_path / "new.jsonl"
    new.write_text(
        '{"id": 1, "x": 2}\n{"id": 2, "x": 2.9}\n{"id": 3}\n{"id": \n[1]\n{"id": 6, "x": "3", "zzz": 1}\n'
        '{"id": 7, "price": 2.345}\n{"id": 8, "price": 2.340}\n{"id": 9, "price": 12345.6}\n{"id": 10, "on": "05.04.2024 12:00"}\n'
    )
    rows = p.rows(new)
    assert [row.id for row in rows] == [1, 2, 3, None, None, 6, 7, 8, 9, 10]
    assert [row.id for row in rows if row.score_error is None] == [1, 3, 8]
    assert "price is not a value of type decimal(6,2)" in rows[6].score_error
    assert "x is not a value of type int" in rows[1].score_error and "2.9" in rows[1].score_error
    assert "not JSON" in rows[3].score_error and "not a JSON object" in rows[4].score_error
    # A file of another kind than the source's: the same columns, types and zone.
    csv = tmp_path / "new.csv"
    csv.write_text("id,x,at,on,c,price\n1,2,2024-05-14 20:42:00,2024-04-05,,3.25\n2,2.9,,,,\n3,,,2024-04-05 12:00:00,,\n4,,,,,2.345\n")
    found = p(csv)
    assert "on is not a value of type date" in found[3].score_error and "price is not" in found[4].score_error
    assert found[1].prediction == p.expected[1] and "x is not a value of type int" in found[2].score_error
    parquet = tmp_path / "new.parquet"
    pd.DataFrame({"id": [1, 2], "x": [2.0, 2.9], "at": AT[:2], "on": ["2024-04-05", None], "c": None, "price": [3.25, None]}).to_parquet(
        parquet
    )
    found = p(parquet)
    assert found[1].score_error is None and "x is not a value of type int" in found[2].score_error


def test_files_that_bring_their_types(scorer, tmp_path):
    frame = pd.DataFrame({"id": [1, 2, 3], "x": [1.5, np.nan, 3.0], "at": AT, "n": pd.array([1, None, 3], "Int64"), "y": [1.0, 2.0, 3.0]})
    file = tmp_path / "t.parquet"
    table = pa.Table.from_pandas(frame.assign(at=frame["at"].astype("datetime64[ns]")))
    pq.write_table(table, file, version="2.6", coerce_timestamps=None)
    assert pq.read_schema(file).field("at").type == pa.timestamp("ns")
    p = scorer(**source(file, "parquet"))
    p.assert_same(file)
    odd = tmp_path / "_a:b[0].parquet"
    odd.write_bytes(file.read_bytes())
    p.assert_same(odd)
    unlabelled = tmp_path / "new.parquet"
    frame.assign(n=[1.0, np.nan, 3.5]).drop(columns="y").to_parquet(unlabelled)
    found = p(unlabelled)
    assert found[1].prediction == p.expected[1] and found[2].prediction == p.expected[2]
    assert "n is not a value of type bigint" in found[3].score_error and "3.5" in found[3].score_error
    with pytest.raises(UsageError, match="needs the columns x, n"):
        frame[["id", "at"]].to_parquet(unlabelled)
        p.rows(unlabelled)


@pytest.mark.long("a run and a scoring for each of three formats")
def test_orc_avro_and_xml(spark, tmp_path, monkeypatch):
    for kind in ("orc", "avro", "xml"):
        folder = tmp_path / kind
        folder.mkdir()
        rows = [{"id": 1, "c": "a", "y": 1.5}, {"id": 2, "c": None, "y": 2.5}]
        file = folder / f"t.{kind}"
        more: dict[str, object] = {}
        if kind == "orc":
            pyarrow.orc.write_table(pa.Table.from_pylist(rows), str(file))
        elif kind == "avro":
            types = [("id", "long"), ("c", ["null", "string"]), ("y", "double")]
            fields = [{"name": name, "type": of} for name, of in types]
            stream = io.BytesIO()
            fastavro.writer(stream, fastavro.parse_schema({"type": "record", "name": "r", "fields": fields}), rows)
            file.write_bytes(stream.getvalue())
        else:
            file.write_text("<all><r><id>1</id><c>a</c><y>1.5</y></r><r><id>2</id><y>2.5</y></r></all>")
            more = {"options": {"rowTag": "r"}}
        p = Scorer(spark, folder, source(file, kind, **more), monkeypatch)
        p.assert_same(file)
    (tmp_path / "new.xml").write_text("<all><r><id>3</id><c>b</c></r><r><id>x</id></r></all>")
    third, wrong = p.rows(tmp_path / "new.xml")
    assert (third.id, third.score_error) == (3, None) and "id is not a value of type bigint" in wrong.score_error


FUNCTIONS = """
from pyspark.sql import functions as F

def flights(bronze_flights):
    return bronze_flights.where("x > -1").select("id", "origin", "at", "x", "y", F.upper("origin").alias("up"))

def numbered(flights):
    return flights.dropDuplicates(["origin"])
"""


@pytest.mark.long("five tables, lookups and aggregates, scored from four entries")
def test_rows_go_through_tables_lookups_and_aggregates(scorer, tmp_path):
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    flights = tmp_path / "flights.csv"
    flights.write_text(
        "id,origin,at,x,y\n1,JFK,2024-01-02 10:00:00,1,10\n2,EWR,2024-01-02 11:00:00,2,20\n3,JFK,2024-01-03 10:00:00,3,30\n"
        "4,JFK,2024-01-03 11:00:00,-5,40\n5,LGA,2024-01-03 12:00:00,200,50\n6,XXX,2024-01-03 12:00:00,2,60\n"
        "7,EWR,2024-01-03 12:00:00,50,70\n"
    )
    weather = tmp_path / "weather.jsonl"
    weather.write_text(
        "".join(
            json.dumps({"origin": origin, "seen": f"2024-01-0{day} 00:00:00", "temp": 10.0 * day + len(origin)}) + "\n"
            for origin in ("JFK", "EWR", "LGA")
            for day in (1, 2, 3)
        )
    )
    airports = tmp_path / "airports.csv"
    airports.write_text("origin,size\nJFK,3\nEWR,2\nLGA,1\n")
    csv = {"options": {"header": True}}
    declared = {
        "sources": {
            "flights": {
                "format": "csv",
                "path": str(flights),
                **csv,
                "expectations": {"sane": {"check": "x < 100", "on_violation": "quarantine"}},
            },
            "weather": {"format": "json", "path": str(weather), "schema": "origin STRING, seen TIMESTAMP, temp DOUBLE"},
            "airports": {"format": "csv", "path": str(airports), **csv},
        },
        "tables": {
            "flights": {"python": "functions.flights", "key": ["id"]},
            "timed": {
                "sql": "SELECT f.*, a.size, f.y > 15 AS late, concat(f.up, '-', id) AS name FROM silver.flights AS f"
                " JOIN bronze.airports a USING (origin)",
                "key": ["id"],
                "expectations": {
                    "small": {"check": "x < 10", "on_violation": "drop"},
                    "labelled": {"not_null": "y", "on_violation": "drop"},
                },
            },
            "stats": {"sql": "SELECT origin, avg(x) AS usual FROM silver.flights GROUP BY origin", "key": ["origin"]},
            "once": {"python": "functions.numbered", "key": ["id"]},
        },
        "dataset": {
            "sql": "WITH t AS (SELECT id, origin, at, x, size, name, late, y FROM silver.timed)"
            " SELECT t.*, s.usual FROM t LEFT JOIN silver.stats s USING (origin)",
            "key": ["id"],
            "label": "y",
            "exclude": ["late"],
            "event_time": "at",
            "lookups": {"weather": {"table": "bronze.weather", "by": ["origin"], "time": "seen"}},
            "aggregates": {
                "over": "silver.flights",
                "by": ["origin"],
                "time": "at",
                "windows": ["7d"],
                "features": {"flown": "count", "m": "avg(x)"},
            },
        },
    }
    p = scorer(**declared)
    assert sorted(p.expected) == [1, 2, 3]
    p.assert_same("silver.timed")
    rows = p.rows(flights)
    assert {row.id: row.prediction for row in rows if row.score_error is None} == p.expected
    assert [row.id for row in rows] == [1, 2, 3, 4, 5, 6, 7], "every record, in its order"
    errors = {row.id: row.score_error for row in rows}
    assert "silver.flights (functions.flights) drops it" in errors[4]
    assert "it breaks the expectation sane (x < 100)" in errors[5]
    assert "silver.timed drops it: its WHERE or a join" in errors[6]
    assert "silver.timed drops it: it breaks the expectation small" in errors[7]

    new = tmp_path / "new.csv"  # without its label, from which `late` is computed and which a rule asks for
    new.write_text("id,origin,at,x\n2,EWR,2024-01-02 11:00:00,2\n90,JFK,2024-01-03 10:00:00,3\n91,JFK,2024-01-03 10:00:00,30\n")
    found = p(new)
    assert found[2].prediction == p.expected[2] and found[90].score_error is None
    assert "expectation small" in found[91].score_error
    base = tmp_path / "base.jsonl"  # the columns of the dataset's SQL: lookups and aggregates are added
    first = p.dataset.where("id = 1").first()
    base.write_text(
        json.dumps({"id": 1, "origin": "JFK", "at": "2024-01-02 10:00:00", "x": 1, "size": 3, "name": "JFK-1", "usual": first["usual"]})
    )
    assert p(base, at="dataset")[1].prediction == p.expected[1]
    timed = tmp_path / "timed.csv"
    timed.write_text("id,origin,at,x,size,name,up\n3,JFK,2024-01-03 10:00:00,3,3,JFK-3,JFK\n3,JFK,2024-01-03 10:00:00,3,2.5,JFK-3,JFK\n")
    good, bad = p.rows(timed, at="silver.timed")
    assert good.prediction == p.expected[3] and "size is not a value of type int" in bad.score_error
    # Whose records they are is told by their columns; airports join what is scored, so that both can be meant.
    with pytest.raises(UsageError, match="flights or airports; choose one: --source flights"):
        (tmp_path / "both.csv").write_text("origin\nJFK\n")
        find_entry(p.spec, p.lake, str(tmp_path / "both.csv"))
    with pytest.raises(UsageError, match=r"rows of silver.stats cannot be taken.*LEFT JOIN"):
        find_entry(p.spec, p.lake, str(flights), at="silver.stats")


@pytest.mark.long("a run, and rows that are bisected to the failing one")
def test_a_row_on_which_sql_fails_is_answered_and_the_others_are_scored(scorer, tmp_path):
    (tmp_path / "t.csv").write_text("id,text,d,y\n1,7,1,1\n2,8,2,2\n")
    declared = source(tmp_path / "t.csv", "csv", options={"header": True}, schema="id INT, text STRING, d INT, y INT")
    tables = {"typed": {"sql": "SELECT id, CAST(text AS INT) AS n, d, y FROM bronze.t WHERE CAST(text AS INT) > 0", "key": ["id"]}}
    sql = "SELECT id, n, 10 DIV d AS part, y FROM silver.typed"
    p = scorer(**{**declared, "tables": tables, "dataset": {"sql": sql, "key": ["id"], "label": "y"}})
    new = tmp_path / "new.csv"
    new.write_text("id,text,d\n1,7,1\n3,x9,1\n4,-1,1\n2,8,2\n5,8,0\n6,,3\n7,twelve,0\n")
    rows = p.rows(new)
    assert [row.id for row in rows] == [1, 3, 4, 2, 5, 6, 7], "every record, in its order"
    errors = {row.id: row.score_error for row in rows}
    assert {row.id: row.prediction for row in rows if row.score_error is None} == p.expected
    assert "silver.typed" in errors[3] and "'x9'" in errors[3]
    assert "'twelve'" in errors[7]
    assert "drops it" in errors[4] and "drops it" in errors[6]
    assert "dataset" in errors[5] and "zero" in errors[5]


def test_sql_that_fails_whatever_the_rows_is_no_fault_of_a_row(scorer, tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("id,text,y\n1,7,1\n2,8,2\n")
    declared = source(tmp_path / "t.csv", "csv", options={"header": True}, schema="id INT, text STRING, y INT")
    sql = "SELECT id, CAST(text AS INT) AS n, y FROM bronze.t"
    p = scorer(**{**declared, "dataset": {"sql": sql, "key": ["id"], "label": "y"}})
    (tmp_path / "bad.csv").write_text("id,text\n" + "".join(f"{place},x\n" for place in range(4)))
    monkeypatch.setattr(row_nodes, "_MAX_FAILING_ROWS", 3)
    with pytest.raises(StepError, match="more than 3 rows of the input"):
        p(tmp_path / "bad.csv")
    monkeypatch.setattr(type(p.spec), "sql_text", lambda *_: "SELECT id, no_such AS n, y FROM bronze.t")
    with pytest.raises(StepError, match="no_such"):
        p(tmp_path / "t.csv")
