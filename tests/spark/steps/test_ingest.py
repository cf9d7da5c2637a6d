"""Ingest accounts for every record, and takes each file exactly once, however often it is killed."""

import gzip
from pathlib import Path
from random import Random

import pytest
from tests.spark.tables import read_rows

from tidemill.errors import LakeError, SourceError, StepError, UsageError
from tidemill.lake import Lake, Ledger


@pytest.fixture
def rows(lake):
    """Return the ids of a table with the batch they came in."""

    def _rows(table: str = "bronze.x") -> list[tuple]:
        what = "id" if table == "bronze.x" else "raw"
        return sorted((row[what], row["_batch_id"]) for row in read_rows(lake, table))

    return _rows


def files(lake, **equals) -> dict[str, tuple]:
    """Return the rows of ops.files by name."""
    return {
        Path(row["path"]).name: (row["state"], row["rows"], row["quarantined"], row["batch_id"])
        for row in lake.ledger.rows("ops.files", source="x", **equals)
    }


@pytest.mark.long("four ingests")
def test_incremental_takes_each_file_once(load, rows, raw, lake, spark) -> None:
    (raw / "a.csv").write_text("id,name\n1,a\n2,b\nx,c\n")
    (raw / "b.csv.gz").write_bytes(gzip.compress(b"name,id\nd,3\nd,3\n"))
    (raw / "header.csv").write_text("id,name\n")
    first = load()
    assert (first.rows_in, first.rows_out, first.rows_quarantined) == (5, 4, 1)
    assert rows() == [(1, 1), (2, 1), (3, 1), (3, 1)]
    assert rows("bronze.x_quarantine") == [("x,c", 1)]
    assert files(lake) == {"a.csv": ("loaded", 2, 1, 1), "b.csv.gz": ("loaded", 2, 0, 1), "header.csv": ("loaded", 0, 0, 1)}
    table = lake.read(spark, "bronze.x")
    assert table.columns == ["id", "name", "_source_file", "_source_row_hash", "_ingested_at", "_batch_id", "_rescued"]
    assert {row["_source_file"] for row in table.select("_source_file").collect()} == {str(raw / "a.csv"), str(raw / "b.csv.gz")}

    again = load("r2")
    assert (again.rows_in, again.outputs) == (0, first.outputs)

    (raw / "c.csv").write_text("id,name\n4,e\n")
    (raw / "a.csv").write_text("id,name\n9,z\n")
    third = load("r3")
    assert (third.rows_in, third.outputs) == (1, {"bronze.x": first.outputs["bronze.x"] + 1})
    assert rows() == [(1, 1), (2, 1), (3, 1), (3, 1), (4, 2)]
    assert [note for note in third.notes if "a.csv" in note and "changed" in note]
    assert set(files(lake, run_id="r3")) == {"c.csv"}


@pytest.mark.one_of("kill")
@pytest.mark.slow
def test_killed_between_quarantine_and_table(load, rows, raw, lake, killed) -> None:
    (raw / "a.csv").write_text("id,name\n1,a\nx,b\n")
    with killed(Lake, "append_once"):
        load()
    assert rows("bronze.x_quarantine") == [("x,b", 1)]
    (raw / "b.csv").write_text("id,name\n2,a\ny,b\n")
    result = load("r2")
    assert (result.rows_in, result.rows_out, result.rows_quarantined) == (4, 2, 2)
    assert rows() == [(1, 1), (2, 1)]
    assert rows("bronze.x_quarantine") == [("x,b", 1), ("y,b", 1)]

    # The rest of a killed batch goes away too when the repeat refuses nothing.
    (raw / "c.csv").write_text("id,name\nz,b\n3,c\n")
    with killed(Lake, "append_once"):
        load("r3")
    (raw / "c.csv").write_text("id,name\n3,c\n")
    assert load("r4").rows_quarantined == 0
    assert rows("bronze.x_quarantine") == [("x,b", 1), ("y,b", 1)]


