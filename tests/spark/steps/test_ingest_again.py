"""Nothing twice and nothing lost: sources without files, replays, ledgers and logs that were lost, two processes at once."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from tests.spark.steps import fake_sources
from tests.spark.tables import read_rows

from tidemill.errors import LakeError, SourceError, UsageError
from tidemill.lake import Lake, Ledger
from tidemill.runtime.locks import find_holder, hold_lock


@pytest.fixture
def rows(lake):
    def _rows(*names: str, table: str = "bronze.x") -> list[tuple]:
        return sorted(tuple(row[name] for name in names) for row in read_rows(lake, table))

    return _rows


@pytest.mark.long("nine ingests of a growing log, two of them killed")
def test_a_log_is_read_from_its_position(load, rows, lake, tmp_path, monkeypatch, killed) -> None:
    log = tmp_path / "log.json"
    source = {"format": f"{fake_sources.__name__}.Log", "url": str(log)}
    log.write_text(json.dumps([[1, "a", 1], [2, "bad", 2]]))
    first = load("r1", **source)
    assert (first.rows_in, first.rows_out, first.rows_quarantined) == (2, 1, 1)
    assert load("r2", **source).rows_in == 0

    log.write_text(json.dumps([[1, "a", 1], [2, "bad", 2], [1, "a", 1]]))
    with killed(Ledger, "put"):
        load("r3", **source)
    # The commit is there, the ledger is not: the position comes out of the commit.
    assert load("r4", **source).rows_in == 0
    assert rows("id", "_batch_id") == [(1, 1), (1, 2)]
    found = lake.ledger.rows("ops.files", source="x")
    assert [(row["run_id"], row["batch_id"], row["rows"], row["quarantined"], json.loads(row["position"])["n"]) for row in found] == [
        ("r1", 1, 1, 1, 2),
        ("r3", 2, 1, 0, 3),
    ]

    # Killed before the commit: the quarantine of the attempt is replaced by the repeat.
    log.write_text(json.dumps([[1, "a", 1], [2, "bad", 2], [1, "a", 1], [3, "bad", 3]]))
    with killed(Lake, "append_once"):
        load("r5", **source)
    assert load("r6", **source).rows_quarantined == 1
    assert rows("_batch_id", table="bronze.x_quarantine") == [(1,), (3,)]

    # From batch 2 on anew: from the position of batch 1.
    assert load("r7", replay="2", **source).rows_in == 2
    assert rows("id", "_batch_id") == [(1, 1), (1, 4)]
    assert rows("_batch_id", table="bronze.x_quarantine") == [(1,), (4,)]

    # Neither ledger nor commits tell the position: refused, as everything would come twice.
    shutil.rmtree(lake.path("ops.files"))
    monkeypatch.setattr(Lake, "metadata", lambda *args, **kwargs: [])
    with pytest.raises(SourceError, match="--replay all"):
        load("r8", **source)
    assert load("r9", replay="all", **source).rows_in == 4
    assert rows("id", "_batch_id") == [(1, 5), (1, 5)]


@pytest.mark.long("six ingests with merges")
def test_a_table_is_merged_by_key_with_late_rows(load, rows, lake, tmp_path, killed) -> None:
    table = tmp_path / "table.json"
    source = {"format": f"{fake_sources.__name__}.Table", "url": str(table), "key": ["id"]}
    table.write_text(json.dumps([[1, "a", 5], [2, "b", 9], [3, "bad", 9], [None, "more", 9]]))
    first = load("r1", **source)
    assert (first.rows_out, first.rows_quarantined) == (2, 2)
    # 4 is late: its time lies before the greatest that was seen, and inside the overlap.
    table.write_text(json.dumps([[1, "a", 5], [2, "changed", 10], [3, "bad", 9], [None, "more", 9], [4, "late", 8]]))
    second = load("r2", **source)
    assert (second.rows_in, second.rows_out, second.rows_quarantined) == (4, 2, 2)
    assert rows("id", "name", "_batch_id") == [(1, "a", 1), (2, "changed", 2), (4, "late", 2)]
    assert rows("rules", "_batch_id", table="bronze.x_quarantine") == [(["bad"], 1), (["key"], 1)]
    refused = {json.loads(raw)["name"]: json.loads(raw) for (raw,) in rows("raw", table="bronze.x_quarantine")}
    assert refused["more"] == {"id": None, "name": "more", "at": 9, "_rescued": '{"field":1}'}
    with pytest.raises(UsageError, match=r"sources\.x: key: fake://rows has no column 'idd'; did you mean 'id'"):
        load("r2", **source | {"key": ["idd"]})

    version = lake.version("bronze.x")
    table.write_text(json.dumps([[2, "again", 11]]))
    with killed(Ledger, "put"):
        load("r3", **source)
    assert lake.version("bronze.x") == version + 1
    load("r4", **source)
    assert lake.version("bronze.x") == version + 1, "merging the same rows again commits nothing"
    assert rows("id", "name") == [(1, "a"), (2, "again"), (4, "late")]
    table.write_text(json.dumps([[2, "again", 11], [2, "twice", 11]]))
    with pytest.raises(SourceError, match=r'stands in more than one record, such as \{"id":2\}'):
        load("r5", **source)


@pytest.mark.long("four ingests around a lost ledger")
def test_a_lost_ledger_is_made_again_from_the_table(load, rows, raw, lake) -> None:
    for number in (1, 2, 3):
        (raw / f"{number}.csv").write_text(f"id,name\n{number},a\nx,b\n")
        load(f"r{number}")
    shutil.rmtree(lake.path("ops.files"))
    (raw / "4.csv").write_text("id,name\n4,a\n")
    assert load("r4").rows_in == 1
    assert rows("id", "_batch_id") == [(1, 1), (2, 2), (3, 3), (4, 4)]
    found = lake.ledger.rows("ops.files", source="x")
    assert [(Path(row["path"]).name, row["run_id"], row["rows"], row["quarantined"]) for row in found] == [
        ("1.csv", "r1", 1, 1),
        ("2.csv", "r2", 1, 1),
        ("3.csv", "r3", 1, 1),
        ("4.csv", "r4", 1, 0),
    ]


def test_a_lost_commit_is_loaded_again(load, rows, raw, lake) -> None:
    for number in (1, 2):
        (raw / f"{number}.csv").write_text(f"id,name\n{number},a\n")
        load(f"r{number}")
    # Delta takes a cut log for an older version of the table, without an error.
    log = sorted((Path(lake.path("bronze.x")) / "_delta_log").glob("*.json"))[-1]
    log.unlink()
    (log.parent / f".{log.name}.crc").unlink(missing_ok=True)
    (log.parent / f"{log.stem}.crc").unlink(missing_ok=True)
    result = load("r3")
    assert rows("id") == [(1,), (2,)]
    assert any("ends with batch 1" in note for note in result.notes)
    assert load("r4").rows_in == 0


@pytest.mark.slow
def test_lost_commits_in_the_midst_and_in_quarantine_are_loaded_again_from_their_batch(load, rows, raw, lake) -> None:
    for number in (1, 2, 3):
        (raw / f"{number}.csv").write_text(f"id,name\n{number},a\nx{number},b\n")
        load(f"r{number}")
    logs = {name: Path(lake.path(name)) / "_delta_log" for name in ("bronze.x", "bronze.x_quarantine")}

    (logs["bronze.x"] / f"{1:020d}.json").write_bytes(b"")  # batch 2, of which ops.files tells
    with pytest.raises(LakeError, match=r"bronze\.x is damaged: .*/bronze/x/_delta_log/0+1\.json is empty"):
        load("r4")
    lake.repair("bronze.x")
    assert rows("id") == [(1,), (3,)]
    assert any("has lost records of batch 2" in note for note in load("r5").notes)
    assert rows("id", "_batch_id") == [(1, 1), (2, 4), (3, 4)]
    assert rows("raw", "_batch_id", table="bronze.x_quarantine") == [("x1,b", 1), ("x2,b", 4), ("x3,b", 4)]
    assert load("r6").rows_in == 0

    latest = lake.version("bronze.x_quarantine")
    for log in logs["bronze.x_quarantine"].glob(f"*{latest:020d}.*"):
        log.unlink()
    lake.repair("bronze.x_quarantine", latest)
    load("r7")
    assert rows("id") == [(1,), (2,), (3,)]
    assert rows("raw", table="bronze.x_quarantine") == [("x1,b",), ("x2,b",), ("x3,b",)]

    # What the table has lost and no file holds any more is not passed over; without it only where that is asked for.
    shutil.rmtree(lake.path("bronze.x"))
    (raw / "2.csv").unlink()
    with pytest.raises(SourceError, match=r"has lost the records of .*/2\.csv, and these files are gone"):
        load("r8")
    load("r9", replay="all")
    assert rows("id") == [(1,), (3,)]


@pytest.mark.long("ten ingests: batches, a killed replay, and replays of one batch and of all")
def test_replay_reads_files_anew(load, rows, raw, lake, tmp_path, killed) -> None:
    for number in (1, 2, 3):
        (raw / f"{number}.csv").write_text(f"id,name\n{number},NA\nx,b\n")
        load(f"r{number}")
    options = {"format": "csv", "path": str(raw), "schema": "id STRING, name STRING", "options": {"header": True, "nullValue": "NA"}}
    options["schema"] = "id INT, name STRING"
    for wrong, said in (
        ("9", "the last one is 3"),
        ("yesterday", "a batch's number, or a time"),
        ("2100-01-01", "nothing was loaded since"),
    ):
        with pytest.raises(UsageError, match=said):
            load("r4", replay=wrong, **options)
    (raw / "2.csv").rename(tmp_path / "2.csv")
    with pytest.raises(SourceError, match=r"2\.csv of the batches to replay cannot be found"):
        load("r4", replay="2", **options)
    (tmp_path / "2.csv").rename(raw / "2.csv")

    # Killed before quarantine is tidied up: the next run does it.
    with killed(Lake, "replace_where"):
        load("r4", replay="2", **options)
    result = load("r5", replay="2", **options)
    assert (result.rows_in, result.rows_out) == (4, 2)
    assert rows("id", "name", "_batch_id") == [(1, "NA", 1), (2, None, 4), (3, None, 4)]
    assert rows("_batch_id", table="bronze.x_quarantine") == [(1,), (4,), (4,)]
    assert load("r6").rows_in == 0
    (raw / "4.csv").write_text("id,name\n4,a\n")
    load("r7", replay="all", **options)
    assert rows("id", "name", "_batch_id") == [(1, None, 5), (2, None, 5), (3, None, 5), (4, "a", 5)]
    assert rows("_batch_id", table="bronze.x_quarantine") == [(5,), (5,), (5,)]


def test_who_comes_second_waits_and_says_for_whom(load, rows, raw, lake) -> None:
    (raw / "1.csv").write_text("id,name\n1,a\n")
    results = {}

    def second() -> None:
        results["second"] = load("r2")

    with hold_lock(lake.root, "ingest.bronze.x"):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(1)
        assert not lake.exists("bronze.x")
        by = find_holder(lake.root, "ingest.bronze.x")
    waiting.join(60)
    assert rows("id") == [(1,)]
    assert by is not None
    assert f"waited for process {by.pid}" in results["second"].notes[0]
    assert find_holder(lake.root, "ingest.bronze.x") is None
