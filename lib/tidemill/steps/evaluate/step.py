"""The step evaluate: metrics of the candidate on the test rows, the baseline, and the gates."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.errors import GateRefused, StepError, TidemillError
from tidemill.evaluation.gates import Gate, GateResult, default_gate, parse_gate
from tidemill.lake.ops import MetricRow
from tidemill.model_registry import Deployments, load_model
from tidemill.steps.evaluate.evaluator import Evaluator, Metrics
from tidemill.steps.evaluate.unsupervised import describe_clusters
from tidemill.steps.result import StepContext, StepResult
from tidemill.tasks import METRICS, Metric

logger = logging.getLogger(__name__)

BASELINE_VERSION = 0


@dataclass(frozen=True)
class _Champion:
    version: int
    metrics: Metrics


def evaluate(context: StepContext) -> StepResult:
    """Measure the candidate on the labelled test rows and let the gates decide: CHALLENGER, or REJECTED.

    Writes ``ops.metrics``: the candidate, the constant baseline (of a recommendation, the popular items) as version 0 and, where a gate
    needs it, the champion on the same rows. Safe to repeat.

    Raises:
        GateRefused: a gate is not passed; all such gates are named.
        StepError: there are no labelled test rows, or a binary label has a value that is not in the training rows.
    """
    pipeline = context.spec.pipeline
    version = context.inputs[pipeline.model_name]
    model, manifest = load_model(context.lake, context.pipeline, version)
    dataset = context.lake.read(context.spark, pipeline.dataset_table, context.inputs[pipeline.dataset_table])
    gates = _parse_gates(context)
    evaluator: Evaluator = pipeline.task.load("evaluator")(context, dataset, _list_own_metrics(context, gates))
    rows = evaluator.count_rows(manifest)
    deployments = Deployments(context.lake.ledger, context.pipeline)

    metrics = evaluator.measure(model, manifest)
    baseline = evaluator.baseline(manifest)
    slices = evaluator.measure_slices(model, manifest)
    champion = _measure_champion(context, deployments, evaluator, version) if any(gate.needs_champion for gate in gates) else None
    metrics_by_version = {version: metrics, BASELINE_VERSION: baseline} | ({champion.version: champion.metrics} if champion else {})
    _record(context, metrics_by_version, version, slices)
    results = [gate.evaluate(metrics, baseline, champion.metrics if champion else None) for gate in gates]
    for result in results:
        logger.info("model %d of %s: gate %s", version, context.pipeline, result.sentence)
    remarks = evaluator.compare(metrics, champion.metrics) if champion else ()
    notes = _decide(context, deployments, version, results, _build_evidence(results, metrics, baseline, champion), remarks)
    return StepResult(outputs={pipeline.model_name: version}, rows_in=rows, rows_out=rows, notes=(*notes, *describe_clusters(slices)))


def _parse_gates(context: StepContext) -> list[Gate]:
    pipeline = context.spec.pipeline
    declared = pipeline.evaluation.gates
    texts = [default_gate(pipeline.selection_metric)] if declared is None else declared
    gates = [parse_gate(text, pipeline.task) for text in texts]
    slice_gates = [gate.text for gate in gates if gate.needs_slices]
    if slice_gates:
        raise StepError(
            f"evaluation.gates: metrics of slices are not built yet, found {'; '.join(slice_gates)}; gate the metrics of all rows"
        )
    return gates


def _list_own_metrics(context: StepContext, gates: Sequence[Gate]) -> list[Metric]:
    """Return the metrics that are computed besides the built-in ones: those of the spec, and those of gates with a dotted path."""
    gate_metrics = [METRICS.get(reference.metric) for gate in gates for reference in gate.references]
    return list({metric.name: metric for metric in (*gate_metrics, *context.spec.pipeline.own_metrics) if not metric.is_built_in}.values())


def _measure_champion(context: StepContext, deployments: Deployments, evaluator: Evaluator, candidate: int) -> _Champion | None:
    """Measure the champion on the test rows of the candidate."""
    version = deployments.champion()
    if version == candidate:  # a repeat: the champion is compared with its predecessor
        version = deployments.champion_before(candidate)
    if version is None:
        return None
    try:
        model, manifest = load_model(context.lake, context.pipeline, version)
        return _Champion(version, evaluator.measure(model, manifest))
    except TidemillError as error:
        raise StepError(
            f"evaluation.gates: champion {version} cannot be measured on the new test rows ({error}); leave `champion` out once"
        ) from error


def _record(context: StepContext, metrics_by_version: Mapping[int, Metrics], candidate: int, slices: Sequence[Mapping[str, Any]]) -> None:
    run = context.run_columns
    rows = [
        MetricRow(**run, split="test", model_version=version, metric=metric, value=value if math.isfinite(value) else None)
        for version, metrics in metrics_by_version.items()
        for metric, value in metrics.items()
    ]
    rows += [MetricRow(**run, model_version=candidate, **row) for row in slices]
    context.lake.ledger.put(MetricRow, rows, where=run)


def _build_evidence(results: list[GateResult], metrics: Metrics, baseline: Metrics, champion: _Champion | None) -> dict[str, object]:
    against = dataclasses.asdict(champion) if champion else None
    return {"gates": [dataclasses.asdict(result) for result in results], "metrics": metrics, "baseline": baseline, "champion": against}


def _decide(
    context: StepContext,
    deployments: Deployments,
    version: int,
    results: list[GateResult],
    evidence: dict[str, object],
    remarks: tuple[str, ...],
) -> tuple[str, ...]:
    """Record the new state and return the notes; a version that is or was champion keeps its state.

    ``remarks`` are notes on the comparison with the champion.
    """
    failed_gates = [result.sentence for result in results if not result.passed]
    state = deployments.state(version)
    if failed_gates:
        reason = "; ".join((*failed_gates, *remarks))
        if state not in ("CHAMPION", "RETIRED"):
            deployments.move(version, "REJECTED", run_id=context.run_id, reason=reason, evidence=evidence)
        raise GateRefused(f"model {version} of {context.pipeline} was refused by {len(failed_gates)} of {len(results)} gates: {reason}")
    if state in ("CHAMPION", "RETIRED"):
        return (f"model {version} is {state} already and stays so", *remarks)
    deployments.move(version, "CHALLENGER", run_id=context.run_id, reason=f"passed {len(results)} gates", evidence=evidence)
    return (*(result.sentence for result in results if result.left is None), *remarks)
