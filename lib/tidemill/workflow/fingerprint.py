"""Fingerprints: hashes of what a node's result depends on, in three parts, so that a message can name what changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tidemill.errors import Fault, SpecError
from tidemill.evaluation.gates import GATE_FUNCTIONS, parse_gate
from tidemill.extensions import search_beside
from tidemill.monitoring.methods import DRIFT_METHODS
from tidemill.quality.expectations.kinds import EXPECTATION_KINDS
from tidemill.sources.files.listing import list_source_files
from tidemill.spec import Spec
from tidemill.spec.models import SOURCE_KINDS, Block, Expectation, Features
from tidemill.tasks import METRICS
from tidemill.version import VERSION
from tidemill.workflow.graph import Node
from tidemill.workflow.states import SHARED_STEPS, States

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


PARTS = {"spec": "its part of the spec changed", "code": "its SQL or Python changed", "data": "what it reads changed"}


def fingerprint_node(spec: Spec, node: Node, inputs: Mapping[str, int], spark: SparkSession | None = None) -> str:
    """Return ``spec=… code=… data=…``: hashes of the node's part of the spec, of its SQL and Python, and of what it reads.

    Args:
        spec: the loaded spec.
        node: the node.
        inputs: the version of each table (or model) it reads.
        spark: only needed to list the files of a source that is not on this machine's file system.
    """
    data: object = dict(inputs)
    if node.step == "ingest":
        source = spec.pipeline.sources[node.item]
        data = [] if source.always_poll else [(file.path, file.size, str(file.modified_at)) for file in list_source_files(source, spark)]
    return f"{fingerprint_definition(spec, node)} data={_hash(data)}"


def fingerprint_definition(spec: Spec, node: Node) -> str:
    """Return the parts of a node's fingerprint that do not depend on its inputs: ``spec=… code=…``."""
    return f"spec={_hash(_spec_part(spec, node))} code={_hash([VERSION, *_code(spec, node)])}"


def is_defined_alike(before: str, now: str) -> bool:
    """Return True where two fingerprints have the same definition: two pipelines that share a table must agree on it."""
    return before.partition(" data=")[0] == now.partition(" data=")[0]


def list_changed_parts(before: str, now: str) -> list[str]:
    """Return which parts differ between two fingerprints, as sentences for people."""
    old, new = (dict(part.split("=", 1) for part in text.split()) for text in (before, now))
    return [sentence for part, sentence in PARTS.items() if old.get(part) != new.get(part)]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _dump(block: Block | str | None) -> object:
    return block.model_dump(mode="json", by_alias=True) if isinstance(block, Block) else block


def _spec_part(spec: Spec, node: Node) -> object:
    pipeline, item = spec.pipeline, node.item
    training = pipeline.training
    part: object = {
        "ingest": lambda: _dump(pipeline.sources[item]),
        "prepare": lambda: _dump(pipeline.tables[item]),
        "dataset": lambda: [_dump(pipeline.dataset), training.folds, training.task, _checked_columns(pipeline.features)],
        "train": lambda: [_dump(training), _dump(pipeline.features), _dump(pipeline.dataset)],
        "evaluate": lambda: [_without_approval(_dump(pipeline.evaluation)), training.task, pipeline.selection_metric],
        "deploy": lambda: None,
        "score": lambda: [_dump(pipeline.scoring), pipeline.dataset.key, _dump(pipeline.features), training.at],
        "monitor": lambda: [_dump(pipeline.monitoring), pipeline.dataset.key, _dump(pipeline.scoring)],
    }[node.step]()
    return part


def _without_approval(evaluation: object) -> object:
    """Return the block `evaluation` without who approves: that changes no metric and no gate."""
    assert isinstance(evaluation, dict)
    return {name: value for name, value in evaluation.items() if name not in ("approval", "approvers", "author_may_approve")}


def _checked_columns(features: Features | str) -> object:
    """Return what the dataset's checks depend on: the checks and the columns they read."""
    if isinstance(features, str):
        return features
    return [_dump(features.checks), "auto" if features.is_open else sorted(features.columns)]


def _code(spec: Spec, node: Node) -> list[str]:
    pipeline, item = spec.pipeline, node.item
    if node.step == "ingest":
        source = pipeline.sources[item]
        own = spec.extension_code(SOURCE_KINDS, source.format)
        return own + _kinds(spec, source.expectations) + ([spec.schema_text(source.schema_)] if source.schema_ else [])
    if node.step == "prepare":
        table = pipeline.tables[item]
        return ([spec.sql_text(table.sql)] if table.sql else spec.code(table.python or "")) + _kinds(spec, table.expectations)
    if node.step == "dataset":
        return [*([spec.sql_text(pipeline.dataset.sql)] if pipeline.dataset.sql else []), *spec.task_declaration()]
    if node.step == "train":
        return spec.training_code()
    if node.step == "evaluate":
        return [*spec.task_code(), *_gate_code(spec)]
    drift = pipeline.monitoring.drift
    own = spec.extension_code(DRIFT_METHODS, drift.method) if node.step == "monitor" and drift else []
    if node.step in ("score", "monitor") and pipeline.scoring.sql:
        return [spec.sql_text(pipeline.scoring.sql), *own]
    return own


def _kinds(spec: Spec, expectations: Mapping[str, Expectation]) -> list[str]:
    """Return the code of the kinds of expectations that are not built in."""
    return spec.extension_code(EXPECTATION_KINDS, *sorted({each.kind for each in expectations.values()}))


def _gate_code(spec: Spec) -> list[str]:
    """Return the code of the metrics and functions of `evaluation` that are not built in."""
    pipeline = spec.pipeline
    with search_beside(spec.folder):
        gates = [parse_gate(gate, pipeline.task, pipeline.evaluation.metrics) for gate in pipeline.evaluation.gates or ()]
    functions = spec.extension_code(GATE_FUNCTIONS, *(name for gate in gates for name in gate.functions))
    declared = [metric.python for metric in pipeline.evaluation.metrics.values() if not isinstance(metric, str)]
    return spec.extension_code(METRICS, *declared, *(name for gate in gates for name in gate.metrics)) + functions


def refuse_shared_names(spec: Spec, nodes: Sequence[Node], states: States) -> None:
    """Refuse a source or table that another pipeline of this lake defines differently.

    Raises:
        SpecError: there is one; all of them are named.
    """
    faults = []
    for node in nodes:
        other = states.last_of_others(node.name) if node.step in SHARED_STEPS else None
        if other is None or is_defined_alike(str(other.fingerprint), fingerprint_definition(spec, node)):
            continue
        key = f"{'sources' if node.step == 'ingest' else 'tables'}.{node.item}"
        message = f"pipeline {other.pipeline} defines {node.writes} of this lake in another way; choose another name, or another lake"
        faults.append(Fault(str(spec.file), None, key, message))
    if faults:
        raise SpecError(faults)
