"""The eight steps: each reads its pinned inputs, calls the pure packages, commits once, and returns a `StepResult`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from tidemill.steps.result import StepContext, StepResult

__all__ = ["STEP_FUNCTIONS", "StepContext", "StepResult"]


def _step(name: str) -> Callable[[StepContext], StepResult]:
    """Return a function that imports the step on its first call, so that this package imports without Spark."""

    def call(context: StepContext) -> StepResult:
        module = f"tidemill.steps.{name}" if name == "deploy" else f"tidemill.steps.{name}.step"
        return getattr(import_module(module), name)(context)

    return call


STEP_FUNCTIONS: dict[str, Callable[[StepContext], StepResult]] = {
    name: _step(name) for name in ("ingest", "prepare", "dataset", "train", "evaluate", "deploy", "score", "monitor")
}
