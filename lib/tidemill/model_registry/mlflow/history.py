"""What the ledger says of a pipeline's runs that trained or evaluated, read without Spark."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from tidemill.lake.ledger import condition
from tidemill.lake.ops import ConfusionRow, CurveRow, DeploymentRow, GateRow, MetricRow, RunRow, StepRow, TrialRow

if TYPE_CHECKING:
    from tidemill.lake import Lake


LAYOUT = 1
"""Counted up when the projection shows more than before, so that it is made again."""
QUARANTINE = "_quarantine"
SHOWN_STEPS = ("train", "evaluate", "deploy")
_IDLE = ("PENDING", "WAITING", "SKIPPED", "BLOCKED")


def milliseconds(instant: datetime | None) -> int | None:
    """Return an instant as MLflow takes it."""
    return None if instant is None else int(instant.timestamp() * 1000)


@dataclass(frozen=True)
class RecordedTrial:
    """One trial of a run: its rows, one per fold, in the order of the folds."""

    rows: Sequence[TrialRow]

    @property
    def number(self) -> int:
        """The number of the trial in its run."""
        return int(self.rows[0].trial or 0)

    @property
    def unfinished_fold(self) -> TrialRow | None:
        """The first fold that failed or was stopped; None where all succeeded."""
        return next((row for row in self.rows if row.state != "SUCCEEDED"), None)

    @property
    def state(self) -> str:
        """SUCCEEDED, or the state of the first fold that did not succeed."""
        return str((self.unfinished_fold or self.rows[0]).state)

    @property
    def mean(self) -> float | None:
        """The mean of the metric over the folds; None where a fold has no value."""
        values = [row.value for row in self.rows]
        return None if self.unfinished_fold or None in values else sum(value or 0.0 for value in values) / len(values)


@dataclass(frozen=True)
class RecordedRun:
    """One run of the pipeline, as ``ops.runs`` and ``ops.steps`` have it; other tables are read when they are needed."""

    lake: Lake
    pipeline: str
    run_id: str
    row: RunRow | None
    steps: Mapping[str, StepRow]
    deployments: Sequence[DeploymentRow]

    @property
    def state(self) -> str | None:
        """The state of the run; None where its row is gone."""
        return None if self.row is None else self.row.state

    @property
    def has_trained(self) -> bool:
        """True where the run trained or evaluated."""
        return any(step in self.steps and self.steps[step].state not in _IDLE for step in ("train", "evaluate"))

    @property
    def fingerprint(self) -> str:
        """A hash of all that the projection of the run depends on: a step writes its rows before it records its end."""
        sequence = [self.row.seq if self.row else None, *((name, step.seq) for name, step in sorted(self.steps.items()))]
        content = json.dumps([LAYOUT, self.run_id, sequence, [row.seq for row in self.deployments]], default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def tables(self) -> dict[str, int]:
        """The versions of the tables that the run wrote, or read for training and evaluation, without quarantines."""
        versions: dict[str, int] = {}
        for name, step in self.steps.items():
            if step.state not in ("PENDING", "BLOCKED", "WAITING"):
                versions |= {**(dict(step.inputs or {}) if name in SHOWN_STEPS else {}), **dict(step.outputs or {})}
        return {
            name: version for name, version in sorted(versions.items()) if not name.startswith("models.") and not name.endswith(QUARANTINE)
        }

    @cached_property
    def trials(self) -> list[RecordedTrial]:
        """The trials of the run, by number."""
        folds: dict[int, list[TrialRow]] = {}
        for row in self.lake.ledger.read(TrialRow, pipeline=self.pipeline, run_id=self.run_id):
            folds.setdefault(int(row.trial or 0), []).append(row)
        return [RecordedTrial(sorted(rows, key=lambda row: row.fold or 0)) for _, rows in sorted(folds.items())]

    @cached_property
    def metrics(self) -> list[MetricRow]:
        """The metrics that the run measured, of slices too."""
        return self.lake.ledger.read(MetricRow, pipeline=self.pipeline, run_id=self.run_id)

    @cached_property
    def gates(self) -> list[GateRow]:
        """The gates that the run asked."""
        return self.lake.ledger.read(GateRow, pipeline=self.pipeline, run_id=self.run_id)

    @cached_property
    def confusion(self) -> list[ConfusionRow]:
        """The confusion matrix of the test rows, a row for each label and prediction; empty where nothing is classified."""
        return self.lake.ledger.read(ConfusionRow, pipeline=self.pipeline, run_id=self.run_id, split="test")

    @cached_property
    def curves(self) -> dict[str, list[CurveRow]]:
        """The curves of the test rows, each in the order of its points."""
        curves: dict[str, list[CurveRow]] = {}
        for row in self.lake.ledger.read(CurveRow, pipeline=self.pipeline, run_id=self.run_id):
            if row.model_version != 0 and row.split != "train" and row.x is not None and row.y is not None:
                curves.setdefault(str(row.curve), []).append(row)
        return curves


def read_runs(lake: Lake, pipeline: str, deployments: Iterable[DeploymentRow]) -> dict[str, RecordedRun]:
    """Return the runs that trained or evaluated, and those that changed the state of a version, oldest first."""
    changes: dict[str, list[DeploymentRow]] = {}
    for change in deployments:
        changes.setdefault(str(change.run_id), []).append(change)
    active = f"{condition({'pipeline': pipeline, 'node': SHOWN_STEPS})} AND NOT {condition({'state': _IDLE})}"
    names = [str(row["run_id"]) for row in lake.ledger.query(StepRow.TABLE, f"SELECT DISTINCT run_id FROM rows WHERE {active}")]
    ids = tuple(names)
    rows = {str(row.run_id): row for row in lake.ledger.read_latest(RunRow, ("run_id",), pipeline=pipeline, run_id=ids)} if names else {}
    steps: dict[str, dict[str, StepRow]] = {}
    for step in lake.ledger.read_latest(StepRow, ("run_id", "node"), pipeline=pipeline, run_id=ids) if names else ():
        steps.setdefault(str(step.run_id), {})[str(step.node)] = step
    runs = [RecordedRun(lake, pipeline, name, rows.get(name), steps.get(name, {}), changes.get(name, [])) for name in {*names, *changes}]
    shown = [run for run in runs if run.has_trained or any(change.from_state is None for change in run.deployments)]
    return {run.run_id: run for run in sorted(shown, key=lambda run: run.run_id)}


def read_ledger_state(lake: Lake, pipeline: str) -> str | None:
    """Return a text that changes when the projection has something new to show; None where there is nothing at all."""
    active = f"{condition({'pipeline': pipeline, 'node': SHOWN_STEPS})} AND NOT {condition({'state': _IDLE})}"
    steps = lake.ledger.query(StepRow.TABLE, f"SELECT seq, run_id FROM rows WHERE {active} ORDER BY seq DESC LIMIT 1")
    changes = f"SELECT max(seq) AS seq FROM rows WHERE {condition({'pipeline': pipeline})}"
    latest = [row["seq"] for row in (*steps, *lake.ledger.query(DeploymentRow.TABLE, changes)) if row["seq"] is not None]
    if not latest:
        return None
    # Later steps of the same run, in processes of their own, change how it ended.
    of_run = condition({"pipeline": pipeline, "run_id": steps[0]["run_id"]}) if steps else "FALSE"
    ended = lake.ledger.query(RunRow.TABLE, f"SELECT max(seq) AS seq FROM rows WHERE {of_run} AND NOT {condition({'state': 'RUNNING'})}")
    return " ".join(str(number) for number in (LAYOUT, *latest, *(row["seq"] for row in ended)))
