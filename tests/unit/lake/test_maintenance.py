"""Maintenance of a lake, without Spark: what stays readable, what goes, and what a death in the midst of it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.tiers import parametrize_cover

from tidemill.cli import main
from tidemill.errors import UsageError
from tidemill.lake import Lake
from tidemill.lake.ops import DeploymentRow, RunRow, StepRow
from tidemill.runtime.locks import hold_lock
from tidemill.workflow.maintenance import find_protected_versions, maintain

TABLE = "silver.t"
COMMITS = 14


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A table of two rows a run, appended by 12 runs and replaced by the last two; the model of run 2 is champion."""
    lake = Lake(str(tmp_path / "lake"))
    for number in range(COMMITS):
        rows = pa.table({"x": [2 * number, 2 * number + 1]})
        write_deltalake(lake.path(TABLE), rows, mode="append" if number < 12 else "overwrite")
        run = {"pipeline": "p", "run_id": f"r{number}"}
        lake.ledger.append([RunRow(**run, state="SUCCEEDED")])
        lake.ledger.append([StepRow(**run, node="prepare.t", state="SUCCEEDED", outputs={TABLE: number}, output_rows={TABLE: 2})])
        lake.ledger.append([StepRow(**run, node="train", state="SUCCEEDED", inputs={TABLE: number}, outputs={"models.p": number})])
    lake.ledger.append([DeploymentRow(pipeline="p", model_version=2, to_state="CHAMPION")])
    lake.ledger.append([DeploymentRow(pipeline="p", model_version=3, to_state="RETIRED")])
    return lake


def read(lake: Lake, version: int | None = None) -> list[int]:
    return sorted(lake.open(TABLE, version).to_pyarrow_table()["x"].to_pylist())


def files(lake: Lake, table: str = TABLE) -> set[str]:
    return {path for path in lake.file_sizes(table.replace(".", "/")) if path.endswith(".parquet") and not path.startswith("_")}


def files_of(lake: Lake, version: int) -> set[str]:
    """The data files that a version lists, by delta-rs."""
    return {Path(uri).name for uri in DeltaTable(lake.path(TABLE), version=version).file_uris()}


def ledger_rows(lake: Lake) -> list[dict[str, object]]:
    return [row for table in ("ops.runs", "ops.steps", "ops.deployments") for row in lake.ledger.rows(table)]


class TestProtectedVersions:
    def test_are_those_of_live_models_of_the_last_runs_and_of_the_latest_good_one(self, lake: Lake) -> None:
        assert find_protected_versions(lake, 3)[TABLE] == {2, 11, 12, 13}
        assert find_protected_versions(lake, 0)[TABLE] == {2, 13}

    def test_reach_back_to_what_their_inputs_were_made_of(self, lake: Lake) -> None:
        run = {"pipeline": "p", "run_id": "r99", "state": "SUCCEEDED"}
        lake.ledger.append([StepRow(**run, node="dataset", inputs={"silver.u": 5}, outputs={"gold.d": 1})])
        lake.ledger.append(
            [StepRow(pipeline="q", run_id="old", state="SUCCEEDED", node="prepare.u", inputs={TABLE: 4}, outputs={"silver.u": 5})]
        )
        assert {2, 4, 13} <= find_protected_versions(lake, 1)[TABLE]

    def test_are_those_of_every_model_that_may_become_champion_or_return(self, lake: Lake) -> None:
        """Model 2 is champion after 5; 7 is challenger, 8 candidate; 9 was rejected, and 1 retired before 5."""
        changes = [(1, "CHAMPION"), (1, "RETIRED"), (5, "CHAMPION"), (5, "RETIRED"), (2, "CHAMPION")]
        for version, state in [*changes, (7, "CHALLENGER"), (8, "CANDIDATE"), (9, "REJECTED")]:
            lake.ledger.append([DeploymentRow(pipeline="p", model_version=version, to_state=state)])
        assert find_protected_versions(lake, 0)[TABLE] == {2, 5, 7, 8, 13}
        versions = (2, 5, 7, 8)
        before = {version: read(lake, version) for version in versions}
        replaced = files_of(lake, 12)
        maintain(lake, keep_runs=0)
        assert {version: read(lake, version) for version in versions} == before
        assert not replaced & files(lake), "version 12 was replaced, and no model was made of it"
        assert not files_of(lake, 11) <= files(lake), "nor of the last appended rows"


