"""Metrics in one pass, the constant baseline and the gates; names load on first use, so that gates need no Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidemill.runtime.lazy_exports import export_lazily

if TYPE_CHECKING:
    from tidemill.evaluation.baseline import Constant, fit_constant
    from tidemill.evaluation.estimates import Estimate, Measurement, SliceMeasurement
    from tidemill.evaluation.gates import Gate, GateResult, default_gates, parse_gate
    from tidemill.evaluation.metrics import compute_metrics, is_better


__all__ = [
    "Constant",
    "Estimate",
    "Gate",
    "GateResult",
    "Measurement",
    "SliceMeasurement",
    "compute_metrics",
    "default_gates",
    "fit_constant",
    "is_better",
    "parse_gate",
]

__getattr__ = export_lazily(
    __name__,
    {
        "baseline": ("Constant", "fit_constant"),
        "estimates": ("Estimate", "Measurement", "SliceMeasurement"),
        "gates": ("Gate", "GateResult", "default_gates", "parse_gate"),
        "metrics": ("compute_metrics", "is_better"),
    },
)
