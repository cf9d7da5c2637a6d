"""States of runs and steps, as rows of the ledger: written on every change, the latest is current."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from tidemill.lake import Ledger
from tidemill.lake.repair import outputs_of
from tidemill.steps.result import StepResult

PENDING, RUNNING, SUCCEEDED, FAILED = "PENDING", "RUNNING", "SUCCEEDED", "FAILED"
SKIPPED, BLOCKED, AWAITING_APPROVAL = "SKIPPED", "BLOCKED", "AWAITING_APPROVAL"
DONE = (SUCCEEDED, SKIPPED)
SHARED_STEPS = ("ingest", "prepare")

Row = dict[str, object]


class States:
    """The states of one run of one pipeline."""

    def __init__(self, ledger: Ledger, pipeline: str, run_id: str) -> None:
        """Remember whose states they are; nothing is read yet."""
        self._ledger, self._pipeline, self._run_id = ledger, pipeline, run_id
        self._steps: list[Row] | None = None
        self._started: datetime | None = None

    def refresh(self) -> None:
        """Read what earlier runs left, once no other run can change it any more."""
        self._steps = self._ledger.rows("ops.steps")

    @property
    def history(self) -> list[Row]:
        """The rows of ops.steps that earlier runs left, oldest first."""
        if self._steps is None:
            self.refresh()
        return self._steps or []

    def greatest_versions(self) -> dict[str, int]:
        """Return the greatest version of each table that any step of any run has written."""
        greatest: dict[str, int] = {}
        for row in self.history:
            for name, recorded in outputs_of(row).items():
                greatest[name] = max(recorded.version, greatest.get(name, -1))
        return greatest

    def begin(self, nodes: Iterable[str]) -> None:
        """Write the run as RUNNING and its nodes as PENDING; what an earlier process left RUNNING is FAILED, as it ended without a word."""
        self._close_left_behind()
        self._started = datetime.now(UTC)
        self._ledger.append("ops.runs", [self._row(None, RUNNING, started_at=self._started)])
        self._ledger.append("ops.steps", [self._row(node, PENDING) for node in nodes])

    def end(self, state: str, error: str | None) -> None:
        """Write how the run ended."""
        self._ledger.append("ops.runs", [self._row(None, state, started_at=self._started, ended_at=datetime.now(UTC), error=error)])

    def close(self, error: str) -> None:
        """Write the nodes of this run that have not ended: one that was running is FAILED, one that was to come BLOCKED."""
        now = datetime.now(UTC)
        rows = [row for row in current(self._ledger.rows("ops.steps"), "run_id", "node") if row["run_id"] == self._run_id]
        left = {RUNNING: FAILED, PENDING: BLOCKED}
        self._ledger.append(
            "ops.steps",
            [
                self._row(str(row["node"]), left[str(row["state"])], started_at=row["started_at"], ended_at=now, error=error)
                for row in rows
                if row["state"] in left
            ],
        )

    def running(self, node: str, started_at: datetime, inputs: Mapping[str, int]) -> None:
        """Write a node as RUNNING on these inputs."""
        self._ledger.append("ops.steps", [self._row(node, RUNNING, started_at=started_at, inputs=inputs)])

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
        row = self._row(
            node,
            state,
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
        self._ledger.append("ops.steps", [row])

    def last_good(self, node: str) -> Row | None:
        """Return the node's latest row that is SUCCEEDED or SKIPPED, of this run if there is one; sources and tables are any pipeline's."""
        shared = node.partition(".")[0] in SHARED_STEPS
        rows = [
            row for row in self.history if row["node"] == node and row["state"] in DONE and (shared or row["pipeline"] == self._pipeline)
        ]
        own = [row for row in rows if row["run_id"] == self._run_id]
        found = own or rows
        return found[-1] if found else None

    def last_of_others(self, node: str) -> Row | None:
        """Return the latest good row that another pipeline wrote of this node."""
        rows = [row for row in self.history if row["node"] == node and row["state"] in DONE and row["pipeline"] != self._pipeline]
        return rows[-1] if rows else None

    def _close_left_behind(self) -> None:
        error, now = "the process ended before the step did", datetime.now(UTC)
        steps = current(self.history, "run_id", "node")
        left = [row for row in steps if row["pipeline"] == self._pipeline and row["state"] in (RUNNING, PENDING)]
        runs = [
            row for row in current(self._ledger.rows("ops.runs"), "run_id") if row["pipeline"] == self._pipeline and row["state"] == RUNNING
        ]
        for table, rows in (("ops.steps", left), ("ops.runs", runs)):
            self._ledger.append(
                table,
                [
                    {**row, "state": BLOCKED if row["state"] == PENDING else FAILED, "recorded_at": now, "ended_at": now, "error": error}
                    for row in rows
                    if row["run_id"] != self._run_id
                ],
            )

    def _row(self, node: str | None, state: str, **columns: object) -> Row:
        return {"pipeline": self._pipeline, "run_id": self._run_id, "node": node, "state": state, **columns}


def current(rows: Iterable[Row], *key: str) -> list[Row]:
    """Return the latest row of each key, in the order in which the keys first appeared; ``rows`` come oldest first."""
    latest: dict[tuple[object, ...], Row] = {}
    for row in rows:
        latest[tuple(row[name] for name in key)] = row
    return list(latest.values())
