"""The chosen parameters on all training rows, as one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.ml import PipelineModel
from pyspark.sql import functions as F

from tidemill.caching import cached
from tidemill.errors import StepError
from tidemill.features import FeaturePlan, feature_pipeline, max_categories, nominal_slots
from tidemill.spark_errors import sentence
from tidemill.training.engines import TASKS, Engines
from tidemill.training.families import family_of
from tidemill.training.folds import ORDER, CopiedVectors
from tidemill.training.linear_scores import linear_scores, linear_values
from tidemill.training.problem import Problem
from tidemill.training.search import fit_family, task_fit
from tidemill.training.tasks.copy import write_copy
from tidemill.training.tasks.fits import fit_model
from tidemill.training.tasks.model import LearnedModel
from tidemill.training.tuner import Trial

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame


def refit(frame: DataFrame, plan: FeaturePlan, trial: Trial, problem: Problem, engines: Engines | None = None) -> PipelineModel:
    """Fit features and estimator of ``trial`` on every row of ``frame``, by the engine of its family.

    The model holds the feature stages of its own encoding and the family's, and adds ``prediction`` DOUBLE and, for classification,
    ``probability`` VECTOR to any frame that has the raw columns of ``plan``.

    Raises:
        StepError: the fit failed.
    """
    encoding = family_of(trial.family, problem.task).encoding
    engines = engines or Engines()
    try:
        features = feature_pipeline(plan, [encoding]).fit(frame)
        if engines.engine(trial.family) == TASKS:
            model = _by_tasks(frame, features, trial, problem, engines)
        else:
            with cached(features.transform(frame).select("label", f"features_{encoding}")) as vectors:
                model = fit_family(trial, vectors, max_categories(features), problem)
    except Exception as error:
        raise StepError(f"train: {trial.family} {trial.params_json} cannot be fitted on all training rows: {sentence(error)}") from error
    return PipelineModel([*_flat(features), *_flat(model)])


def _by_tasks(frame: DataFrame, features: PipelineModel, trial: Trial, problem: Problem, engines: Engines) -> Transformer:
    """Fit in one task; a linear model becomes a stage of MLlib, another one that asks its library."""
    encoding, spark = family_of(trial.family, problem.task).encoding, frame.sparkSession
    column = f"features_{encoding}"
    vectors = features.transform(frame).select(F.col(ORDER).alias("order"), F.lit(False).alias("is_held_out"), "label", column)
    # All folds together are a part larger than the rows that any fold leaves.
    copy = write_copy(vectors, engines.scratch, [encoding], 2 * engines.most_bytes)
    try:
        copied = CopiedVectors(copy, nominal_slots(features) if encoding == "tree" else {})
        found = fit_model(spark, task_fit(trial, copied, problem, rounds={}))
    finally:
        copy.remove()
    if isinstance(found, bytes):
        return LearnedModel(trial.family, problem.task, column, found)
    if problem.task == "regression":
        return linear_values(spark, found.weights[0], float(found.biases[0]), column)
    return linear_scores(spark, found.weights, found.biases, problem.n_classes, column)


def _flat(model: Transformer) -> list[Transformer]:
    return [stage for part in model.stages for stage in _flat(part)] if isinstance(model, PipelineModel) else [model]
