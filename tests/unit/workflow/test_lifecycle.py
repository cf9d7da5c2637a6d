"""Approval, promotion and rollback by a person, in runs whose steps are stand-ins: who may, what is recorded, what goes on afterwards."""

from __future__ import annotations

import getpass
import grp
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.workflow.whole_lake import WholeLake

from tidemill.errors import ApprovalRequired, ChangedMeanwhile, GateRefused, SpecError, StepError, UsageError
from tidemill.lake.ops import GateRow, MetricRow
from tidemill.model_registry import Deployments, Manifest
from tidemill.model_registry.manifest import describe_content, list_model_files
from tidemill.model_registry.versions import next_version
from tidemill.spec import load_spec
from tidemill.steps.result import StepContext, StepResult
from tidemill.workflow import LazySpark, Runner, lifecycle
from tidemill.workflow import runner as runner_module
from tidemill.workflow.lifecycle import Wish, approve, promote, rollback
from tidemill.workflow.states import run_status

NO_SPARK = LazySpark(lambda: pytest.fail("Spark was asked for"))


class Steps:
    """Stand-ins: train saves a version, evaluate measures it and refuses a bad one, deploy crowns it, score notes the champion."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.value, self.least = 0.5, 0.4
        self.scored: list[int] = []

    def __call__(self, context: StepContext) -> StepResult:
        self.calls.append(context.node)
        deployments, step = Deployments(context.lake.ledger, "p"), context.node.partition(".")[0]
        version = context.inputs.get("models.p", 0)
        if step == "train":
            version = next_version(context.lake, "p")
            _save(context.lake, version, context.run_id)
            deployments.move(version, "CANDIDATE", run_id=context.run_id, reason="trained")
        elif step == "evaluate":
            run, passed = context.run_columns, self.value >= self.least
            rows = [MetricRow(**run, model_version=version, split="test", metric="f1", value=self.value)]
            context.lake.ledger.put(MetricRow, rows, where=run)
            context.lake.ledger.put(GateRow, [GateRow(**run, model_version=version, gate="f1 >= 0.4", passed=passed)], where=run)
            deployments.move(version, "CHALLENGER" if passed else "REJECTED", run_id=context.run_id, reason="judged")
            if not passed:
                raise GateRefused("f1 is too low")
        elif step == "deploy" and deployments.state(version) == "CHALLENGER":
            deployments.move(version, "CHAMPION", run_id=context.run_id, reason="deployed")
        elif step == "score":
            self.scored.append(version)
        layers = {"ingest": f"bronze.{context.item}", "prepare": "silver.planes", "dataset": "gold.p_dataset", "train": "models.p"}
        layers |= {"evaluate": "models.p", "deploy": "models.p"}
        return StepResult({layers[step]: version if version else 3} if step in layers else {})


def _save(lake, version: int, run_id: str, author: str | None = "ada") -> None:
    folder = f"models/p/{version}"
    lake.write_text(f"{folder}/spark/part-0", f"model {version}")
    lake.write_bytes(f"{folder}/sample.parquet", b"rows")
    manifest = Manifest("p", version, "binary", "lr", {}, "f1", 0.5, [False, True], "boolean", True, {"x": "int"}, run_id, 3)
    lake.write_text(f"{folder}/evidence/spec.json", "{}")
    kept = {"sample": describe_content(b"rows"), "evidence": {"spec.json": describe_content(b"{}")}}
    whole = {"files": list_model_files(lake, "p", version), "author": author, **kept}
    lake.write_text(f"{folder}/model.json", replace(manifest, **whole).to_json())


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
    monkeypatch.setattr(lifecycle, "_reproduce_sample", lambda *_: 100)
    return fake


@pytest.fixture
def life(steps, write_spec):
    """Runs the pipeline, with changes of its block `evaluation` and a retraining where it is asked for."""

    class Life:
        lake = load_spec(write_spec()).pipeline.lake

        @staticmethod
        def spec(evaluation: str = "approval: manual", seed: int = 0):
            training = "training: {task: binary}"
            text = f"evaluation: {{{evaluation}}}\ntraining: {{task: binary, tuner: {{seed: {seed}}}}}"
            return load_spec(write_spec(changed=(training, text)))

        def run(self, evaluation: str = "approval: manual", seed: int = 0, only: str | None = None, force: bool = False):
            runner = Runner(self.spec(evaluation, seed), NO_SPARK, force=force)
            return runner.run(runner.graph.select(only=only))

    return Life()


def _lake(spec):
    return Runner(spec, NO_SPARK).lake


def _states(outcome):
    return {step.node: step.state for step in outcome.steps}


def _champion(spec) -> int | None:
    return Deployments(_lake(spec).ledger, "p").champion()


def test_a_challenger_waits_until_it_is_approved_and_nothing_is_computed_again(life, steps):
    spec = life.spec()
    outcome = life.run()
    states = _states(outcome)
    assert (outcome.state, outcome.exit_code, outcome.champion) == ("AWAITING_APPROVAL", 3, None)
    assert (states["deploy"], states["score"], states["monitor"]) == ("AWAITING_APPROVAL", "BLOCKED", "BLOCKED")
    error = next(step.error for step in outcome.steps if step.node == "deploy")
    assert f"then type: tidemill approve {spec.file} --version 1 --reason TEXT" in error
    assert "the candidate waits for approval and there is no reigning champion" in str(outcome.steps)
    assert run_status(_lake(spec), pipeline="p").state == "AWAITING_APPROVAL"
    again = life.run()
    assert (again.state, again.exit_code, _states(again)["evaluate"]) == ("AWAITING_APPROVAL", 3, "SKIPPED")
    assert [steps.calls.count(name) for name in ("train", "evaluate", "deploy")] == [1, 1, 0]

    change = approve(spec, _lake(spec), Wish(None, " looks right ", "grace"))
    assert (change.model_version, change.from_state, change.to_state, change.champion) == (1, "CHALLENGER", "CHAMPION", 1)
    row = Deployments(_lake(spec).ledger, "p").rows()[-1]
    assert (row.to_state, row.actor, row.reason, row.run_id) == ("CHAMPION", "grace", "looks right", again.run_id)
    evidence = json.loads(row.evidence)
    rule = {"author": "ada", "approvers": [], "author_may_approve": True}
    assert evidence == {"digest": change.evidence, "system_user": getpass.getuser(), **rule}
    assert change.evidence[:12] in error
    status = run_status(_lake(spec), pipeline="p")
    assert (status.state, {step["node"]: step["state"] for step in status.steps}["deploy"]) == ("SUCCEEDED", "SUCCEEDED")
    after = life.run()
    assert (after.exit_code, _states(after)["deploy"], _states(after)["score"]) == (0, "SKIPPED", "SUCCEEDED")
    assert (steps.scored, steps.calls.count("evaluate")) == ([1], 1)


def test_the_old_champion_scores_while_a_new_one_waits(life, steps):
    life.run("approval: auto")
    outcome = life.run(seed=1)
    assert (outcome.exit_code, outcome.champion) == (3, 1)
    assert _states(outcome)["deploy"] == "AWAITING_APPROVAL"
    assert _states(outcome)["score"] in ("SUCCEEDED", "SKIPPED")
    assert set(steps.scored) == {1}
    # Whoever approves from now on: a change of the block does not evaluate again, and `auto` lets deploy go on.
    assert _states(life.run("approval: auto", seed=1))["evaluate"] == "SKIPPED"
    assert (_champion(life.spec()), steps.scored[-1], steps.calls.count("evaluate")) == (2, 2, 2)


@pytest.mark.parametrize(
    ("evaluation", "actor", "says"),
    [
        ("approvers: [grace, 'group:nobody-has-this']", "ada", "ada may not approve model 1 of p: evaluation.approvers names grace, group"),
        ("approvers: [grace]", "grace", None),
        ("author_may_approve: false", "ada", "ada ran its training, and evaluation.author_may_approve is false"),
        ("author_may_approve: false", "grace", None),
    ],
)
def test_only_who_may_approves(life, evaluation, actor, says):
    life.run()
    spec = life.spec(f"approval: manual, {evaluation}")
    if says is None:
        assert approve(spec, _lake(spec), Wish(1, "fine", actor)).champion == 1
        return
    for change in (approve, lambda *args: promote(*args[:2], NO_SPARK, args[2])):
        with pytest.raises(ApprovalRequired, match=says):
            change(spec, _lake(spec), Wish(1, "fine", actor))
    assert _champion(spec) is None
    assert approve(spec, _lake(spec), Wish(1, "fine", "grace")).champion == 1, "a wrong person does not void the request"


def test_members_of_a_group_of_the_system_approve(life):
    life.run()
    spec = life.spec(f"approval: manual, approvers: ['group:{grp.getgrgid(os.getgid()).gr_name}']")
    assert approve(spec, _lake(spec), Wish(1, "fine")).actor == getpass.getuser()


def _forge_metric(lake):
    [row] = lake.ledger.read(MetricRow, pipeline="p")
    lake.ledger.put(MetricRow, [replace(row, value=0.9)], where={"run_id": row.run_id})


def _forge_model(lake):
    Path(lake.root, "models/p/1/spark/part-0").write_text("model 2")


def _forge_evidence(lake):
    lake.write_text("models/p/1/evidence/spec.json", '{"spec": {"description": "another"}}')


def _forge_both(lake):
    """Files and manifest fit each other, as those of another model would."""
    _forge_model(lake)
    (Path(lake.root) / "models/p/1/model.json").unlink()
    _save(lake, 1, "another")


@pytest.mark.parametrize(
    ("forge", "says"),
    [
        (_forge_metric, "changed since it was evaluated: ops.metrics"),
        (_forge_model, "is not the file that was written with the model"),
        (_forge_both, r"changed since it was evaluated: models/p/1/model\.json"),
        (_forge_evidence, r"evidence/spec\.json is not the file that was written"),
    ],
)
def test_changed_evidence_voids_the_request(life, forge, says):
    life.run()
    spec = life.spec()
    forge(_lake(spec))
    with pytest.raises(ApprovalRequired, match=says):
        approve(spec, _lake(spec), Wish(1, "fine"))
    with pytest.raises(UsageError, match="no run has asked for the approval of model 1"):
        approve(spec, _lake(spec), Wish(1, "fine"))
    status = run_status(_lake(spec), pipeline="p")
    assert (status.state, _champion(spec)) == ("FAILED", None)
    assert "the request for approval is void" in str(status.steps)


def test_an_evaluation_after_the_request_has_to_be_shown_first(life, steps):
    life.run()
    spec = life.spec()
    steps.value = 0.6
    life.run(only="evaluate", force=True)
    with pytest.raises(ApprovalRequired, match=r"was evaluated again after run .* had asked for approval, with another result"):
        approve(spec, _lake(spec), Wish(1, "fine"))
    assert life.run().state == "AWAITING_APPROVAL"
    assert approve(spec, _lake(spec), Wish(1, "fine")).champion == 1


def test_another_champion_since_voids_the_request_too(life, steps):
    life.run("approval: auto")
    life.run("approval: auto", seed=1)
    life.run(seed=2)
    spec = life.spec(seed=2)
    rollback(spec, _lake(spec), NO_SPARK, Wish(1, "the new one is late"))
    with pytest.raises(ApprovalRequired, match="the champion, which was 2 and is 1"):
        approve(spec, _lake(spec), Wish(3, "fine"))


def test_rollback_returns_to_the_champion_before_and_score_follows(life, steps):
    life.run("approval: auto")
    life.run("approval: auto", seed=1)
    spec = life.spec("approval: auto", seed=1)
    dry = rollback(spec, _lake(spec), NO_SPARK, Wish(None, "try", is_dry_run=True))
    assert (dry.model_version, dry.champion, dry.champion_before, dry.rows_compared, _champion(spec)) == (1, 1, 2, 100, 2)
    rollback(spec, _lake(spec), NO_SPARK, Wish(None, "complaints", "ada"))
    assert Deployments(_lake(spec).ledger, "p").states() == {1: "CHAMPION", 2: "RETIRED"}
    outcome = life.run("approval: auto", seed=1)
    assert (outcome.exit_code, _states(outcome)["deploy"], steps.scored) == (0, "SKIPPED", [1, 2, 1])
    assert rollback(spec, _lake(spec), NO_SPARK, Wish(None, "back")).champion == 2


def test_a_rejected_version_becomes_challenger_and_stays_so(life, steps):
    life.run("approval: auto")
    steps.value = 0.1
    outcome = life.run("approval: auto", seed=1)
    assert (outcome.exit_code, _champion(life.spec())) == (3, 1)
    spec = life.spec("approval: auto", seed=1)
    change = promote(spec, _lake(spec), NO_SPARK, Wish(2, "the test rows are odd"))
    assert (change.from_state, change.to_state, change.champion) == ("REJECTED", "CHALLENGER", 1)
    evaluations = steps.calls.count("evaluate")
    outcome = life.run("approval: auto", seed=1)
    assert (outcome.exit_code, outcome.champion, steps.calls.count("evaluate")) == (0, 2, evaluations)


def test_a_challenger_is_promoted_at_once(life):
    life.run()
    spec = life.spec()
    assert promote(spec, _lake(spec), NO_SPARK, Wish(None, "needed today")).champion == 1
    assert _states(life.run())["deploy"] == "SKIPPED"


def test_what_cannot_be_done_is_refused_with_a_way_out(life, steps):
    life.run("approval: auto")
    steps.value = 0.1
    life.run("approval: auto", seed=1)
    spec = life.spec("approval: auto", seed=1)
    for change, version, says in (
        (rollback, None, "no version was champion before model 1"),
        (rollback, 1, "it is the CHAMPION already"),
        (rollback, 2, "its gates REJECTED it: `tidemill promote`"),
        (promote, 9, "there is no such version; there are 1, 2"),
        (promote, None, "there is no challenger; its versions: 1 is CHAMPION, 2 is REJECTED"),
        (promote, 1, "it is the CHAMPION already"),
    ):
        with pytest.raises(UsageError, match=says):
            change(spec, _lake(spec), NO_SPARK, Wish(version, "because"))


def test_a_reason_is_required_and_a_model_that_predicts_otherwise_is_not_taken(life, monkeypatch):
    life.run("approval: auto")
    life.run("approval: auto", seed=1)
    spec = life.spec("approval: auto", seed=1)
    with pytest.raises(UsageError, match="--reason: expected why"):
        rollback(spec, _lake(spec), NO_SPARK, Wish(None, "  "))
    with pytest.raises(UsageError, match="--actor"):
        rollback(spec, _lake(spec), NO_SPARK, Wish(None, "so", " "))

    def differ(*_):
        raise StepError("does not predict what it did")

    monkeypatch.setattr(lifecycle, "_reproduce_sample", differ)
    with pytest.raises(StepError, match="does not predict"):
        rollback(spec, _lake(spec), NO_SPARK, Wish(None, "so"))
    assert _champion(spec) == 2


def test_of_two_at_once_one_wins_and_the_other_is_told(life, monkeypatch):
    for seed in range(3):
        life.run("approval: auto", seed=seed)
    spec = life.spec("approval: auto", seed=2)
    both = threading.Barrier(2)
    monkeypatch.setattr(lifecycle, "_reproduce_sample", lambda *_: (both.wait() and 100) or 100)

    def go_back(version: int) -> str:
        try:
            return f"won {rollback(spec, _lake(spec), NO_SPARK, Wish(version, 'now')).champion}"
        except ChangedMeanwhile as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        told = sorted(pool.map(go_back, (1, 2)), reverse=True)
    assert told[0] == f"won {_champion(spec)}"
    assert "nothing was changed: another process changed the champion of p meanwhile, from model 3 to model" in told[1]
    assert list(Deployments(_lake(spec).ledger, "p").states().values()).count("CHAMPION") == 1


def test_approvers_that_name_nobody_are_faults_of_the_spec(life):
    with pytest.raises(SpecError, match=r"approvers.1: expected the name of a user, or group:NAME"):
        life.spec("approvers: [ada, 'group: ']")
