"""How nodes and runs ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from tidemill.errors import GateRefused
from tidemill.redaction import redact
from tidemill.steps.result import StepResult

_EXIT_ORDER = (2, 1, 3, 0)


def weightiest(exit_codes: Iterable[int]) -> int:
    """Return the exit code that counts where several apply: 2 before 1 before 3 before 0."""
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
    def of(cls, node: str, state: str, result: StepResult, seconds: float, error: Exception | None, told: str | None) -> Outcome:
        """Return how a node ended that was tried: with this result, or with an error, told in one sentence."""
        return cls(
            node,
            state,
            rows_in=result.rows_in,
            rows_out=result.rows_out,
            rows_quarantined=result.rows_quarantined,
            rows_dropped=result.rows_dropped,
            seconds=seconds,
            error=told,
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
        """Return how a run ends that had nothing to do, and so never began."""
        return cls("", "SUCCEEDED", (), None)

    @property
    def exit_code(self) -> int:
        """The exit code of the run: the weightiest of its nodes', in the order 2, 1, 3, 0."""
        return weightiest(step.exit_code for step in self.steps)

    def to_json(self) -> dict[str, object]:
        """Return what ``run --json`` ends with."""
        return {
            "run_id": self.run_id or None,
            "state": self.state,
            "steps": [step.to_json() for step in self.steps],
            "champion": self.champion,
            "exit_code": self.exit_code,
        }
