"""Order, states, skipping and resuming, with steps that only note that they were called."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.tiers import parametrize_first
from tests.unit.workflow.whole_lake import WholeLake

from tidemill.errors import ExpectationRefused, GateRefused, SpecError, UsageError
from tidemill.lake import ledger as ledger_module
from tidemill.lake.ops import RunRow
from tidemill.model_registry.deployments import Deployments
from tidemill.model_registry.versions import next_version
from tidemill.spec import load_spec
from tidemill.steps.result import StepContext, StepResult
from tidemill.workflow import LazySpark, Runner
from tidemill.workflow import runner as runner_module
from tidemill.workflow import states as states_module
from tidemill.workflow.states import select_latest

ALL = ["ingest.planes", "ingest.spare", "prepare.planes", "dataset", "train", "evaluate", "deploy", "score", "monitor"]


class Steps:
    """Stand-ins for the steps: each call is noted and gives the next version of what the node writes."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.inputs: dict[str, dict[str, int]] = {}
        self.broken: dict[str, Exception] = {}
        self.seconds = 0.0
        self.version = 7  # that tables get
        self.side_by_side = 0
        self._now, self._lock = 0, threading.Lock()

    def __call__(self, context: StepContext) -> StepResult:
        with self._lock:
            self.calls.append(context.node)
            self.inputs[context.node] = dict(context.inputs)
            self._now += 1
            self.side_by_side = max(self.side_by_side, self._now)
        time.sleep(self.seconds)
        with self._lock:
            self._now -= 1
        if context.node in self.broken:
            raise self.broken[context.node]
        deployments = Deployments(context.lake.ledger, context.pipeline)
        if context.node == "train":
            version = next_version(context.lake, context.pipeline)
            deployments.move(version, "CANDIDATE", run_id=context.run_id, reason="trained", evidence={}, actor="test")
            return StepResult({f"models.{context.pipeline}": version}, rows_in=5, rows_out=5)
        if context.node == "deploy":
            for state in ("CHALLENGER", "CHAMPION"):
                deployments.move(
                    context.inputs[f"models.{context.pipeline}"], state, run_id=context.run_id, reason="", evidence={}, actor="test"
                )
        return StepResult(_outputs(context, self.version), rows_in=5, rows_out=4, rows_quarantined=1)


def _outputs(context: StepContext, version: int) -> dict[str, int]:
    step, _, item = context.node.partition(".")
    layer = {"ingest": "bronze", "prepare": "silver"}.get(step)
    return {f"{layer}.{item}": version} if layer else {"gold.p_dataset": version - 4} if step == "dataset" else {}


@pytest.fixture
def steps(monkeypatch):
    fake = Steps()
    monkeypatch.setattr(runner_module, "STEP_FUNCTIONS", dict.fromkeys(runner_module.STEP_FUNCTIONS, fake))
    monkeypatch.setattr(
        Runner,
        "_context",
        lambda self, node, decision: StepContext(None, self.spec, self.lake, decision.inputs, self.run_id, node.name),  # type: ignore[arg-type]
    )
    monkeypatch.setattr(runner_module, "Recovery", WholeLake)
    return fake


def _start_no_jvm():
    raise AssertionError("a JVM was asked for")


def _run(path: Path, **options: object):
    selection = {name: options.pop(name) for name in ("start", "end", "only") if name in options}
    runner = Runner(load_spec(path), LazySpark(_start_no_jvm), **options)  # type: ignore[arg-type]
    return runner.run(runner.graph.select(**selection))  # type: ignore[arg-type]


def _states(outcome):
    return {step.node: step.state for step in outcome.steps}


def test_every_node_runs_once_behind_what_it_needs(steps, write_spec):
    outcome = _run(write_spec())
    assert sorted(steps.calls) == sorted(ALL)
    place = steps.calls.index
    assert place("ingest.planes") < place("prepare.planes") < place("dataset") < place("train") < place("evaluate") < place("deploy")
    assert place("deploy") < place("score") < place("monitor")
    assert steps.inputs["prepare.planes"] == {"bronze.planes": 7}
    assert steps.inputs["score"] == {"gold.p_dataset": 3, "models.p": 1}
    assert (outcome.exit_code, outcome.state, outcome.champion) == (0, "SUCCEEDED", 1)


