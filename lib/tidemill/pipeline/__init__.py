"""The Python interface: one pipeline and its lake, as an object.

    import tidemill as tm

    pipeline = tm.load("conf/flight_delays/pipeline.yml")
    pipeline.run()
    pipeline.trials().head()
    pipeline.sql("SELECT count(*) FROM gold.flight_delays_predictions")

The commands use the same methods. Importing this module imports neither Spark nor pandas; a method starts Spark only where its docstring
says so.
"""

from __future__ import annotations

from tidemill.pipeline.pipeline import CheckResult, Pipeline, load
from tidemill.workflow import RunOutcome
from tidemill.workflow.states import RunStatus

__all__ = ["CheckResult", "Pipeline", "RunOutcome", "RunStatus", "load"]
