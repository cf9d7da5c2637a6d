"""The ledger, without Spark."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.cli import main
from tidemill.errors import UsageError
from tidemill.lake import Lake, Ledger, ledger_files
from tidemill.lake import ledger as ledger_module
from tidemill.lake.delta_tables import query
from tidemill.lake.ops import OPS_TABLES, CheckRow, RunRow, StepRow, TrialRow

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

# What PostgreSQL 15 (pg_get_keywords), DuckDB and Spark (spark.sql.ansi.enforceReservedKeywords) reserve, also as names of types and
# functions.
RESERVED = """
    all analyse analyze and anti any array as asc asof asymmetric at authorization between binary both case cast check collate collation
    column concurrently constraint create cross current_catalog current_date current_role current_schema current_time current_timestamp
    current_user default deferrable desc describe distinct do else end escape except false fetch filter for foreign freeze from full glob
    grant group having ilike in initially inner intersect into is isnull join lambda lateral leading left like limit localtime
    localtimestamp map natural not notnull null offset on only or order outer overlaps pivot pivot_longer pivot_wider placing positional
    primary qualify references returning right select semi session_user show similar some sql struct summarize symmetric table tablesample
    then time to trailing true try_cast union unique unknown unpivot user using variadic verbose when where window with within
"""


@pytest.fixture
def ledger(tmp_path):
    return Lake(str(tmp_path / "lake")).ledger


class ShiftedClock(datetime):
    """A clock that is set by the test."""

    shift = timedelta()

    @classmethod
    def now(cls, tz=None):
        return NOON + cls.shift


def test_rows_come_back_in_the_order_of_their_commits_with_their_types_whatever_the_clock_said(ledger):
    assert ledger.rows("ops.steps") == []
    one = NOON + timedelta(hours=1)
    ledger.append([StepRow(run_id="r", node="train", state="RUNNING", recorded_at=one, inputs={"gold.d": 4})])
    ledger.append([StepRow(run_id="r", node="dataset", state="SUCCEEDED", recorded_at=NOON, rows_in=7)])
    rows = ledger.rows("ops.steps", run_id="r")
    assert [(row["seq"], row["node"], row["recorded_at"], row["rows_in"], row["inputs"]) for row in rows] == [
        (1, "train", one, None, {"gold.d": 4}),
        (2, "dataset", NOON, 7, None),
    ]
    assert ledger.rows("ops.steps", run_id="other") == []


def test_put_replaces_its_own_rows_only(ledger):
    for run, value in [("r1", 0.1), ("r'2", 0.2), ("r'2", 0.3)]:
        ledger.put(TrialRow, [TrialRow(run_id=run, trial=0, fold=0, value=value)], where={"run_id": run})
    assert sorted((row["run_id"], row["value"]) for row in ledger.rows("ops.trials")) == [("r'2", 0.3), ("r1", 0.1)]


def test_put_of_no_rows_takes_the_old_ones_away_and_their_numbers_are_not_given_out_again(ledger):
    ledger.put(CheckRow, [], where={"run_id": "r1"})
    assert ledger.rows("ops.checks") == []
    for run in ("r1", "r2"):
        ledger.put(CheckRow, [CheckRow(run_id=run, check_name=name) for name in ("nulls", "constant")], where={"run_id": run})
    ledger.put(CheckRow, [], where={"run_id": "r2"})
    ledger.put(CheckRow, [], where={"run_id": "r2"})
    ledger.append([CheckRow(run_id="r3")])
    assert [(row["run_id"], row["seq"]) for row in ledger.rows("ops.checks")] == [("r1", 1), ("r1", 2), ("r3", 5)]


def test_an_unknown_column_is_refused(ledger):
    with pytest.raises(TypeError, match="colour"):
        ledger.append([RunRow(colour="red")])


def test_every_table_has_a_number_and_no_name_that_must_be_quoted():
    for table, row in OPS_TABLES.items():
        assert {"seq", "recorded_at"} <= set(row.arrow_schema().names), table
        assert not {*row.arrow_schema().names} & {*RESERVED.split()}, table


def test_the_latest_rows_of_each_group(ledger):
    for run, node, state in [
        ("a", "x", "RUNNING"),
        ("a", "x", "FAILED"),
        ("a", "y", "RUNNING"),
        ("b", "x", "SKIPPED"),
        ("b", "x", "RUNNING"),
    ]:
        ledger.append([StepRow(pipeline="p", run_id=run, node=node, state=state)])
    ledger.append([StepRow(pipeline="q", run_id="c", node="x", state="SKIPPED")])

    def states(by, **conditions):
        return [(row.run_id, row.node, row.state) for row in ledger.read_latest(StepRow, by, **conditions)]

    by = ("run_id", "node")
    assert states(by, pipeline="p") == [("a", "x", "FAILED"), ("a", "y", "RUNNING"), ("b", "x", "RUNNING")]
    assert states(by, having={"state": ("FAILED", "SKIPPED")}) == [("a", "x", "FAILED"), ("c", "x", "SKIPPED")]
    assert states(("node",), state=("RUNNING", "SKIPPED"), pipeline="p") == [("a", "y", "RUNNING"), ("b", "x", "RUNNING")]
    assert ledger.read_latest(RunRow, ("run_id",)) == []


COMMITS = st.lists(
    st.tuples(
        st.integers(-7200, 7200),  # seconds by which the clock is off
        st.sampled_from(["append", "put", "clear"]),
        st.sampled_from("abc"),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=12, deadline=None)
@given(COMMITS)
def test_any_history_under_any_clock_reads_like_a_list(tmp_path_factory, commits):
    ledger, model, last = Ledger(str(tmp_path_factory.mktemp("lake"))), [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_module, "datetime", ShiftedClock)
        for number, (seconds, what, run, count) in enumerate(commits):
            ShiftedClock.shift = timedelta(seconds=seconds)
            rows = [] if what == "clear" else [StepRow(run_id=run, node=f"{number}.{place}") for place in range(count)]
            if what == "append":
                ledger.append(rows)
            else:
                ledger.put(StepRow, rows, where={"run_id": run})
                model = [row for row in model if row[1] != run]
            model += [(last + place, run, row.node) for place, row in enumerate(rows, start=1)]
            last += len(rows)
            found = [(row["seq"], row["run_id"], row["node"]) for row in ledger.rows("ops.steps")]
            assert found == model


def test_a_commit_that_another_one_overtakes_is_made_anew(ledger, monkeypatch):
    ledger.append([RunRow(run_id="first")])
    rival, written = Ledger(ledger._root), []

    def overtake(table, *rest, **options):
        if not written:
            written.append(True)
            rival.append([RunRow(run_id="rival")])
        return write_deltalake(table, *rest, **options)

    monkeypatch.setattr(ledger_module, "hold_lock", lambda *_: nullcontext())  # as where nothing locks
    monkeypatch.setattr(ledger_module, "write_deltalake", overtake)
    ledger.extend(RunRow, lambda rows: [RunRow(run_id="last", error=f"after {rows[-1].run_id}")])
    assert [(row["seq"], row["run_id"], row["error"]) for row in ledger.rows("ops.runs")] == [
        (1, "first", None),
        (2, "rival", None),
        (3, "last", "after rival"),
    ]


def test_many_appends_leave_few_files_and_a_reader_of_the_old_ones_goes_on(ledger, monkeypatch):
    ledger.append([StepRow(run_id="r", node="0")])
    early = DeltaTable(ledger._path("ops.steps"))
    compacted = []
    monkeypatch.setattr(ledger_module, "compact_files", lambda table, most: compacted.append(ledger_files.compact_files(table, most)))
    for number in range(1, 40):
        early = DeltaTable(ledger._path("ops.steps")) if number == 10 else early
        ledger.append([StepRow(run_id="r", node=str(number), inputs={"silver.t": number})])
    assert len(compacted) == 39
    assert len(DeltaTable(ledger._path("ops.steps")).file_uris()) <= 17
    rows = ledger.rows("ops.steps")
    assert [(row["seq"], row["node"]) for row in rows] == [(number + 1, str(number)) for number in range(40)]
    assert rows[39]["inputs"] == {"silver.t": 39}
    assert query(early, "SELECT count(*) AS n FROM rows")["n"].to_pylist() == [10]


@pytest.mark.parametrize("first", ["compact", "put", "clear", "append"])
def test_of_two_that_change_the_files_at_once_the_compaction_gives_way(ledger, monkeypatch, first):
    monkeypatch.setattr(ledger_files, "_MOST_SMALL_FILES", 100)
    for number in range(6):
        ledger.append([StepRow(run_id="even" if number % 2 == 0 else "odd", node=str(number))])
    stale = DeltaTable(ledger._path("ops.steps"))
    if first == "compact":
        monkeypatch.setattr(ledger_files, "_MOST_SMALL_FILES", 2)
        ledger_files.compact_files(DeltaTable(ledger._path("ops.steps")))
    elif first == "append":
        ledger.append([StepRow(run_id="even", node="6")])
    else:
        ledger.put(StepRow, [] if first == "clear" else [StepRow(run_id="odd", node="all")], where={"run_id": "odd"})
    monkeypatch.setattr(ledger_files, "_MOST_SMALL_FILES", 2)
    ledger_files.compact_files(stale)
    even, odd = ([row["node"] for row in ledger.rows("ops.steps", run_id=run)] for run in ("even", "odd"))
    assert even == ["0", "2", "4", "6"] if first == "append" else ["0", "2", "4"]
    assert odd == {"put": ["all"], "clear": []}.get(first, ["1", "3", "5"])


def test_full_files_are_left_as_they_are_and_only_recent_rows_are_written_again(ledger, monkeypatch):
    monkeypatch.setattr(ledger_files, "_FULL_FILE_BYTES", 20_000)
    for number in range(60):
        text = "".join(random.Random(number).choices("abcdefghijklmnop", k=1000))  # hardly to be packed
        ledger.append([StepRow(run_id="r", node=str(number), error=text)])
    full = [size for size in pa.table(DeltaTable(ledger._path("ops.steps")).get_add_actions())["size_bytes"].to_pylist() if size >= 20_000]
    assert len(full) == 3  # after 17, 34 and 51 rows
    assert [row["node"] for row in ledger.rows("ops.steps")] == [str(number) for number in range(60)]


_WRITER = """
import sys
from tidemill.lake import Ledger, ledger_files
from tidemill.lake.ops import StepRow
root, writer = sys.argv[1:]
ledger_files._MOST_SMALL_FILES = 3
ledger = Ledger(root)
for number in range(8):
    if number % 3 == int(writer):
        ledger.put(StepRow, [StepRow(run_id=f"put {writer}", node=str(number))], where={"run_id": f"put {writer}"})
    ledger.append([StepRow(run_id=writer, node=str(number))])
