"""Only what is in quarantine goes through again, once, and only what is good now leaves it."""

from __future__ import annotations

import json

import pytest
from tests.spark.tables import read_rows, write_table

from tidemill.cli import main
from tidemill.lake import Lake
from tidemill.steps.prepare.reprocess import reprocess_source, reprocess_table
from tidemill.steps.prepare.step import prepare


@pytest.fixture
def declared(declared) -> dict[str, object]:
    """Days, of which some are written in the German way."""
    return {**declared, "schema": "id INT, day DATE"}


@pytest.mark.long("ingests, then reprocesses quarantine several times")
def test_records_of_files_go_through_again(load, ingest_context, raw, lake, spark, tmp_path, killed, capsys) -> None:
    (raw / "a.csv").write_text("id,day\n1,2013-01-01\n2,31.12.2013\n2,31.12.2013\nx,31.12.2013\n")
    (raw / "b.csv").write_text("id,day\n3,2013-01-01\n")
    (raw / "gone.csv").write_text("id,day\n4,30.12.2013\n")
    load("r1")
    assert main(["quarantine", str(tmp_path / "pipeline.yml"), "--json"]) == 0
    shown = {(row["table"], row["rule"]): row["records"] for row in json.loads(capsys.readouterr().out)}
    assert shown == {("bronze.x", "cast:day"): 4, ("bronze.x", "cast:id"): 1}
    (raw / "gone.csv").unlink()

    def rows(table: str, *names: str) -> list[tuple]:
        return sorted(tuple(str(row[name]) for name in names) for row in read_rows(lake, table))

    # The mended option lets German dates in; killed behind the commit, and run again.
    german = {"options": {"header": True, "dateFormat": "[yyyy-MM-dd][dd.MM.yyyy]"}}
    with killed(Lake, "replace"):
        reprocess_source(ingest_context("r2", **german))
    for run in ("r3", "r4"):
        result = reprocess_source(ingest_context(run, **german))
        assert rows("bronze.x", "id", "day", "_batch_id") == [
            ("1", "2013-01-01", "1"),
            ("2", "2013-12-31", "2"),
            ("2", "2013-12-31", "2"),
            ("3", "2013-01-01", "1"),
        ]
        assert rows("bronze.x_quarantine", "raw") == [("4,30.12.2013",), ("x,31.12.2013",)]
        assert (result.rows_out, result.rows_quarantined) == (0, 1)
        assert any("1 files are gone" in note for note in result.notes)
    assert load("r5", **german).rows_in == 0

    # A file whose records stand in two batches is replayed as a whole, so that none of them is lost or doubled.
    (raw / "gone.csv").write_text("id,day\n4,30.12.2013\n")
    load("r6", replay="2", **german)
    assert rows("bronze.x", "id", "_batch_id") == [("1", "3"), ("2", "3"), ("2", "3"), ("3", "3"), ("4", "3")]
    assert rows("bronze.x_quarantine", "raw", "_batch_id") == [("x,31.12.2013", "3")]


@pytest.mark.long("prepares, then reprocesses quarantine several times")
def test_rows_of_a_table_go_through_again(make_context, lake, spark) -> None:
    source = spark.createDataFrame([(1, 5), (2, 50), (3, 500), (None, 7)], "id int, n int")
    version = write_table(lake, source, "bronze.x")

    def context(run_id: str, check: str):
        table = {
            "sql": "SELECT id, n FROM bronze.x",
            "key": ["id"],
            "expectations": {"small": {"check": check, "on_violation": "quarantine"}},
        }
        spec = {
            "pipeline": "p",
            "sources": {"x": {"format": "csv", "path": "x.csv"}},
            "tables": {"t": table},
            "dataset": {"from": "silver.t", "key": ["id"], "label": "n"},
            "training": {"task": "binary"},
        }
        return make_context(spec, "prepare.t", {"bronze.x": version}, run_id)

    prepare(context("r1", "n < 10"))
    assert sorted(row["id"] for row in read_rows(lake, "silver.t")) == [1]
    before = lake.version("silver.t")
    for run in ("r2", "r3"):
        result = reprocess_table(context(run, "n < 100"))
        assert sorted((row["id"], row["n"]) for row in read_rows(lake, "silver.t")) == [(1, 5), (2, 50)]
        assert result.outputs == {"silver.t": before + 1}
        found = read_rows(lake, "silver.t_quarantine")
        assert sorted((json.loads(row["raw"])["n"], row["rules"]) for row in found) == [(7, ["key"]), (500, ["small"])]
