"""The chosen parameters on all training rows, as one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.ml import PipelineModel

from tidemill.caching import cached
from tidemill.errors import StepError
from tidemill.features import FeaturePlan, feature_pipeline, max_categories
from tidemill.spark_errors import sentence
from tidemill.training.families import family_of
from tidemill.training.search import Problem, fit_family
from tidemill.training.tuner import Trial

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame


def refit(frame: DataFrame, plan: FeaturePlan, trial: Trial, problem: Problem) -> PipelineModel:
    """Fit features and estimator of ``trial`` on every row of ``frame``.

    The model holds the feature stages of its own encoding and the family's, and adds ``prediction`` DOUBLE and, for classification,
    ``probability`` VECTOR to any frame that has the raw columns of ``plan``.

    Raises:
        StepError: the fit failed.
    """
    encoding = family_of(trial.family, problem.task).encoding
    try:
        features = feature_pipeline(plan, [encoding]).fit(frame)
        with cached(features.transform(frame).select("label", f"features_{encoding}")) as vectors:
            model = fit_family(trial, vectors, max_categories(features), problem)
    except Exception as error:
        raise StepError(f"train: {trial.family} {trial.params_json} cannot be fitted on all training rows: {sentence(error)}") from error
    return PipelineModel([*_flat(features), *_flat(model)])


def _flat(model: Transformer) -> list[Transformer]:
    return [stage for part in model.stages for stage in _flat(part)] if isinstance(model, PipelineModel) else [model]
