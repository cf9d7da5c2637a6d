"""Where a refused record stood is in the quarantine table, one that was made before there was such a column too."""

from __future__ import annotations

from pathlib import Path

import pytest

# The quarantine's columns before records had a place.
BEFORE = "raw STRING, rules ARRAY<STRING>, _source_file STRING, _source_row_hash STRING, _ingested_at TIMESTAMP, _batch_id BIGINT"


@pytest.fixture
def declared(raw: Path) -> dict[str, object]:
    return {"path": str(raw), "schema": "id INT", "load": "incremental"}


@pytest.fixture
def load(load, raw: Path):
    """Write files below the folder ``raw``, ingest it as source ``x`` in a run of its own, and return the counts of its records."""

    def _load(run_id: str, kind: str, files: dict[str, bytes], **source: object):
        for name, data in files.items():
            (raw / name).write_bytes(data)
        result = load(run_id, format=kind, **source)
        return result.rows_in, result.rows_out, result.rows_quarantined

    return _load


@pytest.fixture
def places(spark, lake):
    def _places() -> list[tuple]:
        rows = lake.read(spark, "bronze.x_quarantine").collect()
        return sorted((row["_batch_id"], Path(row["_source_file"]).name, row["_source_line"] or 0, row["raw"]) for row in rows)

    return _places


@pytest.mark.long("several ingests into one quarantine")
def test_lines_of_csv_and_an_older_quarantine(load, places, lake, spark) -> None:
    old = spark.createDataFrame([("z", ["cast:id"], "old.csv", "00", None, 0)], BEFORE).selectExpr("*", "'r0' AS run_id")
    old.write.format("delta").save(lake.path("bronze.x_quarantine"))
    first = {"a.csv": b"id\n1\n\nx\n2\nid\nx\n", "b.csv": b"\xef\xbb\xbfid\r\ny,1\r\n"}
    assert load("r1", "csv", first, options={"header": True}) == (6, 2, 4)
    found = [(0, "old.csv", 0, "z"), (1, "a.csv", 4, "x"), (1, "a.csv", 6, "id"), (1, "a.csv", 7, "x"), (1, "b.csv", 2, "y,1")]
    assert places() == found
    assert load("r2", "csv", {"c.csv": b"id\n3\nw\n"}, options={"header": True}) == (2, 1, 1)
    assert places() == [*found, (2, "c.csv", 3, "w")]


def test_lines_of_json(load, places, lake) -> None:
    files = {"a.json": b'{"id": 1}\n\n[2]\n{"id": "x"}\n', "b.json": b'{"id"\r\n{"id": 2}\r\n[2]\r\n'}
    assert load("r1", "json", files) == (6, 2, 4)
    assert places() == [(1, "a.json", 3, "[2]"), (1, "a.json", 4, '{"id": "x"}'), (1, "b.json", 1, '{"id"'), (1, "b.json", 3, "[2]")]
