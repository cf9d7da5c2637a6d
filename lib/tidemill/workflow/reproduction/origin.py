"""The origin of a model version: the steps that made it, from bronze on, with the table versions that each has read and written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tidemill.errors import StepError, UsageError, did_you_mean
from tidemill.lake import Lake
from tidemill.lake.ops import StepRow
from tidemill.model_registry import Deployments
from tidemill.model_registry.manifest import model_folder
from tidemill.model_registry.versions import ORIGIN, saved_versions
from tidemill.spec import Spec
from tidemill.workflow.graph import Node, build_graph
from tidemill.workflow.states import DONE, SUCCEEDED

_REPLAYED = ("prepare", "dataset", "train")


@dataclass(frozen=True)
class MadeStep:
    """One step that made a part of a model: its node, the run that did it, its fingerprint, and its tables with their versions."""

    node: Node
    run_id: str
    fingerprint: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True)
class Origin:
    """All that a model version was made of.

    ``steps`` come in the order of the graph, the last one is train. ``pinned`` are the tables that none of these steps wrote, with the
    version that was read: those of bronze, and those of other pipelines.
    """

    pipeline: str
    model_version: int
    run_id: str
    steps: tuple[MadeStep, ...]
    pinned: Mapping[str, int]

    @property
    def written_versions(self) -> dict[str, int]:
        """The version of each table that the steps wrote."""
        return {name: version for step in self.steps for name, version in step.outputs.items() if not name.startswith("models.")}


def find_version(spec: Spec, lake: Lake, *, run_id: str | None = None, version: int | None = None) -> int:
    """Return the model version that is named: by its number, or as the one that a run trained or reused; by default the champion.

    Raises:
        UsageError: there is no such version or run, or the run has no model.
    """
    name, model = spec.pipeline.pipeline, spec.pipeline.model_name
    if run_id is not None and version is not None:
        raise UsageError(f"--run {run_id} and --version {version}: give one of the two")
    if run_id is not None:
        rows = lake.ledger.read(StepRow, pipeline=name, run_id=run_id)
        if not rows:
            known = sorted({str(row.run_id) for row in lake.ledger.read(StepRow, pipeline=name)})
            raise UsageError(
                f"{name} has no run {run_id} in {lake.root}{did_you_mean(run_id, known)}; `tidemill status {spec.file}` shows runs"
            )
        trained = [row.outputs[model] for row in rows if row.state in DONE and row.outputs and model in row.outputs]
        if not trained:
            raise UsageError(f"run {run_id} of {name} has no model: its step train did not succeed; name another run, or a --version")
        return int(trained[-1])
    versions = saved_versions(lake, name)
    if version is None:
        champion = Deployments(lake.ledger, name).champion()
        if champion is None and not versions:
            raise UsageError(f"{name} has no model in {lake.root} yet; `tidemill run {spec.file}` trains one")
        return champion if champion is not None else versions[-1]
    if version not in versions:
        known_versions = ", ".join(map(str, versions)) or "none"
        raise UsageError(f"{name} has no model version {version} in {lake.root}; there are {known_versions}")
    return version


def trace_origin(spec: Spec, lake: Lake, version: int) -> Origin:
    """Return what a model version was made of, from the ledger and, where its rows are gone, from the commits of the tables.

    Raises:
        StepError: it is not known which step made the version.
    """
    graph, model = build_graph(spec), spec.pipeline.model_name
    writers = _find_writers(lake.ledger.read(StepRow))
    trained = writers.get((model, version))
    if trained is None:
        name = f"model {version} of {spec.pipeline.pipeline}"
        if ORIGIN in lake.file_sizes(model_folder(spec.pipeline.pipeline, version)):
            raise StepError(
                f"{name} was copied into {lake.root}, which lacks the tables it was made of; replay it in the lake it comes from"
            )
        raise StepError(f"ops.steps of {lake.root} does not say which run made {name}; it cannot be traced")
    steps: dict[str, MadeStep] = {}
    pinned: dict[str, int] = {}
    waiting = [(model, version)]
    while waiting:
        table, at = waiting.pop()
        writer = graph.writer(table)
        node = graph[writer] if writer else None
        row = writers.get((table, at)) or (
            _row_of_commit(lake, table, at) if node is not None and not table.startswith("models.") else None
        )
        if node is None or node.step not in _REPLAYED or row is None or row.node != node.name:
            pinned[table] = at
            continue
        if node.name not in steps:
            steps[node.name] = _made_step(node, row)
            waiting += (row.inputs or {}).items()
    ordered = tuple(steps[node.name] for node in graph.nodes if node.name in steps)
    return Origin(spec.pipeline.pipeline, version, str(trained.run_id), ordered, pinned)


def _find_writers(rows: Iterable[StepRow]) -> dict[tuple[str, int], StepRow]:
    """Return the step that wrote each version of a table; a step that was skipped names what an earlier one wrote."""
    writers: dict[tuple[str, int], StepRow] = {}
    for row in rows:
        for written in (row.outputs or {}).items() if row.state in DONE else ():
            if written not in writers or (row.state == SUCCEEDED and writers[written].state != SUCCEEDED):
                writers[written] = row
    return writers


def _row_of_commit(lake: Lake, table: str, version: int) -> StepRow | None:
    for meta in lake.metadata(table, limit=None):
        inputs = meta.get("inputs")
        if meta["version"] == version and meta.get("node") and isinstance(inputs, Mapping):
            known = {str(name): int(str(number)) for name, number in inputs.items()}
            return StepRow(node=str(meta["node"]), run_id=str(meta.get("run_id")), inputs=known, outputs={table: version})
    return None


def _made_step(node: Node, row: StepRow) -> MadeStep:
    return MadeStep(node, str(row.run_id), str(row.fingerprint or ""), dict(row.inputs or {}), dict(row.outputs or {}))
