"""An XML source through the step: every record is written or quarantined, files that cannot be read are listed, policies are kept."""

import gzip
import json
from pathlib import Path

import pytest
from tests.spark.tables import read_rows

from tidemill.errors import SourceError
from tidemill.steps.ingest.step import ingest
from tidemill.steps.prepare.reprocess import reprocess_source


@pytest.fixture
def context(make_context, tmp_path: Path):
    """Make the context of ``ingest.x`` over the folder ``raw``."""
    (tmp_path / "raw").mkdir()

    def _context(run_id: str, options: dict | None = None, **source: object):
        declared = {"format": "xml", "path": str(tmp_path / "raw"), "options": {"rowTag": "row"} | (options or {}), "load": "incremental"}
        spec = {
            "pipeline": "p",
            "sources": {"x": declared | source},
            "dataset": {"from": "bronze.x", "key": ["id"], "label": "name"},
            "training": {"task": "binary"},
        }
        return make_context(spec, "ingest.x", run_id=run_id)

    return _context


@pytest.mark.long("several ingests of XML")
def test_rows_in_are_rows_written_and_quarantined(context, lake, spark, tmp_path) -> None:
    raw = tmp_path / "raw"
    (raw / "a.xml").write_text(
        "<rows>\n<row><id>1</id><name>a</name></row>\n<row><id>2</id><name>b</nme></row>\n<row><id>3</id></row></rows>"
    )
    (raw / "b.xml.gz").write_bytes(gzip.compress(b"<rows><row><id>4</id><name>d</name></row></rows>"))
    whole = gzip.compress(b"<rows>" + b"<row><id>5</id></row>" * 1000)
    (raw / "cut.xml.gz").write_bytes(whole[:-20])
    (raw / "empty.xml").write_bytes(b"")
    (raw / "none.xml").write_bytes(b"<rows/>")
    (raw / "broken.xml").write_bytes(b"<rows><row><id>1</row></rows>")
    (raw / "packed.xml.lz4").write_bytes(b"\x04\x22\x4d\x18")
    first = ingest(context("r1"))
    assert (first.rows_in, first.rows_out, first.rows_quarantined) == (5, 3, 2)
    table = lake.read(spark, "bronze.x")
    assert table.dtypes[:2] == [("id", "bigint"), ("name", "string")]
    assert sorted((row["id"], row["name"]) for row in table.collect()) == [(1, "a"), (3, None), (4, "d")]
    refused = lake.read(spark, "bronze.x_quarantine").where("raw LIKE '%nme%'").first()
    assert (refused["raw"], refused["rules"], refused["_source_line"]) == ("<row><id>2</id><name>b</nme></row>", ["not_xml"], 3)
    assert refused["_source_file"] == str(raw / "a.xml")
    files = {Path(row["path"]).name: (row["state"], row["rows"], row["quarantined"]) for row in lake.ledger.rows("ops.files")}
    bad = ("bad", None, None)
    assert files == {
        "a.xml": ("loaded", 2, 1),
        "b.xml.gz": ("loaded", 1, 0),
        "broken.xml": ("loaded", 0, 1),
        "cut.xml.gz": bad,
        "empty.xml": bad,
        "none.xml": ("loaded", 0, 0),
        "packed.xml.lz4": bad,
    }
    errors = {Path(row["path"]).name: row["error"] for row in lake.ledger.rows("ops.files") if row["error"]}
    assert errors["cut.xml.gz"] == "it cannot be read: its packed data (.gz) is cut off"

    (raw / "c.xml").write_text("<rows><row><id>5.5</id><name>e</name><more k='1'>m</more></row><row><id>6</id><more k='2'/></row></rows>")
    rescued = ingest(context("r2"))
    assert (rescued.rows_in, rescued.rows_out, rescued.rows_quarantined) == (2, 1, 1)
    [row] = lake.read(spark, "bronze.x").where("id = 6").collect()
    assert json.loads(row["_rescued"]) == {"more": {"_k": "2"}}

    (raw / "d.xml").write_text("<rows><row><id>7.5</id><more k='3'>m</more></row></rows>")
    with pytest.raises(SourceError, match=r"new column more.*on_new_column: fail"):
        ingest(context("r3", on_new_column="fail"))
    widened = ingest(context("r4", on_new_column="add", on_type_change="widen"))
    assert (widened.rows_in, widened.rows_out) == (1, 1)
    [row] = lake.read(spark, "bronze.x").where("id = 7.5").collect()
    assert row["more"].asDict() == {"_VALUE": "m", "_k": 3}
    assert ingest(context("r5")).rows_in == 0


@pytest.mark.long("ingests and reprocesses in two encodings")
def test_quarantine_goes_through_again_in_another_encoding(context, lake, spark, tmp_path) -> None:
    (tmp_path / "raw" / "a.xml").write_bytes(b"<rows><row><id>1</id><name>\xe9</name></row><row><id>2</id><name>b</name></row></rows>")
    first = ingest(context("r1", schema="id INT, name STRING"))
    assert (first.rows_out, first.rows_quarantined) == (1, 1)
    again = reprocess_source(context("r2", {"encoding": "ISO-8859-1"}, schema="id INT, name STRING"))
    assert (again.rows_in, again.rows_out) == (1, 1)
    assert sorted((row["id"], row["name"]) for row in read_rows(lake, "bronze.x")) == [(1, "\u00e9"), (2, "b")]
    assert read_rows(lake, "bronze.x_quarantine") == []
