"""The node `deploy` of a run that waits for a person: the request in the ledger, and how the wait ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tidemill.lake.ops import RunRow, StepRow
from tidemill.model_registry import Deployments
from tidemill.workflow.states import AWAITING_APPROVAL, EVIDENCE, FAILED, SUCCEEDED

if TYPE_CHECKING:
    from tidemill.lake import Lake


@dataclass(frozen=True)
class Waiting:
    """A version that waits for approval: the row of ``ops.steps`` that says so, and the digest of the evidence that was shown."""

    version: int
    row: StepRow
    digest: str


def find_waiting(lake: Lake, pipeline: str, version: int | None = None, *, state: str = "CHALLENGER") -> Waiting | None:
    """Return the latest request for the approval of a version, or of any; None where its wait has ended, or it is not in ``state``."""
    states = Deployments(lake.ledger, pipeline).states()
    latest: dict[int, StepRow] = {}
    for row in lake.ledger.read(StepRow, pipeline=pipeline, node="deploy"):
        number = (row.inputs or {}).get(f"models.{pipeline}")
        if number is not None:
            latest.pop(number, None)
            latest[number] = row
    for number, row in reversed(latest.items()):
        fits = version in (None, number) and states.get(number) == state
        if fits and row.state == AWAITING_APPROVAL:
            return Waiting(number, row, str(row.fingerprint).partition(EVIDENCE)[2])
    return None


def complete_waiting(lake: Lake, waiting: Waiting) -> None:
    """Record that the node has succeeded, as if the run had gone on: the next run finds it up to date."""
    row, version = waiting.row, waiting.version
    fingerprint = str(row.fingerprint).partition(f" {EVIDENCE}")[0]
    _end(lake, row, SUCCEEDED, error=None, fingerprint=fingerprint, outputs={f"models.{row.pipeline}": version})


def void_waiting(lake: Lake, waiting: Waiting, reason: str) -> None:
    """Record that the request is void: the node has failed, and the next run asks again."""
    _end(lake, waiting.row, FAILED, error=f"the request for approval is void: {reason}")


def accept_refused_evaluation(lake: Lake, pipeline: str, version: int) -> None:
    """Record that an evaluation stands which the gates refused, so that the next run does not refuse the version again."""
    rows = lake.ledger.read(StepRow, pipeline=pipeline, node="evaluate", state=FAILED)
    of_version = [row for row in rows if (row.inputs or {}).get(f"models.{pipeline}") == version]
    if of_version:
        row = replace(of_version[-1], outputs={f"models.{pipeline}": version})
        lake.ledger.append([replace(row, state=SUCCEEDED, error=None, ended_at=datetime.now(UTC), recorded_at=None)])


def _end(lake: Lake, row: StepRow, state: str, **changes: Any) -> None:
    """Append the end of a waiting node, and that of its run."""
    end: dict[str, Any] = {"state": state, "ended_at": datetime.now(UTC), "recorded_at": None}
    lake.ledger.append([replace(row, **end, **changes)])
    runs = lake.ledger.read_latest(RunRow, ("run_id",), having={"state": AWAITING_APPROVAL}, run_id=row.run_id)
    lake.ledger.append([replace(run, **end, error=changes["error"]) for run in runs])
