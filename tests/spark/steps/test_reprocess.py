"""Only what is in quarantine goes through again, once, and only what is good now leaves it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tidemill.cli import main
from tidemill.lake import Lake
from tidemill.steps.ingest import ingest
from tidemill.steps.prepare import prepare
from tidemill.steps.reprocess import reprocess_source
from tidemill.steps.reprocess_table import reprocess_table


class KilledError(Exception):
    """Stands for a process that dies here."""


@pytest.fixture
def step(make_context, tmp_path: Path):
    """Make the context of ``ingest.x`` over the folder ``raw``."""
    (tmp_path / "raw").mkdir()

    def _step(run_id: str, **options: object):
        spec = {
            "pipeline": "p",
            "lake": str(tmp_path / "lake"),
            "sources": {
                "x": {
                    "format": "csv",
                    "path": str(tmp_path / "raw"),
                    "schema": "id INT, day DATE",
                    "options": {"header": True, **options},
                    "load": "incremental",
                }
            },
            "dataset": {"from": "bronze.x", "key": ["id"], "label": "day"},
            "training": {"task": "binary"},
        }
        (tmp_path / "pipeline.yml").write_text(json.dumps(spec))
        return make_context(spec, "ingest.x", run_id=run_id)

    return _step


def test_records_of_files_go_through_again(step, lake, spark, tmp_path, monkeypatch, capsys) -> None:
    raw = tmp_path / "raw"
    (raw / "a.csv").write_text("id,day\n1,2013-01-01\n2,31.12.2013\n2,31.12.2013\nx,31.12.2013\n")
    (raw / "b.csv").write_text("id,day\n3,2013-01-01\n")
    (raw / "gone.csv").write_text("id,day\n4,30.12.2013\n")
    ingest(step("r1"))
    assert main(["quarantine", str(tmp_path / "pipeline.yml"), "--json"]) == 0
    shown = {(row["table"], row["rule"]): row["records"] for row in json.loads(capsys.readouterr().out)}
    assert shown == {("bronze.x", "cast:day"): 4, ("bronze.x", "cast:id"): 1}
    (raw / "gone.csv").unlink()

    def rows(table: str, *names: str) -> list[tuple]:
        return sorted(tuple(str(row[name]) for name in names) for row in lake.read(spark, table).collect())

    # The mended option lets German dates in; killed behind the commit, and run again.
    german = {"dateFormat": "[yyyy-MM-dd][dd.MM.yyyy]"}
    with monkeypatch.context() as patch:
        patch.setattr(Lake, "replace", lambda *args, **kwargs: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            reprocess_source(step("r2", **german))
    for run in ("r3", "r4"):
        result = reprocess_source(step(run, **german))
        assert rows("bronze.x", "id", "day", "_batch_id") == [
            ("1", "2013-01-01", "1"),
            ("2", "2013-12-31", "2"),
            ("2", "2013-12-31", "2"),
            ("3", "2013-01-01", "1"),
        ]
        assert rows("bronze.x_quarantine", "raw") == [("4,30.12.2013",), ("x,31.12.2013",)]
        assert (result.rows_out, result.rows_quarantined) == (0, 1)
        assert any("1 files are gone" in note for note in result.notes)
    assert ingest(step("r5", **german)).rows_in == 0

    # A file whose records stand in two batches is replayed as a whole, so that none of them is lost or doubled.
    (raw / "gone.csv").write_text("id,day\n4,30.12.2013\n")
    ingest(replace(step("r6", **german), replay="2"))
    assert rows("bronze.x", "id", "_batch_id") == [("1", "3"), ("2", "3"), ("2", "3"), ("3", "3"), ("4", "3")]
    assert rows("bronze.x_quarantine", "raw", "_batch_id") == [("x,31.12.2013", "3")]


def test_rows_of_a_table_go_through_again(make_context, lake, spark) -> None:
    source = spark.createDataFrame([(1, 5), (2, 50), (3, 500), (None, 7)], "id int, n int")
    version = lake.replace(source, "bronze.x", meta={})

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
    assert sorted(row["id"] for row in lake.read(spark, "silver.t").collect()) == [1]
    before = lake.version("silver.t")
    for run in ("r2", "r3"):
        result = reprocess_table(context(run, "n < 100"))
        assert sorted((row["id"], row["n"]) for row in lake.read(spark, "silver.t").collect()) == [(1, 5), (2, 50)]
        assert result.outputs == {"silver.t": before + 1}
        found = lake.read(spark, "silver.t_quarantine").collect()
        assert sorted((json.loads(row["raw"])["n"], row["rules"]) for row in found) == [(7, ["key"]), (500, ["small"])]