@pytest.mark.parametrize("raised", [SystemExit(0), SystemExit(5), type("Away", (BaseException,), {})("gone")])
def test_a_step_that_ends_the_process_fails_and_the_run_with_it(steps, write_spec, raised):
    steps.broken["prepare.planes"] = raised
    path = write_spec()
    outcome = _run(path, run_id="r")
    assert (outcome.exit_code, outcome.state) == (1, "FAILED")
    told = next(step.error for step in outcome.steps if step.node == "prepare.planes")
    assert ("called sys.exit(" in told) == isinstance(raised, SystemExit) and ("Away: gone" in told) != isinstance(raised, SystemExit)
    rows = select_latest(Runner(load_spec(path), LazySpark(_start_no_jvm)).lake.ledger.rows("ops.steps"), "run_id", "node")
    assert {row["state"] for row in rows} == {"SUCCEEDED", "FAILED", "BLOCKED"}


def test_an_interrupted_run_leaves_no_step_open(steps, write_spec):
    steps.broken["prepare.planes"] = KeyboardInterrupt()
    path = write_spec()
    with pytest.raises(KeyboardInterrupt):
        _run(path, run_id="r")
    ledger = Runner(load_spec(path), LazySpark(_start_no_jvm)).lake.ledger
    states = {row["node"]: row["state"] for row in select_latest(ledger.rows("ops.steps"), "run_id", "node")}
    assert states["prepare.planes"] == "FAILED" and states["dataset"] == states["monitor"] == "BLOCKED"
    assert select_latest(ledger.rows("ops.runs"), "run_id")[0]["state"] == "FAILED"


def test_a_full_disk_is_the_steps_fault_and_the_ledgers(steps, write_spec, monkeypatch):
    full = OSError(28, "No space left on device", "/lake/ops/steps/x.parquet")
    steps.broken["ingest.spare"] = full
    append = Runner(load_spec(write_spec()), LazySpark(_start_no_jvm)).lake.ledger.__class__.append

    def written(self, rows):
        if any(row.error for row in rows):
            raise full
        return append(self, rows)

    monkeypatch.setattr("tidemill.lake.ledger.Ledger.append", written)
    outcome = _run(write_spec())
    told = next(step.error for step in outcome.steps if step.node == "ingest.spare")
    assert outcome.exit_code == 1
    assert told.startswith("no space is left on the disk of /lake/ops/steps/x.parquet; free some and run again") and "the ledger of" in told


def test_what_is_unchanged_is_skipped_and_a_change_runs_only_what_depends_on_it(steps, write_spec, tmp_path):
    path = write_spec()
    _run(path)
    steps.calls.clear()
    assert set(_states(_run(path)).values()) == {"SKIPPED"}
    assert steps.calls == []
    (tmp_path / "spare.csv").write_text("a\n1\n2\n")
    _run(path)
    assert steps.calls == ["ingest.spare"]
    steps.calls.clear()
    path = write_spec(task=("task: binary", "task: binary, folds: 4"))
    _run(path)
    assert steps.calls[:2] == ["dataset", "train"]
    assert "prepare.planes" not in steps.calls
    steps.calls.clear()
    _run(path, force=True)
    assert sorted(steps.calls) == sorted(ALL)


def test_a_failed_node_blocks_what_needs_it_and_the_next_run_goes_on_there(steps, write_spec, tmp_path):
    path = write_spec()
    steps.broken["prepare.planes"] = RuntimeError("disk full")
    outcome = _run(path)
    states = _states(outcome)
    assert states["prepare.planes"] == "FAILED"
    assert {states[node] for node in ALL[3:]} == {"BLOCKED"}
    assert (states["ingest.planes"], states["ingest.spare"]) == ("SUCCEEDED", "SUCCEEDED")
    assert (outcome.exit_code, outcome.state) == (1, "FAILED")
    steps.broken.clear()
    steps.calls.clear()
    outcome = _run(path)
    assert steps.calls == ALL[2:]
    assert outcome.exit_code == 0