@pytest.mark.long("three ingests, one of them killed")
def test_killed_between_table_and_ledger(load, rows, raw, lake, killed) -> None:
    (raw / "a.csv").write_text("id,name\n1,a\nx,b\n")
    (raw / "all_bad.csv").write_text("id,name\ny,b\n")
    with killed(Ledger, "put"):
        load()
    assert files(lake) == {}
    (raw / "b.csv").write_text("id,name\n2,a\n")
    result = load("r2")
    assert (result.rows_in, result.rows_out) == (1, 1)
    assert rows() == [(1, 1), (2, 2)]
    assert rows("bronze.x_quarantine") == [("x,b", 1), ("y,b", 1)]
    assert files(lake) == {"a.csv": ("loaded", 1, 1, 1), "all_bad.csv": ("loaded", 0, 1, 1), "b.csv": ("loaded", 1, 0, 2)}
    assert load("r3").rows_in == 0


def test_unreadable_files_are_listed_and_tried_again_when_they_change(load, rows, raw, lake) -> None:
    randbytes = Random(1).randbytes  # incompressible, so that the damage lies behind what is read of the header
    whole = gzip.compress(b"id,name\n" + b"".join(b"%d,%s\n" % (number, randbytes(20).hex().encode()) for number in range(5000)))
    (raw / "good.csv").write_text("id,name\n1,a\n")
    (raw / "empty.csv").write_text("")
    (raw / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    result = load()
    assert (result.rows_in, rows()) == (1, [(1, 1)])
    found = files(lake)
    assert {name for name, row in found.items() if row[0] == "bad"} == {"empty.csv", "cut.csv.gz"}
    errors = {Path(row["path"]).name: row["error"] for row in lake.ledger.rows("ops.files", state="bad")}
    assert "0 bytes" in errors["empty.csv"]
    assert "nexpected end" in errors["cut.csv.gz"]
    assert load("r2").rows_in == 0

    (raw / "cut.csv.gz").write_bytes(whole)
    assert load("r3").rows_in == 5000
    assert files(lake)["cut.csv.gz"] == ("loaded", 5000, 0, 2)
    assert load("r4").rows_in == 0


def test_bad_files_can_fail_the_step(load, raw, lake) -> None:
    (raw / "good.csv").write_text("id,name\n1,a\n")
    (raw / "empty.csv").write_text("")
    for run in ("r1", "r2"):
        with pytest.raises(SourceError, match=r"sources\.x: .*empty\.csv.*0 bytes"):
            load(run, on_bad_file="fail")
    assert not lake.exists("bronze.x")
    assert files(lake) == {"empty.csv": ("bad", None, None, 1)}
    (raw / "good.csv").unlink()
    with pytest.raises(SourceError, match="none of the files can be read"):
        load("r3")


@pytest.mark.long("five ingests")
def test_full_replaces_and_the_schema_is_pinned(load, rows, raw, lake, spark) -> None:
    plain = {"load": "full", "schema": None}
    (raw / "a.csv").write_text("id,name\n1,a\n2,\n")
    assert load(**plain).rows_out == 2
    (raw / "a.csv").write_text("id,name,more\n3,a,1\nx,b,2\n")
    result = load("r2", **plain)
    assert (result.rows_in, result.rows_out, result.rows_quarantined) == (2, 1, 1)
    assert (rows(), rows("bronze.x_quarantine")) == ([(3, 0)], [("x,b,2", 0)])
    assert lake.read(spark, "bronze.x").select("_rescued").collect()[0][0] == '{"more":"1"}'
    (raw / "a.csv").write_text("id,name\n4,a\n")
    assert load("r3", **plain).rows_quarantined == 0
    assert (rows(), rows("bronze.x_quarantine")) == ([(4, 0)], [])

    # From full to incremental: what the full load took is not taken again.
    (raw / "b.csv").write_text("id,name\n5,b\n")
    assert load("r4").rows_in == 1
    assert rows() == [(4, 0), (5, 1)]


def test_faults_of_the_spec_and_of_the_files_are_told_apart(load, raw, lake, tmp_path) -> None:
    with pytest.raises(SourceError, match=r"sources\.x: no file at"):
        load()
    (raw / "a.csv").write_text("id,name\n1,a\n")
    with pytest.raises(UsageError, match=r"sources\.x: options\.nulValue"):
        load(options={"header": True, "nulValue": "x"})
    with pytest.raises(UsageError, match=r"sources\.x: `schema` is neither"):
        load(schema="id INTT")
    with pytest.raises(SourceError, match="_batch_id"):
        load(schema="id INT, _batch_id INT")
    assert not lake.exists("bronze.x")
    (tmp_path / "x.ddl").write_text("id INT,\n name STRING\n")
    assert load(schema="x.ddl").rows_out == 1
    (raw / "b.csv").write_text("id,name\n2,b\n")
    with pytest.raises((StepError, LakeError), match=r"bronze\.x"):
        load("r2", schema="id ARRAY<INT>, name STRING", format="json", options={})


def test_files_that_change_or_vanish_while_they_are_read(load, rows, raw, lake, monkeypatch) -> None:
    from tidemill.steps.ingest import staged_records

    for name in ("stays", "grows", "goes"):
        (raw / f"{name}.csv").write_text("id,name\n1,a\n")
    count_by_file = staged_records.count_by_file

    def meanwhile(frame):
        counts = count_by_file(frame)
        with (raw / "grows.csv").open("a") as file:
            file.write("2,b\n")
        (raw / "goes.csv").unlink(missing_ok=True)
        return counts

    with monkeypatch.context() as patch:
        patch.setattr(staged_records, "count_by_file", meanwhile)
        result = load()
    assert (result.rows_in, rows()) == (1, [(1, 1)])
    errors = {Path(row["path"]).name: row["error"] for row in lake.ledger.rows("ops.files", state="bad")}
    assert "changed while it was read" in errors["grows.csv"]
    assert "vanished while it was read" in errors["goes.csv"]
    again = load("r2")
    assert again.rows_in == len((raw / "grows.csv").read_text().splitlines()) - 1
    assert files(lake)["grows.csv"][0] == "loaded"


def test_compression_that_loses_rows_in_silence_is_refused(load, rows, raw, lake) -> None:
    (raw / "a.csv").write_text("id,name\n1,a\n")
    (raw / "b.csv.lz4").write_bytes(b"\x04\x22\x4d\x18 whatever")
    (raw / "c.csv.bz2").write_text("id,name\n2,a\n")
    assert load().rows_in == 1
    assert {name for name, row in files(lake).items() if row[0] == "bad"} == {"b.csv.lz4", "c.csv.bz2"}


def test_a_secret_in_a_path_is_in_no_table(load, rows, raw, lake, spark, monkeypatch) -> None:
    monkeypatch.setenv("TIDEMILL_SECRET_A_B", "CANARYq7Zx91")
    folder = raw / "d_CANARYq7Zx91"
    folder.mkdir()
    (folder / "a.csv").write_text("id,name\n1,a\nx,b\n")
    path = f"{raw}/d_${{secret:a/b}}/*.csv"
    load(path=path)
    (folder / "b.csv").write_text("id,name\n2,c\n")
    second = load("r2", path=path)
    assert (second.rows_in, rows()) == (1, [(1, 1), (2, 2)])
    masked = f"{raw}/d_***/"
    assert {row["path"] for row in lake.ledger.rows("ops.files")} == {f"{masked}a.csv", f"{masked}b.csv"}
    [refused] = lake.read(spark, "bronze.x_quarantine").select("_source_file", "_source_line").collect()
    assert tuple(refused) == (f"{masked}a.csv", 3)
    assert not [file for file in Path(lake.root).rglob("*") if file.is_file() and b"CANARYq7Zx91" in file.read_bytes()]
