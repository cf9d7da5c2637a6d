"""The chosen parameters on all training rows, as one model."""

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
from tidemill.learners.linear_scores import linear_scores, linear_values
from tidemill.learners.model import LearnedModel
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.training.adjustment import AdjustedProbabilities
from tidemill.training.calibration import Calibration
from tidemill.training.engines.choice import Engines
from tidemill.training.engines.fit_worker import fit_model
from tidemill.training.engines.fold_matrix import write_copy
from tidemill.training.engines.spark import fit_family
from tidemill.training.engines.tasks import task_fit
from tidemill.training.engines.timeouts import call_within
from tidemill.training.fit_limits import call_within_feature_limit, fit_within, limit_custom_stages
from tidemill.training.folds import CopiedVectors, balanced, copyable
from tidemill.training.labels import brought_back
from tidemill.training.monotone import directions
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
    memo: FitCache | None = None,
    limit: float | None = None,
) -> PipelineModel:
    """Fit features and estimator of ``trial`` on every row of ``frame``, by the engine of its family.

    The model holds the feature stages of its own encoding and the family's, and adds ``prediction`` DOUBLE and, for classification,
    ``probability`` VECTOR to any frame that has the raw columns of ``plan``. ``calibrations`` and ``threshold`` are those of
    `AdjustedProbabilities`, which comes last where there are any, or where classes were balanced. ``memo`` holds what a search has
    learnt of the rows already. The fit may take ``limit`` seconds, where that is given, and so may the features where stages of the user's
    own are among them.

    Raises:
        StepError: the fit failed, or took longer than it may.
    """
    encoding = problem.family(trial.family).encoding
    engines = engines or Engines()
    logger.info("%s %s is fitted on all training rows by engine %s", trial.family, trial.params_json, engines.way(trial.family))
    try:
        features = fit_features(frame, plan, [encoding], memo, limit)
        if engines.way(trial.family) == IN_TASKS:
            with whole_copy(frame, features, [encoding], problem, engines, limit if plan.custom else None) as copied:
                model = learned_stage(frame.sparkSession, trial, copied, problem, limit)
        else:
            with cache_frame(balanced(features.transform(frame), problem.balance, ["label", f"features_{encoding}"])) as vectors:
                ways = directions(features, problem.monotone) if encoding == "tree" else ()

                def fit() -> Model:
                    return fit_family(trial, vectors, max_categories(features), problem, ways)

                model = fit_within(frame.sparkSession, limit, problem.family(trial.family), fit)
    except Exception as error:
        raise StepError(
            f"train: {trial.family} {trial.params_json} cannot be fitted on all training rows: {format_spark_error(error)}"
        ) from error
    stages = [*flat(features), *flat(model)]
    if problem.target == "log":
        stages.append(brought_back())
    factors = problem.balance.factors if problem.balance else ()
    if factors or calibrations or threshold is not None:
        stages.append(AdjustedProbabilities(factors, calibrations, threshold))
    return PipelineModel(stages)


def fit_features(
    frame: DataFrame, plan: FeaturePlan, encodings: Sequence[str], memo: FitCache | None, limit: float | None
) -> PipelineModel:
    """Fit the features of all rows, within ``limit`` seconds where stages of the user's own are among them."""
    pipeline = feature_pipeline(limit_custom_stages(plan, limit), encodings, memo)
    return call_within_feature_limit(frame.sparkSession, limit, plan, lambda: pipeline.fit(frame))


@contextmanager
def whole_copy(
    frame: DataFrame, features: PipelineModel, encodings: Sequence[str], problem: Problem, engines: Engines, limit: float | None = None
) -> Iterator[CopiedVectors]:
    """Have the vectors of all rows, which may take ``limit`` seconds to make, in files for the length of the block."""
    vectors = copyable(features.transform(frame), F.lit(False), problem.balance, encodings)
    # All folds together are a part larger than the rows that any fold leaves.
    copy = call_within(frame.sparkSession, limit, lambda: write_copy(vectors, engines.scratch, encodings, 2 * engines.most_bytes))
    try:
        is_tree = "tree" in encodings
        yield CopiedVectors(copy, nominal_slots(features) if is_tree else {}, directions(features, problem.monotone) if is_tree else ())
    finally:
        copy.remove()


def learned_stage(spark: SparkSession, trial: Trial, copied: CopiedVectors, problem: Problem, limit: float | None = None) -> Transformer:
    """Fit in one task; a linear model becomes a stage of MLlib, another one that asks its library."""
    column = f"features_{problem.family(trial.family).encoding}"
    found = fit_model(spark, task_fit([trial], copied, problem, limit=limit))
    if isinstance(found, bytes):
        return LearnedModel(trial.family, problem.task, column, found)
    if problem.task.predicts_number:
        return linear_values(spark, found.weights[0], float(found.biases[0]), column)
    return linear_scores(spark, found.weights, found.biases, problem.n_classes, column)


def flat(model: Transformer) -> list[Transformer]:
    """Return the stages of a model, whatever pipelines they stand in."""
    return [stage for part in model.stages for stage in flat(part)] if isinstance(model, PipelineModel) else [model]