def test_the_weightier_exit_code_wins(steps, write_spec):
    steps.broken = {"ingest.spare": RuntimeError("gone"), "prepare.planes": ExpectationRefused("too many bad rows")}
    assert _run(write_spec()).exit_code == 1
    del steps.broken["ingest.spare"]
    assert _run(write_spec()).exit_code == 3


def test_a_refused_candidate_leaves_scoring_to_the_champion(steps, write_spec):
    path = write_spec()
    steps.broken["evaluate"] = GateRefused("areaUnderPR >= 0.9: found 0.3")
    outcome = _run(path)
    states = _states(outcome)
    assert (states["evaluate"], states["deploy"], states["score"], states["monitor"]) == ("FAILED", "BLOCKED", "BLOCKED", "BLOCKED")
    assert outcome.exit_code == 3
    steps.broken.clear()
    assert _run(path).champion == 1
    steps.broken["evaluate"] = GateRefused("areaUnderPR >= 0.9: found 0.3")
    steps.calls.clear()
    outcome = _run(path, force=True)
    states = _states(outcome)
    assert (states["deploy"], states["score"], states["monitor"]) == ("BLOCKED", "SUCCEEDED", "SUCCEEDED")
    assert steps.inputs["score"]["models.p"] == 1
    assert (outcome.exit_code, outcome.champion) == (3, 1)


def test_steps_in_processes_of_their_own_are_one_run_under_one_id(steps, write_spec, tmp_path):
    path = write_spec()
    for step in ("ingest", "prepare", "dataset", "train", "evaluate", "deploy", "score", "monitor"):
        assert _run(path, only=step, run_id="nightly").exit_code == 0
    assert sorted(steps.calls) == sorted(ALL)
    ledger = Runner(load_spec(path), LazySpark(_start_no_jvm)).lake.ledger
    rows = select_latest(ledger.rows("ops.steps"), "run_id", "node")
    assert {(row["run_id"], row["state"]) for row in rows} == {("nightly", "SUCCEEDED")}
    assert [row["state"] for row in select_latest(ledger.rows("ops.runs"), "run_id")] == ["SUCCEEDED"]


def test_a_step_whose_input_was_never_written_says_so(steps, write_spec):
    outcome = _run(write_spec(), only="train")
    assert "dataset has never succeeded" in outcome.steps[0].error
    assert outcome.exit_code == 1


def test_selections(steps, write_spec):
    path = write_spec()
    _run(path, end="dataset")
    assert steps.calls[-1] == "dataset"
    assert sorted(steps.calls) == sorted(["ingest.planes", "prepare.planes", "dataset"])
    steps.calls.clear()
    _run(path, start="train")
    assert steps.calls == ["train", "evaluate", "deploy", "score", "monitor"]
    with pytest.raises(UsageError, match="did you mean 'train'"):
        _run(path, only="trian")


def test_rows_of_the_ledger_tell_the_whole_story(steps, write_spec):
    path = write_spec()
    _run(path, run_id="r1")
    ledger = Runner(load_spec(path), LazySpark(_start_no_jvm)).lake.ledger
    story = [row["state"] for row in ledger.rows("ops.steps", node="prepare.planes")]
    assert story == ["PENDING", "RUNNING", "SUCCEEDED"]
    last = ledger.rows("ops.steps", node="prepare.planes")[-1]
    assert (last["rows_in"], last["rows_out"], last["rows_quarantined"]) == (5, 4, 1)
    assert (last["inputs"], last["outputs"]) == ({"bronze.planes": 7}, {"silver.planes": 7})
    assert last["ended_at"] >= last["started_at"]


def test_what_a_killed_process_left_running_is_closed_by_the_next_run(steps, write_spec, monkeypatch):
    path = write_spec()
    killed = Runner(load_spec(path), LazySpark(_start_no_jvm), run_id="killed")
    killed._states.begin(["dataset", "train"])
    killed._states.record_start("dataset", killed._states._started, {})
    _run(path)
    rows = select_latest(killed.lake.ledger.rows("ops.steps", run_id="killed"), "node")
    assert [(row["node"], row["state"]) for row in rows] == [("dataset", "FAILED"), ("train", "BLOCKED")]
    assert select_latest(killed.lake.ledger.rows("ops.runs", run_id="killed"), "run_id")[0]["state"] == "FAILED"


