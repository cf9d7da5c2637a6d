"""Sources and tables that several pipelines of one lake write: all of them define these alike, or none writes them."""

from __future__ import annotations

from collections.abc import Sequence

from tidemill.errors import Fault, SpecError
from tidemill.spec import Spec
from tidemill.workflow.fingerprint import definition, is_defined_alike
from tidemill.workflow.graph import Node
from tidemill.workflow.states import SHARED_STEPS, States


def refuse_shared_names(spec: Spec, nodes: Sequence[Node], states: States) -> None:
    """Refuse a source or table that another pipeline of this lake defines in another way.

    Raises:
        SpecError: there is one; all of them are named.
    """
    faults = []
    for node in nodes:
        other = states.last_of_others(node.name) if node.step in SHARED_STEPS else None
        if other is None or is_defined_alike(str(other["fingerprint"]), definition(spec, node)):
            continue
        key = f"{'sources' if node.step == 'ingest' else 'tables'}.{node.item}"
        message = f"pipeline {other['pipeline']} defines {node.writes} of this lake in another way; choose another name, or another lake"
        faults.append(Fault(str(spec.file), None, key, message))
    if faults:
        raise SpecError(faults)
