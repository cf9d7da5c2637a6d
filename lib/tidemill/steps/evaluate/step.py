"""The step evaluate: metrics of the candidate on the test rows, the baseline, and the gates."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidemill.errors import GateRefused, StepError, TidemillError
from tidemill.evaluation import Measurement, SliceMeasurement
from tidemill.evaluation.gates import Gate, GateResult, default_gate, parse_gate
from tidemill.lake.ops import MetricRow
from tidemill.model_registry import Deployments, load_model
from tidemill.steps.evaluate.evaluator import Evaluator
from tidemill.steps.evaluate.unsupervised import describe_clusters
from tidemill.steps.result import StepContext, StepResult
from tidemill.tasks import METRICS, Metric

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel

    from tidemill.model_registry import Manifest

logger = logging.getLogger(__name__)

BASELINE_VERSION = 0


@dataclass(frozen=True)
class Comparison:
    """The champion and the candidate, measured on the test rows that the champion was not trained on."""

    version: int
    champion: Measurement
    candidate: Measurement


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
    needs_champion = any(gate.needs_champion for gate in gates)
    against = _compare_with_champion(context, deployments, evaluator, (model, manifest), metrics) if needs_champion else None
    measurements = {version: metrics, BASELINE_VERSION: baseline} | ({against.version: against.champion} if against else {})
    _record(context, measurements, version, slices)
    results = [gate.evaluate(metrics.values, baseline.values, against.champion.values if against else None) for gate in gates]
    for result in results:
        logger.info("model %d of %s: gate %s", version, context.pipeline, result.sentence)
    remarks = evaluator.compare(metrics.values, against.champion.values) if against else ()
    notes = _decide(context, deployments, version, results, _build_evidence(results, metrics, baseline, against), remarks)
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


def _compare_with_champion(
    context: StepContext,
    deployments: Deployments,
    evaluator: Evaluator,
    candidate: tuple[PipelineModel, Manifest],
    metrics: Measurement,
) -> Comparison | None:
    """Measure the champion, and the candidate again where the champion was trained on some of the test rows; None without a champion."""
    model, manifest = candidate
    version = deployments.champion()
    if version == manifest.version:  # a repeat: the champion is compared with its predecessor
        version = deployments.champion_before(manifest.version)
    if version is None:
        return None
    try:
        champion, champion_manifest = load_model(context.lake, context.pipeline, version)
        fresh = evaluator.without_training_rows(champion_manifest)
        same_rows = metrics if fresh is evaluator else fresh.measure(model, manifest)
        return Comparison(version, fresh.measure(champion, champion_manifest), same_rows)
    except TidemillError as error:
        raise StepError(
            f"evaluation.gates: champion {version} cannot be measured on the new test rows ({error}); leave `champion` out once"
        ) from error


def _record(
    context: StepContext, measurements: Mapping[int, Measurement], candidate: int, further_rows: Sequence[Mapping[str, Any]]
) -> None:
    run = context.run_columns
    rows = [row for version, measured in measurements.items() for row in _list_metric_rows(context, version, measured)]
    rows += [MetricRow(**run, model_version=candidate, **row) for row in further_rows]
    context.lake.ledger.put(MetricRow, rows, where=run)


def _list_metric_rows(context: StepContext, version: int, measured: Measurement) -> Iterator[MetricRow]:
    """Yield the metrics of all rows and of the slices."""
    least = context.spec.pipeline.evaluation.min_slice_rows
    whole = SliceMeasurement(measured.rows, measured.estimates)
    for name, part in ((None, whole), *measured.slices.items()):
        for metric, estimate in part.estimates.items():
            lower, upper = estimate.interval or (None, None)
            yield MetricRow(
                **context.run_columns,
                split="test",
                model_version=version,
                slice=name,
                metric=metric,
                value=estimate.value if math.isfinite(estimate.value) else None,
                lower=lower,
                upper=upper,
                rows=part.rows or None,
                is_small=None if name is None else part.rows < least,
            )


def _build_evidence(
    results: list[GateResult], metrics: Measurement, baseline: Measurement, against: Comparison | None
) -> dict[str, object]:
    champion = {"version": against.version, "metrics": against.champion.values} if against else None
    gates = [dataclasses.asdict(result) for result in results]
    return {"gates": gates, "metrics": metrics.values, "baseline": baseline.values, "champion": champion}


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