def test_a_run_that_was_prepared_while_another_one_ran_leaves_its_states_alone(steps, write_spec):
    path = write_spec()
    other = Runner(load_spec(path), LazySpark(_start_no_jvm), run_id="other")
    other._states.begin(["ingest.planes"])
    early = Runner(load_spec(path), LazySpark(_start_no_jvm), run_id="early")
    assert early._states.last_good("ingest.planes") is None  # read now, when the other one is RUNNING
    result = StepResult({"bronze.planes": 7})
    other._states.record_end("ingest.planes", "SUCCEEDED", result=result, inputs={}, fingerprint="", error=None, started_at=None)
    other._states.end("SUCCEEDED", None)
    early.run([node for node in early.graph.nodes if node.name == "ingest.spare"])
    rows = select_latest(early.lake.ledger.rows("ops.steps"), "run_id", "node")
    assert {(row["run_id"], row["node"], row["state"]) for row in rows} == {
        ("other", "ingest.planes", "SUCCEEDED"),
        ("early", "ingest.spare", "SUCCEEDED"),
    }


@parametrize_first("shifts", [(3600, 7200, -7200), (7200, 0, 0), (0, -86400, 3600)], 1)
def test_under_any_clock_the_last_run_is_the_latest_and_there_is_one_champion(steps, write_spec, monkeypatch, shifts):
    """The machine's clock is off by another number of seconds in each run."""
    path = write_spec()
    source = path.parent / "planes.csv"
    for number, seconds in enumerate(shifts, start=1):
        for module in (runner_module, states_module, ledger_module):
            monkeypatch.setattr(module, "datetime", _clock(seconds))
        source.write_text("tail,late\nN1,1\n" * number)
        steps.version += 1
        assert _run(path, run_id=f"run {number}").champion == number
        steps.calls.clear()
        assert {step.state for step in _run(path, run_id=f"again {number}").steps} == {"SKIPPED"}
        assert steps.calls == []
    lake = Runner(load_spec(path), LazySpark(_start_no_jvm)).lake
    states = Deployments(lake.ledger, "p").states()
    assert states == {1: "RETIRED", 2: "RETIRED", 3: "CHAMPION"}
    assert select_latest(lake.ledger.rows("ops.runs"), "run_id")[-1]["run_id"] == "again 3"


def _clock(seconds: int) -> type[datetime]:
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=seconds)

    return Clock


def test_two_runs_of_one_pipeline_at_once_are_refused(steps, write_spec):
    path = write_spec()
    steps.seconds = 0.4
    errors = []

    def go():
        try:
            _run(path)
        except UsageError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert len(errors) == 1
    assert "another run of p is going on" in errors[0]
    assert steps.side_by_side >= 2, "the two sources must be ingested at the same time"


def test_two_pipelines_may_share_a_table_only_if_they_define_it_alike(steps, write_spec):
    _run(write_spec("p"))
    steps.calls.clear()
    assert _run(write_spec("q"), end="prepare").exit_code == 0
    assert steps.calls == [], "what the other pipeline ingested and prepared is up to date"
    with pytest.raises(SpecError, match=r"tables\.planes: pipeline p defines silver\.planes"):
        _run(write_spec("q", sql=("SELECT * FROM", "SELECT tail, late FROM")), end="prepare")
    assert _run(write_spec("p", sql=("SELECT * FROM", "SELECT tail, late FROM")), end="prepare", force=True).exit_code == 0


def test_mlflow_is_repaired_at_the_start_shown_at_the_end_and_told_once(steps, write_spec, monkeypatch, capsys):
    path, calls = write_spec(), []

    def show(spec, lake, *, has_news=True):
        calls.append((has_news, lake.ledger.read_latest(RunRow, ("run_id",))[-1].state, len(steps.calls)))
        return "MLflow does not answer"

    monkeypatch.setattr("tidemill.workflow.runner.show_in_mlflow", show)
    _run(path)
    assert calls == [(False, "RUNNING", 0), (True, "SUCCEEDED", len(ALL))]
    assert capsys.readouterr().err.count("MLflow does not answer") == 1
    _run(path)
    assert calls[2:] == [(False, "RUNNING", len(ALL)), (False, "SUCCEEDED", len(ALL))]
