"""A source's own expectations: judged record by record as it is read, counted, and decided before anything is committed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from tests.spark.tables import read_rows

from tidemill.errors import ExpectationRefused, SourceError, StepError
from tidemill.lake.staging import Stage
from tidemill.steps.prepare.reprocess import reprocess_source

LINES = ["1,10,2", "2,0,0", "3,-5,1", "4,,1", "5,30,1", "x,1,1"]


@pytest.fixture
def declared(declared) -> dict[str, object]:
    return declared | {"schema": "id INT, size INT, parts INT"}


def ids(lake) -> list[int]:
    return sorted(row["id"] for row in read_rows(lake, "bronze.x"))


def read_refused(lake) -> dict[str, list[str]]:
    return {row["raw"]: row["rules"] for row in read_rows(lake, "bronze.x_quarantine")}


def told(lake, run_id: str) -> dict[str, tuple]:
    rows = lake.ledger.rows("ops.expectations", run_id=run_id, table_name="bronze.x")
    return {row["expectation"]: (row["rows_checked"], row["rows_failed"], row["action"], row["passed"]) for row in rows}


def test_records_are_kept_or_quarantined_by_each_rule(load, lake, spark, raw) -> None:
    (raw / "1.csv").write_text("\n".join(["id,size,parts", *LINES, ""]))
    rules = {
        "positive": {"check": "size > 0", "on_violation": "quarantine"},
        "evenly": {"check": "size % parts = 0 -- a comment", "on_violation": "quarantine"},
        "small": {"check": "size < 20", "on_violation": "warn"},
        "known": {"not_null": ["id", "size"], "on_violation": "warn"},
    }
    result = load("r1", expectations=rules)
    assert (result.rows_in, result.rows_out, result.rows_quarantined) == (6, 2, 4)
    assert ids(lake) == [1, 5]
    # The second divides by zero and the fourth has nothing to compare: neither passes, and all that is broken is told.
    # The last was never judged.
    assert read_refused(lake) == {
        "2,0,0": ["positive", "evenly"],
        "3,-5,1": ["positive"],
        "4,,1": ["positive", "evenly", "small", "known"],
        "x,1,1": ["cast:id"],
    }
    assert told(lake, "r1") == {
        "positive": (5, 3, "quarantine", False),
        "evenly": (5, 2, "quarantine", False),
        "small": (5, 2, "warn", False),
        "known": (5, 1, "warn", False),
    }
    assert any("2 of 5 rows break 'small' (kept)" in note for note in result.notes)
    row = lake.ledger.rows("ops.files", run_id="r1")[0]
    assert (row["rows"], row["quarantined"]) == (2, 4)
    assert "_noted" not in lake.read(spark, "bronze.x").columns


@pytest.mark.long("several ingests against one limit each")
def test_a_batch_that_breaks_a_limit_is_not_taken_in(load, ingest_context, lake, raw) -> None:
    (raw / "1.csv").write_text("id,size,parts\n1,10,1\n")
    small = {"small": {"check": "size < 20", "on_violation": "fail"}}
    load("r1", expectations=small)
    (raw / "2.csv").write_text("id,size,parts\n2,10,1\n3,30,1\n4,5,1\nx,5,1\n")
    message = r"bronze\.x: expectation 'small' \(size < 20\) is broken by 1 of 3 rows.*such as .*30.*bronze\.x stays at version 0"
    with pytest.raises(ExpectationRefused, match=message):
        load("r2", expectations=small)
    half = {"small": {"check": "size < 20", "on_violation": "quarantine", "at_most": 0.3}}
    with pytest.raises(ExpectationRefused, match=r"33\.33%, at most 30\.00% allowed"):
        load("r3", expectations=half)
    assert (ids(lake), read_refused(lake)) == ([1], {})
    assert not lake.ledger.rows("ops.files", run_id="r2")
    assert told(lake, "r2") == {"small": (3, 1, "fail", False)}
    assert not [entry for entry in Path(lake.path("bronze.x")).glob("stage-*") if not list(entry.rglob("*.parquet"))]

    one = {"small": {"check": "size < 20", "on_violation": "quarantine", "at_most": 1}}
    load("r4", expectations=one)
    assert ids(lake) == [1, 2, 4]
    assert read_refused(lake) == {"3,30,1": ["small"], "x,5,1": ["cast:id"]}

    # The rule was wrong: with the right one, only what is in quarantine goes through again.
    reprocess_source(ingest_context("r5", expectations={"small": {"check": "size < 40", "on_violation": "quarantine"}}))
    assert ids(lake) == [1, 2, 3, 4]
    assert read_refused(lake) == {"x,5,1": ["cast:id"]}


def test_what_is_refused_of_files_without_lines_is_kept_as_json(load, lake, raw) -> None:
    frame = pd.DataFrame({"id": [1, 2], "size": [10, -1], "parts": [1, None]}).astype("Int32")
    frame.to_parquet(raw / "1.parquet", index=False)
    result = load("r1", expectations={"positive": {"check": "size > 0", "on_violation": "quarantine"}}, format="parquet", options={})
    assert (result.rows_out, result.rows_quarantined, ids(lake)) == (1, 1, [1])
    [(raw, rules)] = read_refused(lake).items()
    assert (json.loads(raw), rules) == ({"id": 2, "size": -1, "parts": None}, ["positive"])


def test_a_rule_that_fits_no_column_is_named(load, lake, raw) -> None:
    (raw / "1.csv").write_text("id,size,parts\n1,10,1\n")
    with pytest.raises(StepError, match=r"bronze\.x: expectation 'positive' \(sise > 0\).*sise"):
        load("r1", expectations={"positive": {"check": "sise > 0"}})
    with pytest.raises(StepError, match=r"expectation 'known'.*no column 'sise'; did you mean 'size'\?"):
        load("r1", expectations={"known": {"not_null": "sise"}})
    assert not lake.exists("bronze.x")


def test_a_file_that_grows_between_two_looks_is_not_half_taken(load, lake, raw, monkeypatch) -> None:
    file = raw / "1.csv"
    file.write_text("\n".join(["id,size,parts", *LINES, ""]))
    written = Stage.write

    def grows(stage, rows, part=None, varied=()) -> int:
        count = written(stage, rows, part, varied)
        if part is not None:
            with file.open("a") as stream:
                stream.write("7,1,1\n")
        return count

    monkeypatch.setattr(Stage, "write", grows)
    rules = {"positive": {"check": "size > 0", "on_violation": "quarantine"}}
    with pytest.raises(SourceError, match=r"1\.csv: it changed while it was read"):
        load("r1", expectations=rules)
    assert not lake.exists("bronze.x")
    monkeypatch.undo()
    result = load("r2", expectations=rules)
    assert (result.rows_in, ids(lake)) == (7, [1, 5, 7])


def test_a_condition_that_changes_is_asked_once_of_each_record(load, lake, raw) -> None:
    (raw / "1.csv").write_text("\n".join(["id,size,parts", *[f"{id},1,1" for id in range(200)], ""]))
    result = load("r1", expectations={"lucky": {"check": "rand() < 0.5", "on_violation": "quarantine"}})
    kept, other = ids(lake), [int(raw.split(",")[0]) for raw in read_refused(lake)]
    assert sorted([*kept, *other]) == list(range(200))
    assert 0 < result.rows_quarantined == len(other) < 200
