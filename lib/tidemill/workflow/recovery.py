"""Compares the lake with the ledger: repairs damage from a power failure or a lost folder, and records what each step wrote."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence

from tidemill.errors import StepError
from tidemill.lake import Lake
from tidemill.lake.ops import OPS_TABLES
from tidemill.lake.repair import RecordedVersion, find_table_fault, list_outputs
from tidemill.model_registry.deployments import Deployments
from tidemill.model_registry.evaluations import record_evaluation
from tidemill.model_registry.manifest import model_fault
from tidemill.model_registry.model_card import list_changed_versions, repair_cards, write_cards
from tidemill.model_registry.versions import record_states, restore_states
from tidemill.steps.result import StepResult
from tidemill.workflow.graph import Graph, Node
from tidemill.workflow.states import States

logger = logging.getLogger(__name__)

_WITH_QUARANTINE = ("bronze", "silver")
_MODEL_STEPS = ("train", "evaluate", "deploy")
# States of a model in which a step that has succeeded does not leave it.
_LEFT_BEHIND = {"evaluate": (None, "CANDIDATE"), "deploy": (None, "CANDIDATE", "CHALLENGER")}


class Recovery:
    """Checks and repairs for a run on a lake that may have been damaged since the last run."""

    def __init__(self, lake: Lake, pipeline: str, graph: Graph, states: States) -> None:
        """Keep lake, pipeline and history; reads and writes nothing."""
        self._lake, self._pipeline, self._graph, self._states = lake, pipeline, graph, states
        self._floors: Mapping[str, int] = {}
        self._remarks: dict[str, tuple[str, ...]] = {}
        self._written: dict[str, RecordedVersion] = {}

    def repair(self, nodes: Sequence[Node], run_id: str) -> None:
        """Repair what the run depends on: the ledger, the tables that it will write, the states of the models.

        Damaged tables become readable, and their losses are marked, so that their step writes them again. A champion that is no longer
        usable becomes RETIRED where the run trains another one.
        """
        remarks = [remark for table in OPS_TABLES for remark in self._repair_table(table)]
        self._states.refresh()
        self._floors = self._states.history.greatest_versions
        remarks += restore_states(self._lake, self._pipeline)
        repair_cards(self._lake, self._pipeline)
        if any(node.step == "train" for node in nodes):
            remarks += self._retire_lost_champion(run_id)
        for node in nodes:
            self._remarks[node.name] = tuple(remark for table in self._tables(node) for remark in self._repair_table(table))
        for remark in remarks:
            logger.warning("%s", remark)
        if nodes and remarks:
            self._remarks[nodes[0].name] = (*remarks, *self._remarks[nodes[0].name])

    def faults(self, node: Node, inputs: Mapping[str, int], outputs: Mapping[str, RecordedVersion]) -> list[str]:
        """Return how the outputs of a node are missing or damaged, one sentence for each."""
        faults = [fault for name, recorded in outputs.items() if (fault := self._fault(name, recorded))]
        version = inputs.get(f"models.{self._pipeline}")
        if version is not None and node.step in _LEFT_BEHIND:
            state = Deployments(self._lake.ledger, self._pipeline).state(version)
            if state in _LEFT_BEHIND[node.step]:
                faults.append(f"model {version} is {state or 'unknown'} in ops.deployments")
        return faults

    def refuse_faults(self, node: Node, inputs: Mapping[str, int]) -> None:
        """Check that the tables that a node reads are as the ledger recorded them.

        Raises:
            StepError: one lost a version, rows or files.
        """
        known = {**self._states.history.outputs, **self._written}
        for table, version in inputs.items():
            recorded = known.get(table)
            if recorded is None or not _is_table(table):
                continue
            fault = find_table_fault(self._lake, table, recorded if recorded.version >= version else RecordedVersion(version))
            if fault:
                writer = self._graph.writer(table)
                remedy = f"run {writer} first" if writer else "run the pipeline that writes it first"
                raise StepError(f"{node.name} reads {table}: {fault}; {remedy}: it recreates what is lost")

    def versions(self, node: Node) -> dict[str, int | None]:
        """Return the versions of the tables that a node writes, before it does."""
        return {table: self._lake.version(table) for table in self._tables(node)}

    def complete_result(
        self, node: Node, result: StepResult, before: Mapping[str, int | None], last: Mapping[str, RecordedVersion]
    ) -> StepResult:
        """Return a node's result with its quarantine among the outputs, with the rows that each table holds, and with remarks.

        A table that was recreated, or whose lost rows were written again, gets a version greater than all before, so that its readers
        see the change. ``last`` are the outputs of the node's last good run.
        """
        outputs, rows = self._with_quarantine(result.outputs), dict[str, int]()
        for name, version in outputs.items():
            if not _is_table(name):
                continue
            floor = self._floors.get(name, -1)
            if self._lake.is_lost_since(name, version):
                outputs[name] = self._lake.pad(name, max(version, floor))
            elif version <= floor and before.get(name) != version:
                outputs[name] = self._lake.pad(name, floor)
            count = self._lake.rows(name, outputs[name])
            if count is not None:
                rows[name] = count
        self._written |= {name: RecordedVersion(version, rows.get(name)) for name, version in outputs.items()}
        remarks = self._remarks.get(node.name, ())
        for name, recorded in last.items() if remarks else ():
            if recorded.rows is not None and rows.get(name, recorded.rows) < recorded.rows:
                remarks = (*remarks, f"{name} holds {rows[name]:,} rows now, {recorded.rows:,} before it was damaged")
        return dataclasses.replace(result, outputs=outputs, output_rows=rows, notes=(*remarks, *result.notes))

    def record_models(self, node: Node, inputs: Mapping[str, int], run_id: str) -> None:
        """Write states, evaluations and cards of the model versions into their folders, after a node that may have changed them."""
        if node.step not in _MODEL_STEPS:
            return
        version = inputs.get(f"models.{self._pipeline}")
        if node.step == "evaluate" and version is not None:
            record_evaluation(self._lake, self._pipeline, version, run_id)
        record_states(self._lake, self._pipeline)
        changed = {*list_changed_versions(self._lake, self._pipeline), *([version] if version is not None else [])}
        write_cards(self._lake, self._pipeline, sorted(changed))

    def reuse_result(self, node: Node, outputs: Mapping[str, RecordedVersion]) -> StepResult:
        """Return the result of a node that is up to date."""
        self._written |= outputs
        rows = {name: recorded.rows for name, recorded in outputs.items() if recorded.rows is not None}
        versions = {name: recorded.version for name, recorded in outputs.items()}
        return StepResult(versions, output_rows=rows, notes=self._remarks.get(node.name, ()))

    def _tables(self, node: Node) -> list[str]:
        """Return the tables that a node writes, by the graph and by its last good run, with their quarantine."""
        last = self._states.last_good(node.name)
        names = [name for name in dict.fromkeys((node.writes, *list_outputs(last))) if _is_table(name)]
        beside = [f"{name}_quarantine" for name in names if name.partition(".")[0] in _WITH_QUARANTINE and not name.endswith("_quarantine")]
        return list(dict.fromkeys((*names, *beside)))

    def _with_quarantine(self, outputs: Mapping[str, int]) -> dict[str, int]:
        names = [f"{name}_quarantine" for name in outputs if name.partition(".")[0] in _WITH_QUARANTINE]
        return {**{name: version for name in names if (version := self._lake.version(name)) is not None}, **outputs}

    def _repair_table(self, table: str) -> list[str]:
        """Make one table readable again; return a remark where it was damaged."""
        faults = self._lake.repair(table, self._floors.get(table, -1))
        if not faults:
            return []
        more = f" (and {len(faults) - 1} more files)" if len(faults) > 1 else ""
        return [f"{table} was damaged: {faults[0]}{more}; damaged files are kept in {self._lake.root}/.damaged/{table}"]

    def _retire_lost_champion(self, run_id: str) -> list[str]:
        deployments = Deployments(self._lake.ledger, self._pipeline)
        champion = deployments.champion()
        fault = None if champion is None else model_fault(self._lake, self._pipeline, champion)
        if champion is None or not fault:
            return []
        deployments.move(champion, "RETIRED", run_id=run_id, reason=fault)
        record_states(self._lake, self._pipeline)
        return [f"{fault}; it was champion and is RETIRED"]

    def _fault(self, name: str, recorded: RecordedVersion) -> str | None:
        if _is_table(name):
            return find_table_fault(self._lake, name, recorded)
        return model_fault(self._lake, name.partition(".")[2], recorded.version)


def _is_table(name: str) -> bool:
    return bool(name) and not name.startswith("models.")
