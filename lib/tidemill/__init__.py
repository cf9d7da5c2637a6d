"""Production machine learning on Apache Spark, Delta Lake and Spark MLlib, from one declared pipeline.

    import tidemill as tm

    pipeline = tm.load("conf/flight_delays/pipeline.yml")
    outcome = pipeline.run()
    print(outcome.state, pipeline.champion())

Names load on first use: ``import tidemill`` imports neither Spark nor pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidemill.runtime.lazy_exports import export_lazily
from tidemill.version import VERSION

if TYPE_CHECKING:
    from tidemill.errors import (
        ApprovalRequired,
        ChangedMeanwhile,
        ExpectationRefused,
        GateRefused,
        LakeError,
        RefusedError,
        SetupError,
        SourceError,
        SpecError,
        StepError,
        TableNotFound,
        TidemillError,
        UsageError,
    )
    from tidemill.pipeline import CheckResult, Pipeline, RunOutcome, RunStatus, load

__version__ = VERSION
__all__ = [
    "ApprovalRequired",
    "ChangedMeanwhile",
    "CheckResult",
    "ExpectationRefused",
    "GateRefused",
    "LakeError",
    "Pipeline",
    "RefusedError",
    "RunOutcome",
    "RunStatus",
    "SetupError",
    "SourceError",
    "SpecError",
    "StepError",
    "TableNotFound",
    "TidemillError",
    "UsageError",
    "__version__",
    "load",
]

__getattr__ = export_lazily(
    __name__,
    {
        "errors": (
            "ApprovalRequired",
            "ChangedMeanwhile",
            "ExpectationRefused",
            "GateRefused",
            "LakeError",
            "RefusedError",
            "SetupError",
            "SourceError",
            "SpecError",
            "StepError",
            "TableNotFound",
            "TidemillError",
            "UsageError",
        ),
        "pipeline": ("CheckResult", "Pipeline", "RunOutcome", "RunStatus", "load"),
    },
)
