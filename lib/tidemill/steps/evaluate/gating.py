"""The gates of the step evaluate: which there are, what they compare, their rows and the new state of the candidate."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidemill.errors import GateRefused, StepError, TidemillError
from tidemill.evaluation import Measurement
from tidemill.evaluation.gates import Gate, GateResult, Measured, default_gates, list_few, parse_gate
from tidemill.lake.ops import GateRow
from tidemill.model_registry import Deployments, load_model
from tidemill.model_registry.sample import check_sample
from tidemill.steps.evaluate.costs import measure_costs
from tidemill.tasks import METRICS, Metric

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

    from tidemill.model_registry import Manifest
    from tidemill.spec.models import Pipeline
    from tidemill.steps.evaluate.evaluator import Evaluator
    from tidemill.steps.result import StepContext

logger = logging.getLogger(__name__)

SAMPLE_GATE = "stored sample"
"""The gate of a candidate that does not predict what it did at training time."""
_DEPLOYED = ("CHAMPION", "RETIRED")


@dataclass(frozen=True)
class Candidate:
    """The candidate with its metrics, and those of the baseline, on all test rows."""

    model: PipelineModel
    manifest: Manifest
    metrics: Measurement
    baseline: Measurement


@dataclass(frozen=True)
class Comparison:
    """The champion and the candidate, measured on the test rows that the champion was not trained on.

    ``baseline`` is None where no gate compares the three.
    """

    manifest: Manifest
    model: PipelineModel
    champion: Measurement
    candidate: Measurement
    baseline: Measurement | None
    rows: int

    @property
    def version(self) -> int:
        """The version of the champion."""
        return self.manifest.version


def parse_declared_gates(pipeline: Pipeline) -> list[Gate] | None:
    """Return the gates of the spec; None where it has none, and the default ones apply."""
    declared = pipeline.evaluation.gates
    return None if declared is None else [parse_gate(text, pipeline.task, pipeline.evaluation.metrics) for text in declared]


def choose_default_gates(pipeline: Pipeline, metrics: Measurement) -> list[Gate]:
    """Return the default gates; they compare values where the selection metric has no interval."""
    metric = pipeline.selection_metric
    estimate = metrics.estimates.get(metric)
    has_intervals = estimate is not None and estimate.draws is not None
    return [parse_gate(text, pipeline.task, pipeline.evaluation.metrics) for text in default_gates(metric, has_intervals=has_intervals)]


def list_own_metrics(pipeline: Pipeline, gates: Sequence[Gate]) -> list[Metric]:
    """Return the metrics that are computed besides the built-in ones: those of the spec, and those of gates with a dotted path."""
    gate_metrics = [METRICS.get(name) for gate in gates for name in gate.metrics]
    declared = [
        dataclasses.replace(METRICS.get(metric.python), name=name, is_built_in=False)
        for name, metric in pipeline.evaluation.metrics.items()
        if not isinstance(metric, str)
    ]
    named = (*gate_metrics, *declared, *pipeline.own_metrics)
    return list({metric.name: metric for metric in named if not metric.is_built_in}.values())


def compare_with_champion(
    context: StepContext, evaluator: Evaluator, candidate: Candidate, rows: int, gates: Sequence[Gate]
) -> Comparison | None:
    """Measure the champion, and the others again where it was trained on some of the ``rows`` test rows.

    None without a champion, or where no gate names it.
    """
    deployments, own = Deployments(context.lake.ledger, context.pipeline), candidate.manifest
    version = deployments.champion() if any(gate.needs_champion for gate in gates) else None
    if version == own.version:  # a repeat: the champion is compared with its predecessor
        version = deployments.champion_before(own.version)
    if version is None:
        return None
    try:
        champion, manifest = load_model(context.lake, context.pipeline, version)
        fresh = evaluator.without_training_rows(manifest)
        measured = fresh.measure(champion, manifest)
        if fresh is evaluator:
            return Comparison(manifest, champion, measured, candidate.metrics, candidate.baseline, rows)
        baseline = fresh.baseline(own) if any(gate.needs_champion and gate.needs_baseline for gate in gates) else None
        return Comparison(manifest, champion, measured, fresh.measure(candidate.model, own), baseline, fresh.count_rows(own))
    except TidemillError as error:
        raise StepError(
            f"evaluation.gates: champion {version} cannot be measured on the new test rows ({error}); "
            "declare `evaluation.gates` without `champion` once"
        ) from error


def evaluate_gates(
    context: StepContext, gates: Sequence[Gate], candidate: Candidate, against: Comparison | None, rows: int, test: DataFrame
) -> list[GateResult]:
    """Evaluate the gates and write ``ops.gates``; gates that name the champion compare on rows that it was not trained on.

    A candidate that passes them all must also reproduce its stored sample; a row says so where it does not. ``test`` are the rows that
    are scored to measure the time of a cost, with their features.
    """
    models = {"candidate": (candidate.model, candidate.manifest)}
    if against:
        models["champion"] = (against.model, against.manifest)
    costs = measure_costs([reference for gate in gates for reference in gate.references], models, test)
    least, version = context.spec.pipeline.evaluation.min_slice_rows, candidate.manifest.version
    names = f"model {version}"
    alone = Measured({"candidate": candidate.metrics, "baseline": candidate.baseline}, costs, least, f"{names} on {rows:,} test rows")
    with_baseline = dataclasses.replace(alone, rows=f"{names} and the constant baseline on {rows:,} test rows")
    paired = alone
    if against:
        measured = {"candidate": against.candidate, "champion": against.champion}
        measured |= {"baseline": against.baseline} if against.baseline else {}
        words = f"{names} and champion {against.version} on {against.rows:,} test rows that the champion was not trained on"
        paired = Measured(measured, costs, least, words)
    results = [gate.evaluate(paired if gate.needs_champion else with_baseline if gate.needs_baseline else alone) for gate in gates]
    if all(result.passed for result in results):
        results += check_stored_sample(context, version)
    for result in results:
        logger.info("%s: gate %s", context.pipeline, result.sentence)
    context.lake.ledger.put(GateRow, [_gate_row(context, version, result) for result in results], where=context.run_columns)
    return results


def check_stored_sample(context: StepContext, version: int) -> list[GateResult]:
    """Load a candidate in a new session, past all caches, and return a refusal if it does not predict what it did at training time.

    A version that is or was champion is not checked again.

    Raises:
        StepError: the candidate does not load, or its sample is missing or damaged.
    """
    if Deployments(context.lake.ledger, context.pipeline).state(version) in _DEPLOYED:
        return []
    difference = check_sample(context.spark, context.lake, context.pipeline, version).difference
    if difference is None:
        return []
    sentence = f"{SAMPLE_GATE}: refused, loaded from its files the model does not predict what it did at training time: {difference}"
    return [GateResult(SAMPLE_GATE, False, None, None, None, None, (), sentence)]


def _gate_row(context: StepContext, version: int, result: GateResult) -> GateRow:
    return GateRow(
        **context.run_columns,
        model_version=version,
        gate=result.gate,
        value=result.value,
        bound=result.bound,
        passed=result.passed,
        compared=result.sentence.removeprefix(f"{result.gate}: "),
    )


def build_evidence(results: Sequence[GateResult], candidate: Candidate, against: Comparison | None) -> dict[str, object]:
    """Return what the decision rests on, for ``ops.deployments``."""
    champion = None
    if against:
        of_both = {"metrics": against.champion.values, "candidate_metrics": against.candidate.values}
        champion = {"version": against.version, "rows": against.rows, **of_both}
    gates = [dataclasses.asdict(result) for result in results]
    return {"gates": gates, "metrics": candidate.metrics.values, "baseline": candidate.baseline.values, "champion": champion}


def decide(
    context: StepContext, version: int, results: Sequence[GateResult], evidence: dict[str, object], remarks: tuple[str, ...]
) -> tuple[str, ...]:
    """Record the new state and return the notes; a version that is or was champion keeps its state.

    ``remarks`` are notes on the comparison with the champion.

    Raises:
        GateRefused: a gate is not passed; all such gates are named.
    """
    deployments = Deployments(context.lake.ledger, context.pipeline)
    failed_gates = [result.sentence for result in results if not result.passed]
    state = deployments.state(version)
    if failed_gates:
        reason = "; ".join((*failed_gates, *remarks))
        if state not in _DEPLOYED:
            deployments.move(version, "REJECTED", run_id=context.run_id, reason=reason, evidence=evidence)
        raise GateRefused(f"model {version} of {context.pipeline} was refused by {len(failed_gates)} of {len(results)} gates: {reason}")
    notes = (*_list_slices_left_out(results), *remarks)
    if state in _DEPLOYED:
        return (f"model {version} is {state} already and stays so", *notes)
    deployments.move(version, "CHALLENGER", run_id=context.run_id, reason=f"passed {len(results)} gates", evidence=evidence)
    return (*(result.sentence for result in results if not result.was_compared), *notes)


def _list_slices_left_out(results: Sequence[GateResult]) -> tuple[str, ...]:
    """Return a note on the slices that gates left out, for each gate that has some."""
    return tuple(f"{result.gate}: not gated: {list_few(result.left_out)}" for result in results if result.left_out)
