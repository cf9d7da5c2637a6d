"""Order, states and resumption of the steps of a pipeline.

In: a loaded spec and the ledger. Out: outcomes of nodes and runs, and their states in ops.runs and ops.steps.
The order of independent nodes and the display may change; states, fingerprints and exit codes are public.
"""

from tidemill.runtime.session import LazySpark
from tidemill.workflow.graph import STEPS, Graph, Node, build_graph
from tidemill.workflow.outcome import Outcome, RunOutcome
from tidemill.workflow.runner import Runner, new_run_id

__all__ = ["STEPS", "Graph", "LazySpark", "Node", "Outcome", "RunOutcome", "Runner", "build_graph", "new_run_id"]
