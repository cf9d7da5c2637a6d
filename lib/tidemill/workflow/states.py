"""States of runs and steps, as rows of the ledger: written on every change, the latest is current."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

from tidemill.errors import UsageError
from tidemill.lake import Lake, Ledger
from tidemill.lake.ledger import where_clause
from tidemill.lake.ops import RunRow, StateRow, StepRow
from tidemill.lake.repair import RecordedVersion, read_greatest_versions, read_recorded_outputs
from tidemill.steps.result import StepResult

PENDING, RUNNING, SUCCEEDED, FAILED = "PENDING", "RUNNING", "SUCCEEDED", "FAILED"
SKIPPED, BLOCKED, AWAITING_APPROVAL = "SKIPPED", "BLOCKED", "AWAITING_APPROVAL"
DONE = (SUCCEEDED, SKIPPED)
EVIDENCE = "evidence="
"""What the digest of the evidence follows in the fingerprint of a node that awaits approval."""
SHARED_STEPS = ("ingest", "prepare")

# The end of a state whose process died.
_CLOSED: dict[str | None, str] = {RUNNING: FAILED, PENDING: BLOCKED}
_UNENDED = {"state": tuple(_CLOSED)}
Row = dict[str, object]


class States:
    """The states of one run of one pipeline."""

    def __init__(self, ledger: Ledger, pipeline: str, run_id: str) -> None:
        """Remember whose states they are; nothing is read yet."""
        self._ledger, self._pipeline, self._run_id = ledger, pipeline, run_id
        self._history: History | None = None
        self._started: datetime | None = None

    def refresh(self) -> None:
        """Read what earlier runs left, once no other run can change it any more."""
        self._history = History.read(self._ledger, self._run_id)

    @property
    def history(self) -> History:
        """What earlier runs left in ops.steps."""
        if self._history is None:
            self.refresh()
        assert self._history is not None
        return self._history

    def begin(self, nodes: Iterable[str]) -> None:
        """Write the run as RUNNING and its nodes as PENDING; what a dead process left RUNNING becomes FAILED."""
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
                for row in self._ledger.read_latest(StepRow, ("run_id", "node"), having=_UNENDED, run_id=self._run_id)
            ]
        )

    def record_start(self, node: str, started_at: datetime, inputs: Mapping[str, int]) -> None:
        """Write a node as RUNNING on these inputs."""
        self._ledger.append([StepRow(**self._names, node=node, state=RUNNING, started_at=started_at, inputs=inputs)])

    def record_end(
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
        for rows in (self.history.good_of_run, self.history.good):
            matching = [row for row in rows if row.node == node and (is_shared or row.pipeline == self._pipeline)]
            if matching:
                return matching[-1]
        return None

    def last_of_others(self, node: str) -> StepRow | None:
        """Return the latest good row that another pipeline wrote of this node."""
        return next((row for row in reversed(self.history.good) if row.node == node and row.pipeline != self._pipeline), None)

    def _close_left_behind(self) -> None:
        """Write the end of the runs and steps of this pipeline whose process ended before they did."""
        for row_class, keys in ((StepRow, ("run_id", "node")), (RunRow, ("run_id",))):
            rows: list[StateRow] = self._ledger.read_latest(row_class, keys, having=_UNENDED, pipeline=self._pipeline)
            end: dict[str, Any] = {"ended_at": datetime.now(UTC), "error": "the process ended before the step did", "recorded_at": None}
            self._ledger.append([replace(row, state=_CLOSED[row.state], **end) for row in rows if row.run_id != self._run_id])

    @property
    def _names(self) -> dict[str, Any]:
        return {"pipeline": self._pipeline, "run_id": self._run_id}


@dataclass(frozen=True)
class History:
    """What the runs up to now left in ops.steps, as far as a run depends on it; the rows come oldest first.

    ``good`` are the latest SUCCEEDED or SKIPPED rows of each pipeline and node, ``good_of_run`` those of one run; ``outputs`` is what the
    latest step that wrote each table recorded of it, ``greatest_versions`` the greatest version of each table that any step has written.
    """

    good: tuple[StepRow, ...]
    good_of_run: tuple[StepRow, ...]
    outputs: Mapping[str, RecordedVersion]
    greatest_versions: Mapping[str, int]

    @classmethod
    def read(cls, ledger: Ledger, run_id: str) -> Self:
        """Read it from the ledger."""
        by = ("pipeline", "node")
        return cls(
            good=tuple(ledger.read_latest(StepRow, by, state=DONE)),
            good_of_run=tuple(ledger.read_latest(StepRow, by, state=DONE, run_id=run_id)),
            outputs=read_recorded_outputs(ledger),
            greatest_versions=read_greatest_versions(ledger),
        )


def select_latest(rows: Iterable[Row], *key: str) -> list[Row]:
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
    filters = {name: value for name, value in {"pipeline": pipeline, "run_id": run_id}.items() if value is not None}
    started_last = f"SELECT run_id FROM rows{where_clause(filters)} GROUP BY run_id ORDER BY min(seq) DESC LIMIT 1"
    runs = lake.ledger.query("ops.runs", f"SELECT * FROM rows WHERE run_id = ({started_last}) ORDER BY seq DESC LIMIT 1")
    if not runs:
        raise UsageError(f"no run {run_id or ''} in {lake.root}; `tidemill run SPEC` makes one".replace("  ", " "))
    return RunStatus(runs[0], select_latest(lake.ledger.rows("ops.steps", run_id=runs[0]["run_id"]), "node"))
