"""Damage to a table's log and files: told by name, and repaired so that no version means two things."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from tidemill.errors import LakeError, TableNotFound, UsageError
from tidemill.lake import Lake
from tidemill.lake.ops import RunRow
from tidemill.lake.repair import RecordedVersion, find_table_fault

TABLE = "silver.t"


@pytest.fixture
def table(lake: Lake) -> Path:
    """Three commits of two rows each."""
    home = Path(lake.path(TABLE))
    for first in (0, 2, 4):
        write_deltalake(str(home), pa.table({"x": [first, first + 1]}), mode="append")
    return home


def _entry(table: Path, version: int = 2) -> Path:
    return table / "_delta_log" / f"{version:020d}.json"


def _rows(lake: Lake) -> list[int]:
    return sorted(lake.open(TABLE).to_pyarrow_table()["x"].to_pylist())


def _empty(table: Path) -> None:
    _entry(table).write_bytes(b"")


def _cut(table: Path) -> None:
    content = _entry(table).read_bytes()
    _entry(table).write_bytes(content[: len(content) // 2])


def _remove(table: Path) -> None:
    _entry(table).unlink()


def _leave_checksum(table: Path) -> None:
    _entry(table).unlink()
    (table / "_delta_log" / f"{2:020d}.crc").write_text("{}")
    (table / "_delta_log" / f".{2:020d}.json.crc").write_bytes(b"crc\x00")


@pytest.mark.parametrize(
    ("damage", "says"),
    [(_empty, "is empty"), (_cut, "is cut off or damaged"), (_leave_checksum, "is missing")],
)
def test_damaged_commit_is_named_by_table_and_file(lake, table, damage, says):
    damage(table)
    for read in (lake.version, lake.open, lake.metadata, lambda name: lake.rows(name, 2)):
        with pytest.raises(LakeError, match=f"silver.t is damaged: .*{_entry(table).name} {says}"):
            read(TABLE)


@pytest.mark.parametrize("damage", [_empty, _cut, _remove, _leave_checksum])
def test_lost_commit_is_marked_and_its_version_never_used_again(lake, table, damage):
    damage(table)
    assert find_table_fault(lake, TABLE, RecordedVersion(2, 6))
    assert lake.repair(TABLE, 2)
    assert (lake.version(TABLE), _rows(lake)) == (2, [0, 1, 2, 3])
    assert "has lost" in str(find_table_fault(lake, TABLE, RecordedVersion(2, 6)))
    assert lake.repair(TABLE, 2) == []
    write_deltalake(str(table), pa.table({"x": [4, 5]}), mode="append")
    assert (lake.version(TABLE), _rows(lake)) == (3, [0, 1, 2, 3, 4, 5])
    with pytest.raises(TableNotFound, match="version 2 was lost"):
        lake.read(None, TABLE, 2)  # type: ignore[arg-type]
    assert find_table_fault(lake, TABLE, RecordedVersion(3, 6)) is None


def test_removed_last_commit_without_a_trace_is_known_by_the_ledger_alone(lake, table):
    _remove(table)
    assert lake.version(TABLE) == 1
    assert "its log ends with version 1" in str(find_table_fault(lake, TABLE, RecordedVersion(2, 6)))
    assert find_table_fault(lake, TABLE, RecordedVersion(1, 4)) is None


def test_lost_commit_in_the_midst_leaves_the_later_ones(lake, table):
    _entry(table, 1).write_bytes(b"")
    faults = lake.repair(TABLE, 2)
    assert [fault.version for fault in faults] == [1]
    assert (_rows(lake), lake.version(TABLE)) == ([0, 1, 4, 5], 3)
    assert lake.is_lost_since(TABLE, 2)
    assert lake.pad(TABLE, 3) == 4
    assert not lake.is_lost_since(TABLE, 2)


def test_other_rows_than_recorded_are_a_fault(lake, table):
    assert find_table_fault(lake, TABLE, RecordedVersion(2, 6)) is None
    assert "holds 6 rows at version 2, where 8 were written" in str(find_table_fault(lake, TABLE, RecordedVersion(2, 8)))
    assert find_table_fault(lake, "silver.none", RecordedVersion(0)) == "silver.none is no longer in the lake"


def test_table_without_a_first_commit_is_set_aside_whole(lake, table):
    _entry(table, 0).write_text('{"commitInfo":')
    assert lake.repair(TABLE, 2)
    assert not lake.exists(TABLE)
    [kept] = (Path(lake.root) / ".damaged" / TABLE).glob("*-t")
    assert len(list(kept.glob("*.parquet"))) == 3


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_data_file_that_is_gone_or_cut_is_named_and_its_rows_are_lost_alone(lake, table, damage):
    [file] = [Path(uri) for uri in DeltaTable(str(table)).file_uris() if Path(uri).name in _entry(table, 1).read_text()]
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-7])
    assert str(file) in str(find_table_fault(lake, TABLE, RecordedVersion(2, 6)))
    assert [fault.file for fault in lake.repair(TABLE, 2)] == [file]
    assert _rows(lake) == [0, 1, 4, 5]
    assert lake.is_lost_since(TABLE, 2)


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_unreadable_checkpoint_costs_nothing_where_the_entries_are_there(lake, table, damage):
    DeltaTable(str(table)).create_checkpoint()
    [checkpoint] = (table / "_delta_log").glob("*.checkpoint.parquet")
    if damage == "cut":
        checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    else:
        checkpoint.unlink()
    with pytest.raises(LakeError, match=r"silver\.t is damaged: .*checkpoint"):
        lake.version(TABLE)
    assert lake.repair(TABLE, 2)
    assert (lake.version(TABLE), _rows(lake), lake.is_lost_since(TABLE, 2)) == (2, [0, 1, 2, 3, 4, 5], False)


def test_entries_behind_a_checkpoint_are_not_needed(lake, table):
    DeltaTable(str(table)).create_checkpoint()
    for version in (0, 1, 2):
        _entry(table, version).unlink()
    assert (lake.version(TABLE), lake.repair(TABLE, 2), _rows(lake)) == (2, [], [0, 1, 2, 3, 4, 5])


def test_whole_table_is_left_alone(lake, table):
    before = {file: file.read_bytes() for file in table.rglob("*") if file.is_file()}
    assert lake.repair(TABLE, 2) == []
    assert {file: file.read_bytes() for file in table.rglob("*") if file.is_file()} == before


def test_history_is_what_delta_rs_reads_from_the_log(lake, table):
    wanted = [(entry["version"], entry["operation"], entry["timestamp"]) for entry in DeltaTable(str(table)).history()]
    assert [(entry["version"], entry["operation"], entry["timestamp"]) for entry in lake.history(TABLE)] == wanted
    assert len(lake.history(TABLE, 1)) == 1


@pytest.mark.parametrize("name", ["lake[1]", "a%20b", "a\\b", "a^b", "a|b", "a\nb"])
def test_path_that_delta_misreads_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(UsageError, match="no lake can lie at"):
        Lake(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["la ke", "100%", "a#b", "a?b", "é", "日本", "a*b{c}", "a:b", "a,b", "a'b\"", "a`b"])
def test_odd_path_holds_a_lake(tmp_path, name):
    lake = Lake(str(tmp_path / name))
    lake.ledger.append([RunRow(run_id="r1")])
    write_deltalake(lake.path(TABLE), pa.table({"x": [1]}))
    assert [row["run_id"] for row in Lake(lake.root).ledger.rows("ops.runs")] == ["r1"]
    assert (tmp_path / name / "silver" / "t" / "_delta_log").is_dir()
    assert (lake.version(TABLE), len(lake.history(TABLE)), lake.rows(TABLE, 0)) == (0, 1, 1)
    _entry(Path(lake.path(TABLE)), 0).write_bytes(b"")
    with pytest.raises(LakeError, match="is empty") as raised:
        lake.version(TABLE)
    assert f"{tmp_path / name}/silver/t/_delta_log/" in str(raised.value)
