"""The refit of an ensemble: its members on all training rows, and its combiner, as one PipelineModel."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from pyspark.ml import PipelineModel

from tidemill.errors import StepError
from tidemill.families import IN_TASKS, ON_CLUSTER
from tidemill.features import FeaturePlan, max_categories
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.training.adjustment import AdjustedProbabilities
from tidemill.training.calibration import Calibration
from tidemill.training.engines.choice import Engines
from tidemill.training.engines.spark import fit_family
from tidemill.training.ensembles.combined import AsidePredictions, member_column
from tidemill.training.ensembles.ensemble import Ensemble
from tidemill.training.fit_limits import fit_within
from tidemill.training.folds import select_training_columns
from tidemill.training.labels import inverse_log_stage
from tidemill.training.monotone import list_directions
from tidemill.training.problem import Problem
from tidemill.training.refit import fit_features, fit_stage, flatten_stages, write_full_matrix

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame

    from tidemill.features.fit_cache import FitCache


def refit_ensemble(
    frame: DataFrame,
    plan: FeaturePlan,
    ensemble: Ensemble,
    problem: Problem,
    engines: Engines,
    *,
    calibrations: Sequence[Calibration] = (),
    threshold: float | None = None,
    cache: FitCache | None = None,
    limit: float | None = None,
) -> PipelineModel:
    """Fit features and members on every row of ``frame``, each by the engine of its family; see `refit`.

    The features of all encodings are fitted once. Each member's stages are followed by one that moves its predictions aside; the stages
    that combine them come last.

    Raises:
        StepError: a fit failed, or took longer than ``limit`` seconds.
    """
    by_engine = {
        engine: {position: trial for position, trial in ensemble.members.items() if engines.engine_of(trial.family) == engine}
        for engine in (ON_CLUSTER, IN_TASKS)
    }
    encodings = {
        engine: sorted({problem.family(trial.family).encoding for trial in trials.values()}) for engine, trials in by_engine.items()
    }
    fitting = "its features"
    models: dict[int, Transformer] = {}
    try:
        features = fit_features(frame, plan, sorted({*encodings[ON_CLUSTER], *encodings[IN_TASKS]}), cache, limit)
        with ExitStack() as resources:
            if by_engine[IN_TASKS]:
                task_vectors = resources.enter_context(
                    write_full_matrix(frame, features, encodings[IN_TASKS], problem, engines, limit if plan.custom else None)
                )
            if by_engine[ON_CLUSTER]:
                columns = ["label", *(f"features_{encoding}" for encoding in encodings[ON_CLUSTER])]
                vectors = resources.enter_context(cache_frame(select_training_columns(features.transform(frame), problem.balance, columns)))
            for position, trial in ensemble.members.items():
                fitting = f"{trial.family} {trial.params_json}"
                if position in by_engine[IN_TASKS]:
                    models[position] = fit_stage(frame.sparkSession, trial, task_vectors, problem, limit)
                else:
                    monotone = list_directions(features, problem.monotone) if problem.family(trial.family).encoding == "tree" else ()
                    fit = partial(fit_family, trial, vectors, max_categories(features), problem, monotone)
                    models[position] = fit_within(frame.sparkSession, limit, problem.family(trial.family), fit)
    except Exception as error:
        message = f"train: {ensemble.trial.family}: {fitting} cannot be fitted on all training rows: {format_spark_error(error)}"
        raise StepError(message) from error
    stages = flatten_stages(features)
    for position, model in models.items():
        stages += flatten_stages(model)
        if problem.target == "log":
            stages.append(inverse_log_stage())
        if problem.balance:
            stages.append(AdjustedProbabilities(problem.balance.factors))
        stages.append(AsidePredictions(member_column(position), problem.n_classes))
    stages += ensemble.stages
    if calibrations or threshold is not None:
        stages.append(AdjustedProbabilities((), calibrations, threshold))
    return PipelineModel(stages)
