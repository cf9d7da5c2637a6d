"""Fits of the engine ``spark``: an MLlib estimator on the vectors of a fold, on the whole cluster."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.evaluation import compute_metrics
from tidemill.families import ON_CLUSTER
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.runtime.user_code import contain_exit
from tidemill.tasks import reads_error_quantiles
from tidemill.training.adjustment import AdjustedProbabilities
from tidemill.training.engines.fit_worker import Outcome
from tidemill.training.engines.timeouts import call_within
from tidemill.training.fit_limits import fit_within
from tidemill.training.folds import ORDER, WEIGHT, SparkVectors
from tidemill.training.labels import inverse_log_stage
from tidemill.training.out_of_fold import ScoreHistogram, count_scores_in_spark
from tidemill.training.problem import Problem
from tidemill.training.tuning.staged_boosting import predict_trial
from tidemill.training.tuning.tuner import Trial

if TYPE_CHECKING:
    from pyspark.ml import Model
    from pyspark.sql import DataFrame


def fit_family(trial: Trial, vectors: DataFrame, categories: int, problem: Problem, monotone: Sequence[int] = ()) -> Model:
    """Fit the trial's estimator on ``vectors``: ``label``, ``features_<encoding>`` and, where rows have weights, ``_weight``.

    Raises:
        StepError: rows have weights, and the family does not support them; or it does not support the problem.
    """
    family = problem.family(trial.family)
    reason = problem.unsupported_on_cluster(trial.family)
    if reason:
        raise StepError(reason)
    estimator = family.build_estimator(
        trial.of_family, task=problem.task, n_classes=problem.n_classes, seed=problem.seed, max_categories=categories
    )
    if WEIGHT in vectors.columns:
        if not (estimator.hasParam("weightCol") and ON_CLUSTER in family.weights):
            instead = "leave `dataset.weight` out" if problem.is_weighted else "write `balance: undersample`"
            raise StepError(f"{trial.family} does not support sample weights; {instead}, or `engine: tasks` where it has one")
        estimator.set(estimator.getParam("weightCol"), WEIGHT)
    for name, value in family.loss_params(problem.loss, problem.quantile, tuple(monotone)).items():
        estimator.set(estimator.getParam(name), value)
    with contain_exit(getattr(family, "python", trial.family)):
        return estimator.fit(vectors)


def measure_trials(
    group: Sequence[Trial], vectors: SparkVectors, problem: Problem, share: float, limit: float | None = None
) -> list[Outcome]:
    """Fit the first trial on a share of the training rows, and measure each trial of the group with its rounds of that model.

    The fit and each measurement may take ``limit`` seconds; None sets no limit.
    """
    started = time.perf_counter()
    spark = vectors.train.sparkSession

    def fit() -> Model:
        return fit_family(group[0], take_first_rows(vectors.train, share), vectors.max_categories, problem, vectors.monotone)

    try:
        model = fit_within(spark, limit, problem.family(group[0].family), fit)
    except Exception as error:  # noqa: BLE001 - one trial's failure, whatever it is, is one trial's failure
        fit_seconds = (time.perf_counter() - started) / len(group)
        return [Outcome(trial.number, {}, fit_seconds, 0.0, format_spark_error(error)) for trial in group]
    fit_seconds = (time.perf_counter() - started) / len(group)
    return [_measure(model, trial, group[0], vectors, problem, fit_seconds, limit) for trial in group]


def fit_and_count(
    trial: Trial, vectors: SparkVectors, problem: Problem, max_scores: int, limit: float | None = None
) -> list[ScoreHistogram]:
    """Fit the trial, and return the histograms of its predictions of held-out rows; see `out_of_fold.count_scores`."""
    predictions = predict_held_out(trial, vectors, problem, limit)
    return count_scores_in_spark(predictions, _weight_of(vectors.held_out), problem.n_classes, max_scores)


def predict_held_out(trial: Trial, vectors: SparkVectors, problem: Problem, limit: float | None = None) -> DataFrame:
    """Fit the trial within ``limit`` seconds, and return the held-out rows with its predictions."""

    def fit() -> Model:
        return fit_family(trial, vectors.train, vectors.max_categories, problem, vectors.monotone)

    model = fit_within(vectors.train.sparkSession, limit, problem.family(trial.family), fit)
    with contain_exit(trial.family):
        return _adjust(model.transform(vectors.held_out), problem)


def _measure(
    model: Model, trial: Trial, fitted: Trial, vectors: SparkVectors, problem: Problem, fit_seconds: float, limit: float | None = None
) -> Outcome:
    """Measure ``trial`` on the held-out rows, with its rounds of the model that was fitted for the group."""
    started = time.perf_counter()
    metrics: Mapping[str, float] = {}
    error = None

    def compute() -> Mapping[str, float]:
        features = f"features_{problem.family(trial.family).encoding}"
        with contain_exit(trial.family):
            predictions = predict_trial(model, trial, fitted, vectors.held_out, problem.task)
        return compute_metrics(
            _adjust(predictions, problem),
            problem.task,
            problem.n_classes,
            features,
            weight=_weight_of(vectors.held_out),
            quantile=problem.quantile,
            own=problem.own_metrics,
            with_error_quantiles=reads_error_quantiles(problem.metric),
        )

    try:
        metrics = call_within(vectors.held_out.sparkSession, limit, compute)
    except Exception as caught:  # noqa: BLE001 - as above
        error = format_spark_error(caught)
    score_seconds = time.perf_counter() - started
    return Outcome(trial.number, metrics, fit_seconds + score_seconds, score_seconds, error)


def _adjust(predictions: DataFrame, problem: Problem) -> DataFrame:
    """Return predictions of the original class shares, and labels and predictions on the original scale."""
    if problem.target == "log":
        return inverse_log_stage().transform(predictions).withColumn("label", F.expm1("label"))
    balance = problem.balance
    return predictions if balance is None else AdjustedProbabilities(balance.factors).transform(predictions)


def _weight_of(rows: DataFrame) -> str | None:
    return WEIGHT if WEIGHT in rows.columns else None


def take_first_rows(train: DataFrame, share: float) -> DataFrame:
    """Return the share of the rows that comes first by ``_order``, which is spread evenly over all BIGINTs."""
    return train if share >= 1 else train.where(F.col(ORDER) < int(-(2**63) + share * 2.0**64))