"""


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_processes_that_write_at_once_lose_nothing_and_share_no_number(tmp_path, scheme):
    # A URL is not locked: there the commits alone decide.
    root = f"{scheme}{tmp_path}/lake"
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, root, str(writer)]) for writer in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    rows = Ledger(root).rows("ops.steps")
    for writer in range(3):
        assert [row["node"] for row in rows if row["run_id"] == str(writer)] == [str(number) for number in range(8)]
    assert len(DeltaTable(f"{root}/ops/steps").file_uris()) <= 17
    numbers = [row["seq"] for row in rows]
    assert len(set(numbers)) == len(numbers)


def test_a_lake_of_an_earlier_layout_is_refused_with_exit_code_2(tmp_path, capsys):
    old = pa.table({"run_id": ["r"], "state": ["SUCCEEDED"], "at": pa.array([NOON], pa.timestamp("us", tz="UTC"))})
    for table in ("runs", "steps"):
        write_deltalake(str(tmp_path / "lake" / "ops" / table), old)
    with pytest.raises(UsageError, match=r"earlier version of tidemill: ops\.steps has no column seq; choose another"):
        Ledger(str(tmp_path / "lake")).append([StepRow(run_id="r2")])
    assert main(["status", "--lake", str(tmp_path / "lake")]) == 2
    assert "was written by an earlier version of tidemill" in capsys.readouterr().err
    assert DeltaTable(str(tmp_path / "lake" / "ops" / "steps")).version() == 0
