"""Metrics in one pass, the constant baseline and the gates; names load on first use, so that gates need no Spark."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidemill.evaluation.baseline import baseline_metrics, constant_predictions
    from tidemill.evaluation.gates import Gate, GateResult, default_gate, parse_gate
    from tidemill.evaluation.metrics import compute_metrics, is_better

__all__ = [
    "Gate",
    "GateResult",
    "baseline_metrics",
    "compute_metrics",
    "constant_predictions",
    "default_gate",
    "is_better",
    "parse_gate",
]

_HOMES = {
    "baseline": ("baseline_metrics", "constant_predictions"),
    "gates": ("Gate", "GateResult", "default_gate", "parse_gate"),
    "metrics": ("compute_metrics", "is_better"),
}


def __getattr__(name: str) -> Any:
    """Import the module that defines ``name`` when it is first asked for."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"tidemill.evaluation.{module}"), name)
    raise AttributeError(f"module 'tidemill.evaluation' has no attribute {name!r}")
