"""A run that takes quarantine through again, with states like any other run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module

from tidemill.errors import StepError, TidemillError, UsageError
from tidemill.lake import Lake
from tidemill.lake.lock import holder, locked
from tidemill.lake.recorded import outputs_of
from tidemill.spec import Spec
from tidemill.steps.result import StepContext, StepResult
from tidemill.user_code import contain_exit
from tidemill.workflow.graph import build_graph
from tidemill.workflow.lazy_spark import LazySpark
from tidemill.workflow.outcome import Outcome, RunOutcome
from tidemill.workflow.progress import Progress
from tidemill.workflow.recovery import Recovery
from tidemill.workflow.states import FAILED, SUCCEEDED, States
from tidemill.workflow.words import in_one_sentence

_FUNCTIONS = {"ingest": ("reprocess", "reprocess_source"), "prepare": ("reprocess_table", "reprocess_table")}


class Reprocess:
    """Takes the records in quarantine of some nodes through again, one node after the other."""

    def __init__(self, spec: Spec, spark: LazySpark, run_id: str) -> None:
        """Prepare it; nothing is written yet."""
        self.spec, self.lake, self.run_id = spec, Lake(spec.pipeline.lake), run_id
        self._spark = spark
        self._states = States(self.lake.ledger, spec.pipeline.pipeline, run_id)
        self._graph = build_graph(spec)
        self._recovery = Recovery(self.lake, spec.pipeline.pipeline, self._graph, self._states)

    def run(self, nodes: Sequence[str], progress: Progress) -> RunOutcome:
        """Take the nodes' records through again and return how that ended.

        A node keeps the fingerprint of its last good run: whether the table as a whole is up to date is not decided here.

        Raises:
            UsageError: a run of this pipeline is going on in this lake.
        """
        name = self.spec.pipeline.pipeline
        with locked(self.lake.root, f"run.{name}", wait=False) as alone:
            if not alone:
                raise UsageError(f"a run of {name} is going on, by {holder(self.lake.root, f'run.{name}')}; wait for it to end")
            self._states.refresh()
            self._states.begin(nodes)
            try:
                with progress as shown:
                    outcomes = tuple(self._node(node, shown) for node in nodes)
            except BaseException as error:
                with suppress(Exception):  # what ended the run is the fault to be told
                    self._states.close(in_one_sentence(error))
                    self._states.end(FAILED, in_one_sentence(error))
                raise
            state = FAILED if any(outcome.exit_code for outcome in outcomes) else SUCCEEDED
            self._states.end(state, "; ".join(outcome.error for outcome in outcomes if outcome.error) or None)
        return RunOutcome(self.run_id, state, outcomes, None)

    def _node(self, node: str, progress: Progress) -> Outcome:
        from tidemill.session import child_session

        progress.started(node)
        began, started_at = time.monotonic(), datetime.now(UTC)
        last = self._states.last_good(node) or {}
        inputs: Mapping[str, int] = dict(last.get("inputs") or {})  # type: ignore[call-overload]
        result, error = StepResult(), None
        try:
            context = StepContext(child_session(self._spark.get()), self.spec, self.lake, inputs, self.run_id, node)
            self._states.running(node, started_at, inputs)
            known, outputs = self._graph[node], outputs_of(last) if last else {}
            faults = self._recovery.faults(known, {}, outputs)
            if faults:
                raise StepError(f"{faults[0]}; run the pipeline first: `tidemill run SPEC` makes again what is lost")
            before = self._recovery.versions(known)
            result = self._recovery.settle(known, self._called(node, context), before, outputs)
        except TidemillError as caught:
            error = caught
        state = FAILED if error else SUCCEEDED
        told = in_one_sentence(error) if error else None
        fingerprint = str(last.get("fingerprint") or "")
        self._states.ended(node, state, result=result, inputs=inputs, fingerprint=fingerprint, error=told, started_at=started_at)
        outcome = Outcome.of(node, state, result, time.monotonic() - began, error, told)
        progress.ended(outcome)
        return outcome

    def _called(self, node: str, context: StepContext) -> StepResult:
        with contain_exit("user code"):
            return self._function(node)(context)

    @staticmethod
    def _function(node: str) -> Callable[[StepContext], StepResult]:
        module, name = _FUNCTIONS[node.partition(".")[0]]
        # Imported when it is called: it loads Spark.
        function: Callable[[StepContext], StepResult] = getattr(import_module(f"tidemill.steps.{module}"), name)
        return function
