"""States of runs and steps, as rows of the ledger: written on every change, the latest is current."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from tidemill.errors import UsageError
from tidemill.lake import Lake, Ledger
from tidemill.lake.ops import RunRow, StateRow, StepRow
from tidemill.steps.result import StepResult

PENDING, RUNNING, SUCCEEDED, FAILED = "PENDING", "RUNNING", "SUCCEEDED", "FAILED"
SKIPPED, BLOCKED, AWAITING_APPROVAL = "SKIPPED", "BLOCKED", "AWAITING_APPROVAL"
DONE = (SUCCEEDED, SKIPPED)
SHARED_STEPS = ("ingest", "prepare")

# How a state ends that was left behind.
_CLOSED: dict[str | None, str] = {RUNNING: FAILED, PENDING: BLOCKED}
Row = dict[str, object]


class States:
    """The states of one run of one pipeline."""

    def __init__(self, ledger: Ledger, pipeline: str, run_id: str) -> None:
        """Remember whose states they are; nothing is read yet."""
        self._ledger, self._pipeline, self._run_id = ledger, pipeline, run_id
        self._steps: list[StepRow] | None = None
        self._started: datetime | None = None

    def refresh(self) -> None:
        """Read what earlier runs left, once no other run can change it any more."""
        self._steps = self._ledger.read(StepRow)

    @property
    def history(self) -> list[StepRow]:
        """The rows of ops.steps that earlier runs left, oldest first."""
        if self._steps is None:
            self.refresh()
        return self._steps or []

    def greatest_versions(self) -> dict[str, int]:
        """Return the greatest version of each table that any step of any run has written."""
        greatest: dict[str, int] = {}
        for row in self.history:
            for name, version in (row.outputs or {}).items():
                greatest[name] = max(version, greatest.get(name, -1))
        return greatest

    def begin(self, nodes: Iterable[str]) -> None:
        """Write the run as RUNNING and its nodes as PENDING; what an earlier process left RUNNING is FAILED, as it ended without a word."""
        self._close_left_behind()
        self._started = datetime.now(UTC)
        self._ledger.append([RunRow(**self._names, state=RUNNING, started_at=self._started)])
        self._ledger.append([StepRow(**self._names, node=node, state=PENDING) for node in nodes])

    def end(self, state: str, error: str | None) -> None:
        """Write how the run ended."""
        ended = RunRow(**self._names, state=state, started_at=self._started, ended_at=datetime.now(UTC), error=error)
        self._ledger.append([ended])

    def close(self, error: str) -> None:
        """Write the nodes of this run that have not ended: one that was running is FAILED, one that was to come BLOCKED."""
        now = datetime.now(UTC)
        self._ledger.append(
            [
                StepRow(**self._names, node=row.node, state=_CLOSED[row.state], started_at=row.started_at, ended_at=now, error=error)
                for row in latest_states(self._ledger.read(StepRow, run_id=self._run_id))
                if row.state in _CLOSED
            ]
        )

    def running(self, node: str, started_at: datetime, inputs: Mapping[str, int]) -> None:
        """Write a node as RUNNING on these inputs."""
        self._ledger.append([StepRow(**self._names, node=node, state=RUNNING, started_at=started_at, inputs=inputs)])

    def ended(
        self,
        node: str,
        state: str,
        *,
        result: StepResult,
        inputs: Mapping[str, int],
        fingerprint: str,
        error: str | None,
        started_at: datetime | None,
    ) -> None:
        """Write how a node ended, with its counts and the versions it read and wrote."""
        row = StepRow(
            **self._names,
            node=node,
            state=state,
            started_at=started_at,
            ended_at=datetime.now(UTC),
            fingerprint=fingerprint,
            error=error,
            inputs=inputs,
            outputs=result.outputs,
            output_rows=result.output_rows,
            rows_in=result.rows_in,
            rows_out=result.rows_out,
            rows_quarantined=result.rows_quarantined,
            rows_dropped=result.rows_dropped,
        )
        self._ledger.append([row])

    def last_good(self, node: str) -> StepRow | None:
        """Return the node's latest row that is SUCCEEDED or SKIPPED, of this run if there is one; sources and tables are any pipeline's."""
        is_shared = node.partition(".")[0] in SHARED_STEPS
        rows = [row for row in self.history if row.node == node and row.state in DONE and (is_shared or row.pipeline == self._pipeline)]
        own = [row for row in rows if row.run_id == self._run_id]
        return next(reversed(own or rows), None)

    def last_of_others(self, node: str) -> StepRow | None:
        """Return the latest good row that another pipeline wrote of this node."""
        rows = [row for row in self.history if row.node == node and row.state in DONE and row.pipeline != self._pipeline]
        return next(reversed(rows), None)

    def _close_left_behind(self) -> None:
        runs = self._ledger.read(RunRow, pipeline=self._pipeline)
        self._ledger.append(self._left_behind(row for row in self.history if row.pipeline == self._pipeline))
        self._ledger.append([row for row in self._left_behind(runs) if row.state == FAILED])

    def _left_behind(self, rows: Iterable[State]) -> list[State]:
        """Return the rows that end what other runs left unended."""
        end: dict[str, Any] = {"ended_at": datetime.now(UTC), "error": "the process ended before the step did", "recorded_at": None}
        left = [row for row in latest_states(rows) if row.state in _CLOSED and row.run_id != self._run_id]
        return [replace(row, state=_CLOSED[row.state], **end) for row in left]

    @property
    def _names(self) -> dict[str, Any]:
        return {"pipeline": self._pipeline, "run_id": self._run_id}


State = TypeVar("State", bound=StateRow)


def latest_states(rows: Iterable[State]) -> list[State]:
    """Return the latest row of each run and node, in the order in which they first appeared; ``rows`` come oldest first."""
    latest: dict[tuple[str | None, str | None], State] = {}
    for row in rows:
        latest[row.run_id, row.node] = row
    return list(latest.values())


def current(rows: Iterable[Row], *key: str) -> list[Row]:
    """Return the latest row of each key, in the order in which the keys first appeared; ``rows`` come oldest first."""
    latest: dict[tuple[object, ...], Row] = {}
    for row in rows:
        latest[tuple(row[name] for name in key)] = row
    return list(latest.values())


@dataclass(frozen=True)
class RunStatus:
    """A run and its steps as the ledger has them: ``run`` is one row of ``ops.runs``, ``steps`` are rows of ``ops.steps``."""

    run: Row
    steps: list[Row]

    @property
    def state(self) -> str:
        """The state of the run: RUNNING, SUCCEEDED or FAILED."""
        return str(self.run["state"])


def run_status(lake: Lake, *, pipeline: str | None = None, run_id: str | None = None) -> RunStatus:
    """Return a run of a lake: the one that is named, else the latest of the pipeline, else the latest of all.

    Raises:
        UsageError: there is no such run.
    """
    runs = [row for row in current(lake.ledger.rows("ops.runs"), "run_id") if pipeline in (None, row["pipeline"])]
    chosen = next((row for row in reversed(runs) if run_id in (None, row["run_id"])), None)
    if chosen is None:
        raise UsageError(f"no run {run_id or ''} in {lake.root}; `tidemill run SPEC` makes one".replace("  ", " "))
    return RunStatus(chosen, current(lake.ledger.rows("ops.steps", run_id=chosen["run_id"]), "node"))