class TestMaintain:
    def test_keeps_the_rows_of_every_protected_version_and_removes_the_other_files(self, lake: Lake) -> None:
        versions = sorted(find_protected_versions(lake, 3)[TABLE])
        before, ops = {version: read(lake, version) for version in versions}, ledger_rows(lake)
        result = maintain(lake, keep_runs=3)
        assert {version: read(lake, version) for version in versions} == before
        assert read(lake) == [26, 27]
        assert ledger_rows(lake) == ops
        assert TABLE not in [each.table for each in result.tables], "version 11 lists all files that were appended"
        maintain(lake, keep_runs=0)
        assert {version: read(lake, version) for version in (2, 13)} == {2: before[2], 13: before[13]}
        assert len(files(lake)) == 4, "three files of version 2, one of the latest"
        assert len(files(lake, "ops.steps")) <= 2

    def test_puts_many_small_files_together_in_one_commit(self, lake: Lake) -> None:
        for number in range(10):
            write_deltalake(lake.path(TABLE), pa.table({"x": [100 + number]}), mode="append")
        rows = read(lake)
        (table,) = (each for each in maintain(lake).tables if each.table == TABLE)
        assert table.files_compacted == 11
        assert (read(lake), len(lake.open(TABLE).file_uris())) == (rows, 1)
        assert lake.open(TABLE).metadata().configuration["delta.logRetentionDuration"] == "interval 36500 days"
        assert maintain(lake).tables == () or all(not each.files_compacted for each in maintain(lake).tables)

    def test_of_a_dry_run_changes_nothing(self, lake: Lake) -> None:
        before = lake.file_sizes("")
        result = maintain(lake, keep_runs=0, dry_run=True)
        assert {path for path in lake.file_sizes("") if not path.startswith(".locks")} == set(before)
        assert {each.table: each.files_removed for each in result.tables}[TABLE] == 10

    def test_leaves_a_table_alone_that_no_run_has_written(self, lake: Lake) -> None:
        for number in range(3):
            write_deltalake(lake.path("silver.foreign"), pa.table({"x": [number]}), mode="overwrite")
        maintain(lake, keep_runs=0)
        assert len(files(lake, "silver.foreign")) == 3

    def test_names_a_table_that_is_damaged_and_goes_on(self, lake: Lake) -> None:
        (Path(lake.path(TABLE)) / "_delta_log" / f"{4:020d}.json").write_bytes(b"")
        before = files(lake)
        (table,) = (each for each in maintain(lake, keep_runs=0).tables if each.table == TABLE)
        assert "is damaged" in str(table.note)
        assert files(lake) == before

    def test_is_refused_while_a_run_goes_on(self, lake: Lake) -> None:
        with hold_lock(lake.root, "run.p"), pytest.raises(UsageError, match="a run of p is going on"):
            maintain(lake)

    def test_removes_what_dead_processes_left(self, lake: Lake) -> None:
        locks, scratch = Path(lake.root) / ".locks", Path(lake.root) / ".scratch" / "held-1"
        locks.mkdir(exist_ok=True)
        (locks / "silver.x.lock").touch()
        scratch.mkdir(parents=True)
        with hold_lock(lake.root, "silver.y"):
            result = maintain(lake)
            assert (locks / "silver.y.lock").exists()
        assert result.locks == (str(locks / "silver.x.lock"),)
        assert result.scratch == (str(scratch),)
        assert not scratch.exists()


_KILLED = """
import os, signal, sys
from tidemill.lake import Lake, maintenance
from tidemill.workflow.maintenance import maintain
root, name, when, count = sys.argv[1:]
owner = Lake if hasattr(Lake, name) else maintenance
called, original = [], getattr(owner, name)

def die(*args, **options):
    called.append(args)
    if when == "before" and len(called) == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **options)
    if when == "after" and len(called) == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, die)
maintain(Lake(root), keep_runs=0)
"""


@parametrize_cover(
    ("function", "when", "count"),
    [
        ("_keep_log", "before", 1),
        ("_keep_log", "after", 1),
        ("_compact", "before", 1),
        ("_compact", "after", 1),
        ("_unprotected_files", "after", 4),
        ("delete_file", "before", 3),
        ("delete_file", "after", 41),
        ("delete_file", "after", 50),
    ],
)
def test_a_kill_at_any_moment_leaves_exact_tables(lake: Lake, function: str, when: str, count: int) -> None:
    for number in range(10):
        write_deltalake(lake.path(TABLE), pa.table({"x": [100 + number]}), mode="append")
    expected, ops = {version: read(lake, version) for version in (2, 13, None)}, ledger_rows(lake)
    killed = subprocess.run([sys.executable, "-c", _KILLED, lake.root, function, when, str(count)], env=os.environ, check=False)
    assert killed.returncode in (-9, 0)
    for _ in range(2):  # as the kill left it, and after the next maintenance
        assert {version: read(lake, version) for version in (2, 13, None)} == expected
        assert ledger_rows(lake) == ops
        maintain(lake, keep_runs=0)
    assert len(DeltaTable(lake.path(TABLE)).file_uris()) == 1


def test_command_prints_json(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["maintain", "--lake", lake.root, "--keep-runs", "0", "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["dry_run"], TABLE in [each["table"] for each in planned["tables"]]) == (True, True)
    assert main(["maintain", "--lake", lake.root]) == 0
    assert "maintained" in capsys.readouterr().out
