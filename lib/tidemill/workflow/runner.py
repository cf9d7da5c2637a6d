"""Runs the graph: decides what is up to date, runs the rest side by side, writes every change of state."""

from __future__ import annotations

import logging
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tidemill.errors import ApprovalRequired, SpecError, StepError, TableNotFound, TidemillError, UsageError
from tidemill.extensions import search_beside
from tidemill.lake import Lake
from tidemill.lake.repair import RecordedVersion, list_outputs
from tidemill.model_registry.approval import refuse_unapproved
from tidemill.model_registry.deployments import Deployments
from tidemill.preflight import refuse_unknown_columns
from tidemill.redaction import redact_trace
from tidemill.runtime.locks import find_holder, hold_lock
from tidemill.runtime.session import LazySpark
from tidemill.runtime.terminal import escape_controls_in_lines
from tidemill.runtime.user_code import describe_exit
from tidemill.spec import Spec
from tidemill.steps import STEP_FUNCTIONS
from tidemill.steps.result import StepContext, StepResult
from tidemill.workflow.error_messages import format_error
from tidemill.workflow.fingerprint import (
    fingerprint_definition,
    fingerprint_node,
    is_defined_alike,
    list_changed_parts,
    refuse_shared_names,
)
from tidemill.workflow.graph import Graph, Node, build_graph
from tidemill.workflow.mlflow_projection import show_in_mlflow
from tidemill.workflow.outcome import Outcome, RunOutcome
from tidemill.workflow.progress import PlainProgress, Progress
from tidemill.workflow.recovery import Recovery
from tidemill.workflow.states import AWAITING_APPROVAL, BLOCKED, DONE, EVIDENCE, FAILED, SKIPPED, SUCCEEDED, States

logger = logging.getLogger(__name__)

_SIDE_BY_SIDE = 3
UNCHANGED = "unchanged since it last succeeded"


@dataclass(frozen=True)
class Decision:
    """Whether a node runs: its fingerprint and the reasons; ``reasons`` is empty where it is up to date."""

    node: str
    inputs: Mapping[str, int]
    fingerprint: str
    reasons: tuple[str, ...]
    outputs: Mapping[str, RecordedVersion]


