"""The step evaluate: metrics of the candidate on the test rows, the baseline, and the gates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.model_registry import load_model
from tidemill.steps.evaluate.gating import (
    Candidate,
    build_evidence,
    choose_default_gates,
    compare_with_champion,
    decide,
    evaluate_gates,
    list_own_metrics,
    parse_declared_gates,
)
from tidemill.steps.evaluate.importance import explain_candidate
from tidemill.steps.evaluate.learning_curve import draw_learning_curve
from tidemill.steps.evaluate.recording import BASELINE_VERSION, record_measurements
from tidemill.steps.evaluate.unsupervised import describe_clusters
from tidemill.steps.result import StepContext, StepResult

if TYPE_CHECKING:
    from tidemill.steps.evaluate.evaluator import Evaluator


def evaluate(context: StepContext) -> StepResult:
    """Measure the candidate on the labelled test rows and let the gates decide: CHALLENGER, or REJECTED.

    Writes ``ops.metrics``: the candidate, the constant baseline (of a recommendation, the popular items) as version 0 and, where a gate
    needs it, the champion; ``ops.curves`` and ``ops.confusion`` of the candidate; and ``ops.gates``. Safe to repeat.

    Raises:
        GateRefused: a gate is not passed; all such gates are named.
        StepError: there are no labelled test rows, or a binary label has a value that is not in the training rows.
    """
    pipeline = context.spec.pipeline
    version = context.inputs[pipeline.model_name]
    model, manifest = load_model(context.lake, context.pipeline, version)
    dataset = context.lake.read(context.spark, pipeline.dataset_table, context.inputs[pipeline.dataset_table])
    declared = parse_declared_gates(pipeline)
    evaluator: Evaluator = pipeline.task.load("evaluator")(context, dataset, list_own_metrics(pipeline, declared or ()))
    rows = evaluator.count_rows(manifest)

    candidate = Candidate(model, manifest, evaluator.measure(model, manifest), evaluator.baseline(manifest))
    slices = evaluator.measure_slices(model, manifest)
    gates = choose_default_gates(pipeline, candidate.metrics) if declared is None else declared
    against = compare_with_champion(context, evaluator, candidate, rows, gates)
    measurements = {version: candidate.metrics, BASELINE_VERSION: candidate.baseline}
    measurements |= {against.version: against.champion} if against else {}
    record_measurements(context, measurements, version, slices)
    explain_candidate(context, model, manifest, dataset)
    explained = draw_learning_curve(context, model, manifest, evaluator, candidate.metrics)
    test = dataset.where(F.col("split") == "test")
    results = evaluate_gates(context, gates, candidate, against, rows, test)
    remarks = evaluator.compare(candidate.metrics.values, against.champion.values) if against else ()
    notes = decide(context, version, results, build_evidence(results, candidate, against), remarks)
    return StepResult(
        outputs={pipeline.model_name: version},
        rows_in=rows,
        rows_out=rows,
        notes=(*notes, *explained, *candidate.metrics.notes, *describe_clusters(slices)),
    )
