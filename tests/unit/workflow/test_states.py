"""What a run reads of the runs before it, compared with a loop over all rows of ops.steps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.errors import UsageError
from tidemill.lake import Lake
from tidemill.lake.ops import RunRow, StepRow
from tidemill.lake.repair import RecordedVersion
from tidemill.workflow.states import DONE, History, States, run_status

ROWS = st.lists(
    st.builds(
        StepRow,
        pipeline=st.sampled_from(["p", "q"]),
        run_id=st.sampled_from(["r1", "r2", "own"]),
        node=st.sampled_from(["ingest.a", "prepare.a", "train"]),
        state=st.sampled_from(["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "SKIPPED"]),
        outputs=st.none() | st.dictionaries(st.sampled_from(["bronze.a", "silver.a", "models.p"]), st.integers(0, 9), max_size=3),
        output_rows=st.none() | st.dictionaries(st.sampled_from(["bronze.a", "silver.a"]), st.integers(0, 99), max_size=2),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=15, deadline=None)
@given(ROWS)
def test_history_is_that_of_all_rows(tmp_path_factory, rows):
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    lake.ledger.append(rows)
    history = History.read(lake.ledger, "own")
    outputs: dict[str, RecordedVersion] = {}
    greatest: dict[str, int] = {}
    good: dict[tuple, int] = {}
    for seq, row in enumerate(rows, start=1):
        for name, version in (row.outputs or {}).items():
            greatest[name] = max(version, greatest.get(name, -1))
            if row.state in DONE:
                outputs[name] = RecordedVersion(version, (row.output_rows or {}).get(name))
        if row.state in DONE:
            good[row.pipeline, row.node] = seq
    assert (dict(history.outputs), dict(history.greatest_versions)) == (outputs, greatest)
    assert [row.seq for row in history.good] == sorted(good.values())
    of_run = {(row.pipeline, row.node): seq for seq, row in enumerate(rows, start=1) if row.state in DONE and row.run_id == "own"}
    assert [row.seq for row in history.good_of_run] == sorted(of_run.values())


def test_history_of_an_empty_lake(tmp_path):
    assert History.read(Lake(str(tmp_path)).ledger, "r") == History((), (), {}, {})


@pytest.fixture
def lake(tmp_path):
    lake = Lake(str(tmp_path / "lake"))

    def record(node, run_id, pipeline="p", state="SUCCEEDED"):
        lake.ledger.append([StepRow(pipeline=pipeline, run_id=run_id, node=node, state=state)])

    record("ingest.a", "r1", pipeline="q")
    record("ingest.a", "own")
    record("ingest.a", "r3", pipeline="q")
    record("train", "r1")
    record("train", "r2", state="FAILED")
    record("train", "r3", pipeline="q")
    return lake


class TestStates:
    def test_last_good_is_of_this_run_where_it_has_one(self, lake):
        assert States(lake.ledger, "p", "own").last_good("ingest.a").run_id == "own"

    def test_last_good_of_a_source_is_any_pipelines_and_of_other_steps_its_own(self, lake):
        states = States(lake.ledger, "p", "new")
        assert (states.last_good("ingest.a").run_id, states.last_good("train").run_id) == ("r3", "r1")
        assert states.last_good("score") is None

    def test_last_of_others(self, lake):
        assert States(lake.ledger, "p", "new").last_of_others("ingest.a").run_id == "r3"
        assert States(lake.ledger, "q", "new").last_of_others("ingest.a").run_id == "own"


class TestRunStatus:
    @pytest.fixture
    def lake(self, tmp_path):
        lake = Lake(str(tmp_path / "lake"))
        for run_id, pipeline, state in [("r1", "p", "RUNNING"), ("r2", "q", "RUNNING"), ("r3", "p", "RUNNING"), ("r1", "p", "SUCCEEDED")]:
            lake.ledger.append([RunRow(pipeline=pipeline, run_id=run_id, state=state)])
        for node, state in [("train", "PENDING"), ("score", "PENDING"), ("train", "RUNNING")]:
            lake.ledger.append([StepRow(pipeline="p", run_id="r3", node=node, state=state)])
        return lake

    def test_is_of_the_run_that_began_last(self, lake):
        status = run_status(lake)
        assert (status.run["run_id"], status.state) == ("r3", "RUNNING")
        assert [(step["node"], step["state"]) for step in status.steps] == [("train", "RUNNING"), ("score", "PENDING")]

    def test_is_of_the_pipeline_or_run_that_is_named(self, lake):
        assert (run_status(lake, pipeline="q").run["run_id"], run_status(lake, run_id="r1").state) == ("r2", "SUCCEEDED")
        with pytest.raises(UsageError, match="no run r2 in"):
            run_status(lake, pipeline="p", run_id="r2")
