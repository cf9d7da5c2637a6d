"""The refit: the selected trial on all training rows, as one PipelineModel."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyspark.ml import PipelineModel
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.families import IN_TASKS
from tidemill.features import FeaturePlan, feature_pipeline, max_categories, nominal_slots
from tidemill.learners.linear_scores import build_linear_classifier, build_linear_regressor
from tidemill.learners.model import LearnedModel
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.training.adjustment import AdjustedProbabilities
from tidemill.training.calibration import Calibration
from tidemill.training.engines.choice import Engines
from tidemill.training.engines.fit_worker import fit_model
from tidemill.training.engines.fold_matrix import write_fold_matrix
from tidemill.training.engines.spark import fit_family
from tidemill.training.engines.tasks import build_fit
from tidemill.training.engines.timeouts import call_within
from tidemill.training.fit_limits import call_within_feature_limit, fit_within, limit_custom_stages
from tidemill.training.folds import TaskVectors, select_matrix_columns, select_training_columns
from tidemill.training.labels import inverse_log_stage
from tidemill.training.monotone import list_directions
from tidemill.training.problem import Problem
from tidemill.training.tuning.tuner import Trial

if TYPE_CHECKING:
    from pyspark.ml import Model, Transformer
    from pyspark.sql import DataFrame, SparkSession

    from tidemill.features.fit_cache import FitCache

logger = logging.getLogger(__name__)


def refit(
    frame: DataFrame,
    plan: FeaturePlan,
    trial: Trial,
    problem: Problem,
    engines: Engines | None = None,
    *,
    calibrations: Sequence[Calibration] = (),
    threshold: float | None = None,
    cache: FitCache | None = None,
    limit: float | None = None,
) -> PipelineModel:
    """Fit features and estimator of ``trial`` on every row of ``frame``, by the engine of its family.

    The model holds the feature stages of the family's encoding and its predictor. It adds ``prediction`` DOUBLE and, for classification,
    ``probability`` VECTOR to any frame with the raw columns of ``plan``. `AdjustedProbabilities` is its last stage where there are
    ``calibrations``, a ``threshold`` or balanced classes. ``cache`` holds the statistics that a search has computed of these rows. The fit
    may take ``limit`` seconds, and so may custom feature stages; None sets no limit.

    Raises:
        StepError: the fit failed, or took longer.
    """
    encoding = problem.family(trial.family).encoding
    engines = engines or Engines()
    logger.info("%s %s is fitted on all training rows by engine %s", trial.family, trial.params_json, engines.engine_of(trial.family))
    try:
        features = fit_features(frame, plan, [encoding], cache, limit)
        if engines.engine_of(trial.family) == IN_TASKS:
            with write_full_matrix(frame, features, [encoding], problem, engines, limit if plan.custom else None) as task_vectors:
                model = fit_stage(frame.sparkSession, trial, task_vectors, problem, limit)
        else:
            with cache_frame(
                select_training_columns(features.transform(frame), problem.balance, ["label", f"features_{encoding}"])
            ) as vectors:
                monotone = list_directions(features, problem.monotone) if encoding == "tree" else ()

                def fit() -> Model:
                    return fit_family(trial, vectors, max_categories(features), problem, monotone)

                model = fit_within(frame.sparkSession, limit, problem.family(trial.family), fit)
    except Exception as error:
        raise StepError(
            f"train: {trial.family} {trial.params_json} cannot be fitted on all training rows: {format_spark_error(error)}"
        ) from error
    stages = [*flatten_stages(features), *flatten_stages(model)]
    if problem.target == "log":
        stages.append(inverse_log_stage())
    factors = problem.balance.factors if problem.balance else ()
    if factors or calibrations or threshold is not None:
        stages.append(AdjustedProbabilities(factors, calibrations, threshold))
    return PipelineModel(stages)


def fit_features(
    frame: DataFrame, plan: FeaturePlan, encodings: Sequence[str], cache: FitCache | None, limit: float | None
) -> PipelineModel:
    """Fit the features on all rows, within ``limit`` seconds where there are custom stages."""
    pipeline = feature_pipeline(limit_custom_stages(plan, limit), encodings, cache)
    return call_within_feature_limit(frame.sparkSession, limit, plan, lambda: pipeline.fit(frame))


@contextmanager
def write_full_matrix(
    frame: DataFrame, features: PipelineModel, encodings: Sequence[str], problem: Problem, engines: Engines, limit: float | None = None
) -> Iterator[TaskVectors]:
    """Write the vectors of all rows to files, within ``limit`` seconds, and delete them at the end of the block."""
    vectors = select_matrix_columns(features.transform(frame), F.lit(False), problem.balance, encodings)
    # All rows are somewhat more than the training rows of any fold.
    matrix = call_within(frame.sparkSession, limit, lambda: write_fold_matrix(vectors, engines.scratch, encodings, 2 * engines.most_bytes))
    try:
        is_tree = "tree" in encodings
        yield TaskVectors(
            matrix, nominal_slots(features) if is_tree else {}, list_directions(features, problem.monotone) if is_tree else ()
        )
    finally:
        matrix.remove()


def fit_stage(spark: SparkSession, trial: Trial, vectors: TaskVectors, problem: Problem, limit: float | None = None) -> Transformer:
    """Fit in one Spark task; return a linear model as a stage of MLlib, any other as a `LearnedModel`."""
    column = f"features_{problem.family(trial.family).encoding}"
    fitted = fit_model(spark, build_fit([trial], vectors, problem, limit=limit))
    if isinstance(fitted, bytes):
        return LearnedModel(trial.family, problem.task, column, fitted)
    if problem.task.predicts_number:
        return build_linear_regressor(spark, fitted.weights[0], float(fitted.biases[0]), column)
    return build_linear_classifier(spark, fitted.weights, fitted.biases, problem.n_classes, column)


def flatten_stages(model: Transformer) -> list[Transformer]:
    """Return the stages of a model, those of nested pipelines included."""
    return [stage for part in model.stages for stage in flatten_stages(part)] if isinstance(model, PipelineModel) else [model]
