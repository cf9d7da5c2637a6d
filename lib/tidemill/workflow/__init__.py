"""Order, states and resumption: what runs, when, and why not."""

from tidemill.runtime.session import LazySpark
from tidemill.workflow.graph import STEPS, Graph, Node, build_graph
from tidemill.workflow.outcome import Outcome, RunOutcome
from tidemill.workflow.runner import Runner, new_run_id

__all__ = ["STEPS", "Graph", "LazySpark", "Node", "Outcome", "RunOutcome", "Runner", "build_graph", "new_run_id"]