def new_run_id() -> str:
    """Return a new run id with the start time by this machine's clock: ``20130101T120000-1a2b3c``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


class Runner:
    """One run of a pipeline, or of a part of it."""

    def __init__(
        self,
        spec: Spec,
        spark: LazySpark,
        *,
        run_id: str | None = None,
        force: bool = False,
        replay: str | None = None,
        debug: bool = False,
    ) -> None:
        """Prepare a run of ``spec``; nothing is written yet."""
        self.spec, self.lake = spec, Lake(spec.pipeline.lake)
        self.run_id = run_id or new_run_id()
        self.graph: Graph = build_graph(spec)
        self._spark, self._force, self._replay, self._debug = spark, force, replay, debug
        self._states = States(self.lake.ledger, spec.pipeline.pipeline, self.run_id)
        self._recovery = Recovery(self.lake, spec.pipeline.pipeline, self.graph, self._states)
        self._outputs: dict[str, Mapping[str, int]] = {}

    def run(self, nodes: Sequence[Node], progress: Progress | None = None) -> RunOutcome:
        """Run the nodes, each as soon as its inputs are ready; return how all of them ended.

        Raises:
            UsageError: another run of this pipeline is going on in this lake.
            SpecError: names are another pipeline's, a column is not there, or train is to come and a family's parameters are wrong;
                nothing has run then.
        """
        with hold_lock(self.lake.root, f"run.{self.spec.pipeline.pipeline}", wait=False) as alone:
            if not alone:
                name, root = self.spec.pipeline.pipeline, self.lake.root
                by = find_holder(root, f"run.{name}")
                who = f", by {by}" if by else ""
                raise UsageError(f"another run of {name} is going on in {root}{who}; wait for it to end, or look with `tidemill status`")
            self._recovery.repair(nodes, self.run_id)
            if not self._force:
                refuse_shared_names(self.spec, nodes, self._states)
            refuse_unknown_columns(self.spec, self.lake, [node.name for node in nodes])
            self._refuse_wrong_parameters(nodes)
            self._states.begin(node.name for node in nodes)
            show_in_mlflow(self.spec, self.lake, has_news=False)  # what an earlier run could not; told at the end of this one
            try:
                with progress or PlainProgress() as shown:
                    outcomes = self._work_off(nodes, shown)
            except BaseException as error:
                with suppress(Exception):  # the error that ended the run is the one to report
                    self._states.close(format_error(error))
                    self._states.end(FAILED, format_error(error))
                raise
            failed = [outcome for outcome in outcomes if outcome.state == FAILED]
            waits = any(outcome.state == AWAITING_APPROVAL for outcome in outcomes)
            state = FAILED if failed else AWAITING_APPROVAL if waits else SUCCEEDED
            # Where the ledger cannot be written, steps have failed already, and their errors are the ones to report.
            with suppress(Exception) if failed else nullcontext():
                self._states.end(state, "; ".join(f"{outcome.node}: {outcome.error}" for outcome in failed) or None)
        self._show_in_mlflow(outcomes)
        return RunOutcome(self.run_id, state, tuple(outcomes), Deployments(self.lake.ledger, self.spec.pipeline.pipeline).champion())

    def _show_in_mlflow(self, outcomes: Sequence[Outcome]) -> None:
        has_news = any(outcome.node in ("train", "evaluate", "deploy") and outcome.state == SUCCEEDED for outcome in outcomes)
        note = show_in_mlflow(self.spec, self.lake, has_news=has_news)
        if note is not None:
            sys.stderr.write(f"{escape_controls_in_lines(note)}\n")

    def decide(self, node: Node) -> Decision:
        """Return whether the node would run now, why, and on what.

        Raises:
            StepError: something it reads was never written.
        """
        inputs = {table: self._version(node, table) for table in node.reads}
        print_ = fingerprint_node(self.spec, node, inputs, self._spark.get() if self._lists_with_spark(node) else None)
        before = self._states.last_good(node.name)
        if self._force:
            reasons: tuple[str, ...] = ("requested by --force",)
        elif self._replay is not None:
            reasons = ("requested by --replay",)
        elif before is None:
            reasons = ("it has never succeeded",)
        else:
            reasons = tuple(list_changed_parts(str(before.fingerprint), print_))
            if node.step == "ingest" and self.spec.pipeline.sources[node.item].always_poll:
                reasons = (*reasons, "its source is polled in every run")
        outputs = list_outputs(before)
        if not reasons:
            reasons = tuple(self._recovery.faults(node, inputs, outputs))
        logger.info("%s %s: %s", node.name, "runs" if reasons else "is skipped", "; ".join(reasons) or UNCHANGED)
        return Decision(node.name, inputs, print_, reasons, outputs)

    def _refuse_wrong_parameters(self, nodes: Sequence[Node]) -> None:
        for node in (node for node in nodes if node.step == "train"):
            before = self._states.last_good(node.name)
            if before is None or not is_defined_alike(str(before.fingerprint), fingerprint_definition(self.spec, node)):
                from tidemill.steps.train.feature_variants import resolve_declared_spaces  # imports the libraries of the families

                resolve_declared_spaces(self.spec)

    def _work_off(self, nodes: Sequence[Node], progress: Progress) -> list[Outcome]:
        waiting, ended = {node.name: node for node in nodes}, dict[str, Outcome]()
        running: dict[Future[Outcome], str] = {}
        with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="node") as pool:
            while waiting or running:
                for node in list(waiting.values()):
                    if any(name in waiting or name in running.values() for name in (*node.needs, *node.after)):
                        continue
                    del waiting[node.name]
                    obstacle = self._obstacle(node, ended)
                    if obstacle:
                        ended[node.name] = self._block(node, obstacle, progress)
                    elif len(running) < _SIDE_BY_SIDE:
                        running[pool.submit(self._run_node, node, progress)] = node.name
                    else:
                        waiting[node.name] = node
                if running:
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        ended[running.pop(future)] = future.result()
        return [ended[node.name] for node in nodes]

    def _obstacle(self, node: Node, ended: Mapping[str, Outcome]) -> str | None:
        """Return why the node cannot run, None where it can."""
        for name in node.needs:
            if name in ended and ended[name].state not in DONE:
                return f"{name} is {ended[name].state}"
        for name in node.after:
            if name in ended and ended[name].state not in DONE:
                waits = ended[name].state == AWAITING_APPROVAL
                if not waits and not any(outcome.is_gate_refusal for outcome in ended.values()):
                    return f"{name} is {ended[name].state}"
                if self._champion() is None:
                    return f"the candidate {'waits for approval' if waits else 'was refused'} and there is no reigning champion"
        return None

    def _block(self, node: Node, obstacle: str, progress: Progress) -> Outcome:
        logger.info("%s is blocked: %s", node.name, obstacle)
        self._states.record_end(node.name, BLOCKED, result=StepResult(), inputs={}, fingerprint="", error=obstacle, started_at=None)
        outcome = Outcome(node.name, BLOCKED, error=obstacle)
        progress.show_end(outcome)
        return outcome

    def _run_node(self, node: Node, progress: Progress) -> Outcome:
        progress.show_start(node.name)
        began, started_at = time.monotonic(), datetime.now(UTC)
        decision, result = Decision(node.name, {}, "", (), {}), StepResult()
        error: Exception | None = None
        interrupt = None
        try:
            decision = self.decide(node)
            if decision.reasons:
                self._states.record_start(node.name, started_at, decision.inputs)
                self._recovery.refuse_faults(node, decision.inputs)
                before = self._recovery.versions(node)
                try:
                    with search_beside(self.spec.folder):
                        self._refuse_unapproved(node, decision)
                        result = STEP_FUNCTIONS[node.step](self._context(node, decision))
                finally:
                    self._recovery.record_models(node, decision.inputs, self.run_id)
                result = self._recovery.complete_result(node, result, before, decision.outputs)
                state = SUCCEEDED
            else:
                state, result = SKIPPED, self._recovery.reuse_result(node, decision.outputs)
            self._outputs[node.name] = result.outputs
        except ApprovalRequired as caught:
            state, error = AWAITING_APPROVAL, caught
            decision = replace(decision, fingerprint=f"{decision.fingerprint} {EVIDENCE}{caught.digest}")
        except KeyboardInterrupt as caught:
            state, error, interrupt = FAILED, StepError("interrupted"), caught
        except BaseException as caught:  # noqa: BLE001 - any error is the step's failure, recorded and shown
            state, error = FAILED, self._failure(node, caught)
        message = format_error(error) if error else None
        try:
            self._states.record_end(
                node.name,
                state,
                result=result,
                inputs=decision.inputs,
                fingerprint=decision.fingerprint,
                error=message,
                started_at=started_at,
            )
        except Exception as caught:  # noqa: BLE001 - such as a full disk; the next run records how the step ended
            lost = f"the ledger of {self.lake.root} cannot be written: {format_error(caught)}"
            state, error = FAILED, error or caught
            message = f"{message}; and {lost}" if message else lost
        if interrupt is not None:
            raise interrupt
        logger.info("%s is %s after %.1f s%s", node.name, state, time.monotonic() - began, f": {message}" if message else "")
        outcome = Outcome.of(node.name, state, result, time.monotonic() - began, error, message)
        progress.show_end(outcome)
        return outcome

    def _refuse_unapproved(self, node: Node, decision: Decision) -> None:
        """Let a challenger wait before Spark starts for it, where a person has to approve it."""
        if node.step == "deploy":
            refuse_unapproved(self.lake, self.spec, decision.inputs[self.spec.pipeline.model_name])

    def _failure(self, node: Node, caught: BaseException) -> Exception:
        """Return what a step raised as an error with its position in the spec where that is known."""
        if self._debug:
            sys.stderr.write(escape_controls_in_lines(redact_trace(caught)))
        if isinstance(caught, SpecError):
            return self.spec.locate_faults(caught)
        if isinstance(caught, SystemExit):
            return StepError(f"{node.name}: user code {describe_exit(caught)}")
        return caught if isinstance(caught, Exception) else StepError(format_error(caught))

    def _context(self, node: Node, decision: Decision) -> StepContext:
        from tidemill.runtime.session import child_session

        return StepContext(child_session(self._spark.get()), self.spec, self.lake, decision.inputs, self.run_id, node.name, self._replay)

    def _version(self, node: Node, table: str) -> int:
        """Return the version of ``table`` that ``node`` must read: this run's, else the latest good one."""
        if table.startswith("models.") and node.step in ("score", "monitor"):
            champion = self._champion()
            if champion is None:
                raise StepError(
                    f"{node.name} needs a champion, and {self.spec.pipeline.pipeline} has none; run `train`, `evaluate` and `deploy` first"
                )
            return champion
        writer = self.graph.writer(table)
        if writer is None:
            version = self.lake.version(table)
            if version is None:
                raise TableNotFound(f"{node.name} reads {table}, which no step of this pipeline writes and the lake does not hold")
            return version
        outputs = self._outputs.get(writer)
        if outputs is None:
            before = self._states.last_good(writer)
            if before is None:
                raise StepError(
                    f"{node.name} reads {table}, which {writer} writes, but {writer} has never succeeded in {self.lake.root}; run it first"
                )
            outputs = {name: recorded.version for name, recorded in list_outputs(before).items()}
        if table in outputs:
            return int(outputs[table])
        version = self.lake.version(table)
        if version is None:
            raise TableNotFound(f"{node.name} reads {table}, which {writer} has not written; its quarantine is empty")
        return version

    def _champion(self) -> int | None:
        return Deployments(self.lake.ledger, self.spec.pipeline.pipeline).champion()

    def _lists_with_spark(self, node: Node) -> bool:
        if node.step != "ingest":
            return False
        return any("://" in path.replace("file://", "") for path in self.spec.pipeline.sources[node.item].paths)


def list_decisions(runner: Runner, names: Sequence[str]) -> list[dict[str, object]]:
    """Return for each node whether it would run and why; the columns are those of `tidemill.Pipeline.explain`."""
    would_run: set[str] = set()
    rows: list[dict[str, object]] = []
    for name in names:
        node = runner.graph[name]
        upstream = [other for other in (*node.needs, *node.after) if other in would_run]
        reasons: tuple[str, ...] = (f"{upstream[0]} would run",) if upstream else ()
        would, exit_code = "", 0
        if not reasons:
            try:
                reasons = runner.decide(node).reasons
            except TidemillError as error:
                reasons, would, exit_code = (str(error),), "fail", error.exit_code
        if reasons:
            would_run.add(name)
        would = would or ("run" if reasons else "skip")
        rows.append({"node": name, "would": would, "why": "; ".join(reasons) or UNCHANGED, "exit_code": exit_code})
    return rows
