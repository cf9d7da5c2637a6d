"""How nodes and runs ended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import fmean

from tidemill.errors import GateRefused, UsageError
from tidemill.lake import Ledger
from tidemill.lake.ops import FeatureRow, MetricRow, TrialRow
from tidemill.model_registry import Deployments
from tidemill.redaction import redact
from tidemill.steps.result import StepResult
from tidemill.tasks import is_minimised

Row = dict[str, object]


def find_latest_search(ledger: Ledger, pipeline: str) -> str | None:
    """Return the run that searched last, None where none did."""
    rows = ledger.read_latest(TrialRow, ("pipeline",), pipeline=pipeline)
    return rows[0].run_id if rows else None


def build_leaderboard(ledger: Ledger, pipeline: str) -> list[Row]:
    """Return the trials of the pipeline's latest search; ``value`` is null where a fold failed, or where it was stopped early."""
    run_id = find_latest_search(ledger, pipeline)
    trials: dict[int, list[TrialRow]] = {}
    for row in ledger.read(TrialRow, pipeline=pipeline, run_id=run_id) if run_id else ():
        trials.setdefault(int(row.trial or 0), []).append(row)
    return [_summarize_trial(folds) for _, folds in sorted(trials.items())]


def _summarize_trial(folds: list[TrialRow]) -> Row:
    """Return one row of the leaderboard."""
    first = folds[0]
    unfinished = next((row for row in folds if row.state != "SUCCEEDED"), None)
    return {
        "trial": first.trial,
        "family": first.family,
        "metric": first.metric,
        "value": None if unfinished else fmean(row.value for row in folds if row.value is not None),
        "folds": len(folds),
        "seconds": sum(row.seconds or 0.0 for row in folds),
        "state": unfinished.state if unfinished else "SUCCEEDED",
        "engine": first.engine,
        "library": first.library,
        "params": json.loads(first.params or "{}"),
        "error": unfinished.error if unfinished else None,
    }


def sort_key(trial: Row) -> tuple[bool, float]:
    """Return what sorts trials from best to worst, those without a value last."""
    value = trial["value"]
    if value is None:
        return True, 0.0
    try:
        return False, float(str(value)) * (1 if is_minimised(str(trial["metric"])) else -1)
    except UsageError:  # a custom metric of an earlier search, which is gone: nobody knows which way is better
        return False, 0.0


def list_models(ledger: Ledger, pipeline: str) -> list[Row]:
    """Return a row per model version: its state, and its metrics on the test rows; version 0 is the constant baseline."""
    states = Deployments(ledger, pipeline).states()
    metrics = [row for row in ledger.read(MetricRow, pipeline=pipeline, split="test") if row.slice is None]
    # A version exists from its first state on; the metrics of a copy come before it.
    versions = sorted({*states, *(0 for row in metrics if row.model_version == 0)})
    return [
        {
            "model_version": version,
            "state": states.get(version) if version else "BASELINE",
            **{str(row.metric): row.value for row in metrics if row.model_version == version},
        }
        for version in versions
    ]


def list_feature_choices(ledger: Ledger, pipeline: str, run_id: str | None = None) -> list[Row]:
    """Return the rows of ``ops.features`` of a run, the latest one if none is named, with ``settings`` and ``figures`` as objects."""
    latest = [row.run_id for row in ledger.read_latest(FeatureRow, ("pipeline",), pipeline=pipeline)]
    rows = [row for run in ([run_id] if run_id else latest) for row in ledger.read(FeatureRow, pipeline=pipeline, run_id=run)]
    cells = [row.cells() for row in sorted(rows, key=lambda row: row.position or 0)]
    objects = ("settings", "figures")
    return [{**row, **{name: json.loads(str(row[name])) if row[name] else None for name in objects}} for row in cells]


_EXIT_ORDER = (2, 1, 3, 0)


def choose_exit_code(exit_codes: Iterable[int]) -> int:
    """Return the exit code of several that takes precedence: 2 before 1 before 3 before 0."""
    return min(exit_codes, key=_EXIT_ORDER.index, default=0)


@dataclass(frozen=True)
class Outcome:
    """How one node ended: its state, rows, seconds, and the sentence that says why where it did not succeed."""

    node: str
    state: str
    rows_in: int | None = None
    rows_out: int | None = None
    rows_quarantined: int = 0
    rows_dropped: int = 0
    seconds: float = 0.0
    error: str | None = None
    notes: tuple[str, ...] = ()
    exit_code: int = 0
    is_gate_refusal: bool = False

    @classmethod
    def of(cls, node: str, state: str, result: StepResult, seconds: float, error: Exception | None, message: str | None) -> Outcome:
        """Return how a node that ran ended: with this result, or with an error and its message."""
        return cls(
            node,
            state,
            rows_in=result.rows_in,
            rows_out=result.rows_out,
            rows_quarantined=result.rows_quarantined,
            rows_dropped=result.rows_dropped,
            seconds=seconds,
            error=message,
            notes=tuple(redact(note) for note in result.notes),
            exit_code=0 if error is None else getattr(error, "exit_code", 1),
            is_gate_refusal=isinstance(error, GateRefused),
        )

    def to_json(self) -> dict[str, object]:
        """Return what ``run --json`` shows of a node."""
        shown = asdict(self)
        for name in ("notes", "exit_code", "is_gate_refusal"):
            del shown[name]
        return {**shown, "seconds": round(self.seconds, 3)}


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended."""

    run_id: str
    state: str
    steps: tuple[Outcome, ...]
    champion: int | None

    @classmethod
    def of_nothing(cls) -> RunOutcome:
        """Return the outcome of a run that had nothing to do and never began."""
        return cls("", "SUCCEEDED", (), None)

    @property
    def exit_code(self) -> int:
        """The exit code of the run: that of its nodes' which takes precedence, in the order 2, 1, 3, 0."""
        return choose_exit_code(step.exit_code for step in self.steps)

    def to_json(self) -> dict[str, object]:
        """Return what ``run --json`` ends with."""
        return {
            "run_id": self.run_id or None,
            "state": self.state,
            "steps": [step.to_json() for step in self.steps],
            "champion": self.champion,
            "exit_code": self.exit_code,
        }
