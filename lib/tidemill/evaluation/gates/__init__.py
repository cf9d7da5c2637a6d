"""Gates: the conditions that a candidate must meet. Texts of the spec come in, results leave; parsing needs neither Spark nor numpy.

A gate is one comparison (``>``, ``>=``, ``<``, ``<=``, ``==``) of two sides made of metrics, costs, numbers, ``+ - * /``, brackets and the
functions of `GATE_FUNCTIONS`, such as ``lower(areaUnderPR - champion.areaUnderPR) > -0.01`` or
``min(slices[carrier, origin].areaUnderROC) >= 0.6``. The grammar may only be extended.
"""

from tidemill.evaluation.gates.expressions import MetricReference
from tidemill.evaluation.gates.functions import GATE_FUNCTIONS, GateFunction
from tidemill.evaluation.gates.gate import Gate, GateResult, Measured, default_gates, list_few
from tidemill.evaluation.gates.grammar import COSTS, parse_gate

__all__ = [
    "COSTS",
    "GATE_FUNCTIONS",
    "Gate",
    "GateFunction",
    "GateResult",
    "Measured",
    "MetricReference",
    "default_gates",
    "list_few",
    "parse_gate",
]
