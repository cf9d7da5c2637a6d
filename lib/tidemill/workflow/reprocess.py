"""A run that processes quarantined records again, with states like any other run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module

from tidemill.errors import StepError, TidemillError, UsageError
from tidemill.lake import Lake
from tidemill.lake.delta_tables import query
from tidemill.lake.repair import list_outputs, refuse_faults
from tidemill.quoting import name_batch_app
from tidemill.runtime.locks import find_holder, hold_lock
from tidemill.runtime.session import LazySpark
from tidemill.runtime.user_code import contain_exit
from tidemill.spec import Spec
from tidemill.steps.result import StepContext, StepResult
from tidemill.workflow.error_messages import format_error
from tidemill.workflow.graph import build_graph
from tidemill.workflow.outcome import Outcome, RunOutcome
from tidemill.workflow.progress import Progress
from tidemill.workflow.recovery import Recovery
from tidemill.workflow.states import FAILED, SUCCEEDED, States


@dataclass(frozen=True)
class QuarantinedRule:
    """The records of one table that break one rule: how many, since when, and one of them with its place."""

    table: str
    rule: str
    records: int
    since: object
    sample: str
    place: str

    def row(self) -> dict[str, object]:
        """Return it as a row for people and for JSON."""
        return vars(self)


def list_quarantined(spec: Spec, lake: Lake) -> list[QuarantinedRule]:
    """Return what is in quarantine of the spec's sources and tables, by rule, the most first; starts no Spark.

    A record that breaks several rules counts for each. Records of a killed batch do not count: its main table never
    contained it.

    Raises:
        LakeError: a quarantine has lost records.
    """
    refused: list[QuarantinedRule] = []
    tables = map_tables_to_nodes(spec)
    refuse_faults(lake, [f"{table}_quarantine" for table in tables])
    for table in tables:
        if lake.exists(f"{table}_quarantine"):
            is_bronze = table.startswith("bronze.")
            last = lake.txn_version(table, name_batch_app(table.partition(".")[2])) if is_bronze else None
            committed = f"WHERE _batch_id <= {last or 0}" if is_bronze else ""
            refused += _by_rule(lake, table, committed)
    return refused


def list_nodes_in_quarantine(spec: Spec, lake: Lake) -> list[str]:
    """Return the nodes whose tables have records in quarantine, in the order of the spec."""
    tables = {refused.table for refused in list_quarantined(spec, lake)}
    return [node for table, node in map_tables_to_nodes(spec).items() if table in tables]


def map_tables_to_nodes(spec: Spec) -> dict[str, str]:
    """Return the tables that may have a quarantine, each with its node (``silver.flights`` → ``prepare.flights``), in the spec's order."""
    sources = {f"bronze.{name}": f"ingest.{name}" for name in spec.pipeline.sources}
    return sources | {f"silver.{name}": f"prepare.{name}" for name in spec.pipeline.tables}


def _by_rule(lake: Lake, table: str, where: str) -> list[QuarantinedRule]:
    opened = lake.open(f"{table}_quarantine")
    columns = {part.name for part in opened.schema().fields}
    at = "_ingested_at" if "_ingested_at" in columns else "quarantined_at"
    line = "coalesce(':' || CAST(_source_line AS VARCHAR), '')" if "_source_line" in columns else "''"
    place = f"_source_file || {line}" if "_source_file" in columns else "''"
    rows = query(
        opened,
        f"SELECT rule, count(*) AS records, min(since) AS since, first_value(raw ORDER BY place, raw) AS sample, min(place) AS place "
        f"FROM (SELECT unnest(rules) AS rule, {at} AS since, raw, {place} AS place FROM rows {where}) GROUP BY rule "
        "ORDER BY records DESC, rule",
    ).to_pylist()
    return [QuarantinedRule(table, row["rule"], row["records"], row["since"], str(row["sample"]), row["place"]) for row in rows]


_FUNCTIONS = {"ingest": "reprocess_source", "prepare": "reprocess_table"}


class Reprocess:
    """Processes the quarantined records of some nodes again, one node after the other."""

    def __init__(self, spec: Spec, spark: LazySpark, run_id: str) -> None:
        """Prepare the run; writes nothing."""
        self.spec, self.lake, self.run_id = spec, Lake(spec.pipeline.lake), run_id
        self._spark = spark
        self._states = States(self.lake.ledger, spec.pipeline.pipeline, run_id)
        self._graph = build_graph(spec)
        self._recovery = Recovery(self.lake, spec.pipeline.pipeline, self._graph, self._states)

    def run(self, nodes: Sequence[str], progress: Progress) -> RunOutcome:
        """Process the nodes' quarantined records again and return how that ended.

        A node keeps the fingerprint of its last good run: whether the table as a whole is up to date is not decided here.

        Raises:
            UsageError: a run of this pipeline is going on in this lake.
        """
        name = self.spec.pipeline.pipeline
        with hold_lock(self.lake.root, f"run.{name}", wait=False) as alone:
            if not alone:
                raise UsageError(f"a run of {name} is going on, by {find_holder(self.lake.root, f'run.{name}')}; wait for it to end")
            self._states.refresh()
            self._states.begin(nodes)
            try:
                with progress as shown:
                    outcomes = tuple(self._node(node, shown) for node in nodes)
            except BaseException as error:
                with suppress(Exception):  # the error that ended the run is the one to report
                    self._states.close(format_error(error))
                    self._states.end(FAILED, format_error(error))
                raise
            state = FAILED if any(outcome.exit_code for outcome in outcomes) else SUCCEEDED
            self._states.end(state, "; ".join(outcome.error for outcome in outcomes if outcome.error) or None)
        return RunOutcome(self.run_id, state, outcomes, None)

    def _node(self, node: str, progress: Progress) -> Outcome:
        from tidemill.runtime.session import child_session

        progress.show_start(node)
        began, started_at = time.monotonic(), datetime.now(UTC)
        last = self._states.last_good(node)
        inputs: Mapping[str, int] = dict((last and last.inputs) or {})
        result, error = StepResult(), None
        try:
            context = StepContext(child_session(self._spark.get()), self.spec, self.lake, inputs, self.run_id, node)
            self._states.record_start(node, started_at, inputs)
            known, outputs = self._graph[node], list_outputs(last)
            faults = self._recovery.faults(known, {}, outputs)
            if faults:
                raise StepError(f"{faults[0]}; run the pipeline first: `tidemill run SPEC` recreates what is lost")
            before = self._recovery.versions(known)
            result = self._recovery.complete_result(known, self._call(node, context), before, outputs)
        except TidemillError as caught:
            error = caught
        state = FAILED if error else SUCCEEDED
        message = format_error(error) if error else None
        fingerprint = str((last and last.fingerprint) or "")
        self._states.record_end(node, state, result=result, inputs=inputs, fingerprint=fingerprint, error=message, started_at=started_at)
        outcome = Outcome.of(node, state, result, time.monotonic() - began, error, message)
        progress.show_end(outcome)
        return outcome

    def _call(self, node: str, context: StepContext) -> StepResult:
        with contain_exit("user code"):
            return self._function(node)(context)

    @staticmethod
    def _function(node: str) -> Callable[[StepContext], StepResult]:
        name = _FUNCTIONS[node.partition(".")[0]]
        # Imported when it is called: it loads Spark.
        function: Callable[[StepContext], StepResult] = getattr(import_module("tidemill.steps.prepare.reprocess"), name)
        return function
