"""The learning curve: what the chosen trial reaches on the test rows after training on a part of the training rows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pyspark.ml import PipelineModel

from tidemill.errors import StepError
from tidemill.evaluation import Estimate
from tidemill.lake.ops import CurveRow
from tidemill.steps.train.job import TrainingJob
from tidemill.training.adjustment import AdjustedProbabilities
from tidemill.training.ensembles.combined import AsidePredictions
from tidemill.training.tuning.tuner import Trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidemill.evaluation import Measurement
    from tidemill.model_registry import Manifest
    from tidemill.steps.evaluate.evaluator import Evaluator
    from tidemill.steps.result import StepContext

logger = logging.getLogger(__name__)

CURVE = "learning"
SHARES = (1 / 8, 1 / 4, 1 / 2)


def draw_learning_curve(
    context: StepContext, model: PipelineModel, manifest: Manifest, evaluator: Evaluator, measured: Measurement
) -> tuple[str, ...]:
    """Write the curve ``learning`` of the candidate to ``ops.curves`` where the spec asks for it; return remarks for people.

    A point is of the selection metric on the test rows: ``x`` rows trained on, ``y`` the metric. The last point is the candidate itself,
    trained on all rows. A part of the rows on which the trial cannot be fitted has no point.
    """
    if not context.spec.pipeline.evaluation.learning_curve:
        return ()
    if not manifest.kind.learns_label or not manifest.kind.reads_features:
        return (f"evaluation.learning_curve: the task {manifest.task} has none",)
    if any(isinstance(stage, AsidePredictions) for stage in model.stages):
        return (f"evaluation.learning_curve: a {manifest.family} of several trials has none",)
    metric, notes = context.spec.pipeline.selection_metric, []
    points: list[tuple[int, Estimate]] = []
    with TrainingJob.open(context) as job:
        for outcome in _measure_shares(job, model, manifest, evaluator, metric):
            if isinstance(outcome, str):
                notes.append(outcome)
            else:
                points.append(outcome)
        points.append((job.total, measured.estimates[metric]))
    context.lake.ledger.put(CurveRow, list(_list_rows(context, manifest, points)), where={**context.run_columns, "curve": CURVE})
    return tuple(notes)


def _measure_shares(
    job: TrainingJob, model: PipelineModel, manifest: Manifest, evaluator: Evaluator, metric: str
) -> Iterator[tuple[int, Estimate] | str]:
    """Yield for each share the rows trained on and the metric; a note where the trial could not be fitted."""
    trial = Trial(0, manifest.family, dict(manifest.params))  # type: ignore[arg-type]  # JSON keeps the types of parameters
    adjusted = [stage for stage in model.stages if isinstance(stage, AdjustedProbabilities)]
    for share in SHARES:
        try:
            part, rows = job.refit_share(trial, share)
        except StepError as error:
            yield f"evaluation.learning_curve: no point for 1/{round(1 / share)} of the training rows: {error}"
            continue
        # Calibration and threshold are the candidate's: they come from predictions of all folds.
        stages = [stage for stage in part.stages if not isinstance(stage, AdjustedProbabilities)]
        estimate = evaluator.measure(PipelineModel([*stages, *adjusted]), manifest).estimates[metric]
        logger.info("model %d of %s on %d training rows: %s %.4g", manifest.version, manifest.pipeline, rows, metric, estimate.value)
        yield rows, estimate


def _list_rows(context: StepContext, manifest: Manifest, points: list[tuple[int, Estimate]]) -> Iterator[CurveRow]:
    for rows, estimate in points:
        lower, upper = estimate.ends
        yield CurveRow(
            **context.run_columns,
            model_version=manifest.version,
            split="test",
            curve=CURVE,
            x=float(rows),
            y=estimate.number,
            lower=lower,
            upper=upper,
        )
