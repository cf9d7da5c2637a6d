"""The files of the ops tables: which are put together, and which are removed when."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from tidemill.lake import Lake, ledger_files
from tidemill.lake import ledger as ledger_module
from tidemill.lake.delta_tables import query
from tidemill.lake.ops import StepRow

HOUR = 3600.0


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def append(lake: Lake, numbers: range) -> None:
    for number in numbers:
        lake.ledger.append([StepRow(run_id="r", node=str(number))])


def folder(lake: Lake) -> Path:
    return Path(lake.path("ops.steps"))


def names(lake: Lake) -> set[str]:
    return {path.relative_to(folder(lake)).as_posix() for path in folder(lake).rglob("*") if path.is_file()}


def make_older(lake: Lake, seconds: float) -> None:
    """Date all files of the table back, as if that time had passed."""
    for name in names(lake):
        path = folder(lake) / name
        os.utime(path, (path.stat().st_mtime - seconds,) * 2)


def nodes(table: DeltaTable) -> list[str]:
    return query(table, "SELECT node FROM rows ORDER BY seq")["node"].to_pylist()


def test_files_of_the_last_hour_stay(lake):
    append(lake, range(70))
    make_older(lake, HOUR - 60)
    append(lake, range(70, 100))
    written = {name for name in names(lake) if name.endswith(".parquet") and "checkpoint" not in name}
    compactions = 99 // 16  # with the file that the last one left, 16 more are too many
    assert len(written) == 100 + compactions
    assert len([name for name in names(lake) if name.endswith(".json")]) == 100 + compactions


def test_replaced_files_and_entries_that_checkpoints_cover_go_after_an_hour(lake):
    append(lake, range(70))
    make_older(lake, HOUR + 60)
    before = DeltaTable(str(folder(lake)))
    append(lake, range(70, 90))
    assert nodes(DeltaTable(str(folder(lake)))) == [str(number) for number in range(90)]
    assert nodes(before) == [str(number) for number in range(70)], "who opened the table an hour ago still reads it"
    assert len(names(lake)) < 60
    checkpoints = sorted(int(name[11:31]) for name in names(lake) if "checkpoint.parquet" in name)
    entries = sorted(int(name[11:31]) for name in names(lake) if name.endswith(".json"))
    assert len(checkpoints) == 2
    assert entries == list(range(checkpoints[0], before.version() + 22)), "all entries from the first checkpoint on"


def test_the_number_of_files_does_not_grow_with_the_number_of_runs(lake):
    counts = []
    for number in range(0, 204, 34):
        append(lake, range(number, number + 34))
        make_older(lake, 2 * HOUR)
        counts.append(len(names(lake)))
    assert max(counts) < 120, "of 34 appends of the last hour and two compactions before, each append with a data file and an entry"
    assert nodes(DeltaTable(str(folder(lake)))) == [str(number) for number in range(204)]


def test_a_checkpoint_drops_the_names_of_files_that_were_replaced_before(lake, monkeypatch):
    monkeypatch.setattr(ledger_module, "CONFIGURATION", {"delta.deletedFileRetentionDuration": "interval 0 seconds"})
    append(lake, range(130))
    rows = [pq.read_metadata(path).num_rows for path in sorted(folder(lake).glob("_delta_log/*.checkpoint.parquet"))]
    assert max(rows) < 40, "of 128 files that were replaced, at most those of the last compaction"
    assert ledger_files.CONFIGURATION == {"delta.deletedFileRetentionDuration": "interval 3600 seconds"}


def test_a_lost_checkpoint_is_made_good_from_the_one_before(lake):
    append(lake, range(70))
    make_older(lake, HOUR + 60)
    append(lake, range(70, 90))
    newest = max(folder(lake).glob("_delta_log/*.checkpoint.parquet"))
    newest.write_bytes(b"")
    assert lake.repair("ops.steps")
    assert [row.node for row in lake.ledger.read(StepRow)] == [str(number) for number in range(90)]


def test_an_uncommitted_file_of_another_writer_stays(lake):
    append(lake, range(70))
    make_older(lake, HOUR + 60)
    uncommitted = folder(lake) / "part-00000-of-another-writer.parquet"
    uncommitted.write_bytes(b"being written")
    append(lake, range(70, 90))
    assert uncommitted.exists()


_KILLED = """
import os, signal, sys
from tidemill.lake import Lake, ledger_files
from tidemill.lake import ledger as ledger_module
from tidemill.lake.ops import StepRow
root, count = sys.argv[1:]
calls, delete_file = [], ledger_files.delete_file

def die(*args):
    calls.append(args)
    if len(calls) == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    delete_file(*args)

ledger_files.delete_file = die
for number in range(70, 90):
    Lake(root).ledger.append([StepRow(run_id="r", node=str(number))])
"""


@pytest.mark.parametrize("count", [1, 40, 75, 110])
def test_a_kill_while_files_are_removed_loses_no_row(lake, count):
    append(lake, range(70))
    make_older(lake, HOUR + 60)
    killed = subprocess.run([sys.executable, "-c", _KILLED, lake.root, str(count)], env=os.environ, check=False)
    assert killed.returncode == -9
    recorded = [row.node for row in lake.ledger.read(StepRow)]
    assert recorded == [str(number) for number in range(len(recorded))] and len(recorded) > 70
    append(lake, range(len(recorded), 120))
    assert [row.node for row in lake.ledger.read(StepRow)] == [str(number) for number in range(120)]
    assert lake.repair("ops.steps") == []


def test_a_file_that_cannot_be_removed_does_not_stop_an_append(lake, monkeypatch):
    def refuse(root, relative):
        raise PermissionError(relative)

    append(lake, range(70))
    make_older(lake, HOUR + 60)
    monkeypatch.setattr(ledger_files, "delete_file", refuse)
    append(lake, range(70, 90))
    assert nodes(DeltaTable(str(folder(lake)))) == [str(number) for number in range(90)]


def test_compaction_of_a_lake_without_a_lock_removes_files_too(tmp_path):
    lake = Lake(f"file://{tmp_path}/lake")
    append(lake, range(70))
    local = Lake(str(tmp_path / "lake"))
    make_older(local, HOUR + 60)
    append(lake, range(70, 90))
    assert len(names(local)) < 60
    assert nodes(DeltaTable(str(folder(local)))) == [str(number) for number in range(90)]
