"""Which ops rows maintenance removes: those of old runs that nothing depends on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tidemill.cli import main
from tidemill.lake import Lake
from tidemill.lake.ops import DeploymentRow, DriftRow, FileRow, MetricRow, RunRow, StepRow
from tidemill.model_registry.deployments import Deployments
from tidemill.runtime.locks import hold_lock
from tidemill.workflow.maintenance import maintain
from tidemill.workflow.retention import OpsRetention, find_expired_runs
from tidemill.workflow.states import History

NOW = datetime.now(UTC)
RUNS = 12
MONTH = OpsRetention(days=30, runs=2)


def run_id(number: int) -> str:
    return f"r{number:02d}"


def record_run(lake: Lake, number: int, days_ago: int, pipeline: str = "p", train: bool = False) -> None:
    """Record a run that prepares a version of a table and trains, or scores with the champion."""
    run = {"pipeline": pipeline, "run_id": run_id(number), "recorded_at": NOW - timedelta(days=days_ago)}
    ledger = lake.ledger
    ledger.append([RunRow(**run, state="RUNNING")])
    ledger.append([FileRow(**run, source="a", path=f"{number}.csv", state="loaded")])
    ledger.append([StepRow(**run, node="prepare.t", state="SUCCEEDED", outputs={"silver.t": number})])
    if train:
        ledger.append(
            [StepRow(**run, node="train", state="SUCCEEDED", inputs={"silver.t": number}, outputs={f"models.{pipeline}": number})]
        )
        ledger.append([MetricRow(**run, model_version=number, metric="rmse", value=1.0)])
    ledger.append([DriftRow(**run, model_version=1, column_name="x")])
    ledger.append([RunRow(**run, state="SUCCEEDED")])


def move(lake: Lake, version: int, *states: str, pipeline: str = "p") -> None:
    for state in states:
        Deployments(lake.ledger, pipeline).move(version, state, run_id=run_id(version), reason="test")


@pytest.fixture
def lake(tmp_path) -> Lake:
    """Twelve runs, ten days apart; runs 1, 3, 5 and 7 trained: 1 was champion before 3, 5 was rejected, 7 is a challenger."""
    lake = Lake(str(tmp_path / "lake"))
    for number in range(RUNS):
        record_run(lake, number, 10 * (RUNS - 1 - number), train=number in (1, 3, 5, 7))
    for version in (1, 3):
        move(lake, version, "CANDIDATE", "CHALLENGER", "CHAMPION")
    move(lake, 5, "CANDIDATE", "REJECTED")
    move(lake, 7, "CANDIDATE", "CHALLENGER")
    return lake


def runs_of(lake: Lake, row) -> set[str | None]:
    return {each.run_id for each in lake.ledger.read(row)}


class TestExpiredRuns:
    def test_are_old_and_of_no_use_to_a_model(self, lake):
        # Runs 9 to 11 are at most 20 days old; 1, 3 and 7 made models in use.
        assert find_expired_runs(lake, MONTH) == {"p": ("r00", "r02", "r04", "r05", "r06", "r08")}

    def test_runs_among_the_last_ones_stay_however_old(self, lake):
        assert find_expired_runs(lake, OpsRetention(days=0, runs=5)) == {"p": ("r00", "r02", "r04", "r05", "r06")}
        assert find_expired_runs(lake, OpsRetention(days=0, runs=RUNS)) == {}

    def test_defaults_keep_a_year_and_a_thousand_runs(self, lake):
        assert OpsRetention() == OpsRetention(days=400, runs=1000)
        assert find_expired_runs(lake, OpsRetention()) == {}

    def test_the_latest_good_state_of_a_node_stays(self, lake):
        old = {"pipeline": "p", "run_id": "old", "recorded_at": NOW - timedelta(days=900)}
        lake.ledger.append([StepRow(**old, node="prepare.gone", state="SUCCEEDED", outputs={"silver.gone": 3})])
        assert "old" not in find_expired_runs(lake, MONTH)["p"]

    def test_the_run_of_the_greatest_version_stays(self, lake):
        """A table that was made anew gets a version beyond all that it had, also those of failed steps."""
        old = {"pipeline": "p", "run_id": "old", "recorded_at": NOW - timedelta(days=900)}
        lake.ledger.append([StepRow(**old, node="prepare.t", state="FAILED", outputs={"silver.t": 99})])
        assert "old" not in find_expired_runs(lake, MONTH)["p"]

    def test_what_a_model_in_use_was_made_of_stays(self, lake):
        """Model 9 is made of version 5 of silver.u, which is made of version 4 of silver.v; both tables went on since."""

        def record(run, node, inputs, outputs, pipeline="q", days_ago=900):
            row = {"pipeline": pipeline, "run_id": run, "recorded_at": NOW - timedelta(days=days_ago)}
            lake.ledger.append([StepRow(**row, node=node, state="SUCCEEDED", inputs=inputs, outputs=outputs)])

        record("unused", "prepare.v", {}, {"silver.v": 3})
        record("origin", "prepare.v", {}, {"silver.v": 4})
        record("between", "prepare.u", {"silver.v": 4}, {"silver.u": 5})
        record("trained", "train", {"silver.u": 5}, {"models.p": 9}, pipeline="p")
        record("recent", "prepare.v", {}, {"silver.v": 6}, days_ago=1)
        record("recent", "prepare.u", {"silver.v": 6}, {"silver.u": 6}, days_ago=1)
        move(lake, 9, "CANDIDATE")
        expired = find_expired_runs(lake, OpsRetention(days=30, runs=1))
        assert expired["q"] == ("unused",)
        assert "trained" not in expired["p"]


class TestMaintain:
    def test_removes_the_rows_of_expired_runs_alone(self, lake):
        expired = {run for runs in find_expired_runs(lake, MONTH).values() for run in runs}
        before = {row: lake.ledger.read(row) for row in (RunRow, StepRow, DriftRow, MetricRow, FileRow, DeploymentRow)}
        result = maintain(lake, retention=MONTH)
        for row in (RunRow, StepRow, DriftRow):
            assert lake.ledger.read(row) == [each for each in before[row] if each.run_id not in expired], row.TABLE
        for row in (FileRow, DeploymentRow):
            assert lake.ledger.read(row) == before[row], "never removed"
        assert [row.model_version for row in lake.ledger.read(MetricRow)] == [1, 3, 7], "5 was rejected"
        counts = {each.table: each.rows_removed for each in result.tables}
        assert (counts["ops.runs"], counts["ops.steps"], counts["ops.drift"], counts["ops.metrics"]) == (12, 7, 6, 1)

    def test_leaves_what_a_run_reads_of_earlier_ones_as_it_was(self, lake):
        before = History.read(lake.ledger, "new")
        states, champion = Deployments(lake.ledger, "p").states(), Deployments(lake.ledger, "p").champion()
        maintain(lake, retention=MONTH)
        after = History.read(lake.ledger, "new")
        assert after == before
        assert (Deployments(lake.ledger, "p").states(), Deployments(lake.ledger, "p").champion()) == (states, champion)

    def test_assigns_no_number_again(self, lake):
        last = lake.ledger.read(StepRow)[-1].seq
        maintain(lake, retention=OpsRetention(days=0, runs=1))
        lake.ledger.append([StepRow(pipeline="p", run_id="new", node="train")])
        assert lake.ledger.read(StepRow)[-1].seq == last + 1

    def test_metrics_of_a_model_in_use_stay_whichever_run_wrote_them(self, lake):
        lake.ledger.append([MetricRow(pipeline="p", run_id=run_id(4), model_version=3, metric="mae", recorded_at=NOW - timedelta(days=70))])
        maintain(lake, retention=MONTH)
        assert [(row.model_version, row.metric) for row in lake.ledger.read(MetricRow, run_id=run_id(4))] == [(3, "mae")]

    def test_runs_of_the_same_name_in_another_pipeline_stay(self, lake):
        record_run(lake, 0, 1, pipeline="q")
        maintain(lake, retention=MONTH)
        assert {row.pipeline for row in lake.ledger.read(StepRow, run_id=run_id(0))} == {"q"}

    def test_a_second_time_there_is_nothing_to_remove(self, lake):
        maintain(lake, retention=MONTH)
        version = lake.version("ops.steps")
        assert all(not each.rows_removed for each in maintain(lake, retention=MONTH).tables)
        assert lake.version("ops.steps") == version

    def test_a_dry_run_counts_and_removes_nothing(self, lake, capsys):
        before = lake.ledger.read(StepRow)
        options = ["--lake", lake.root, "--ops-days", "30", "--ops-runs", "2"]
        assert main(["maintain", *options, "--dry-run", "--json"]) == 0
        planned = {each["table"]: each["rows_removed"] for each in json.loads(capsys.readouterr().out)["tables"]}
        assert lake.ledger.read(StepRow) == before
        assert main(["maintain", *options, "--json"]) == 0
        removed = {each["table"]: each["rows_removed"] for each in json.loads(capsys.readouterr().out)["tables"]}
        assert {table: count for table, count in planned.items() if count} == {table: count for table, count in removed.items() if count}

    def test_is_refused_while_a_run_goes_on(self, lake):
        with hold_lock(lake.root, "run.p"):
            assert main(["maintain", "--lake", lake.root, "--ops-days", "0", "--ops-runs", "1"]) == 2
        assert len(runs_of(lake, RunRow)) == RUNS
