"""The search: k-fold cross-validation of all trials, the features fitted once a fold."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark import inheritable_thread_target
from pyspark.sql import functions as F

from tidemill.caching import cached
from tidemill.errors import StepError
from tidemill.evaluation import compute_metrics
from tidemill.features import FeaturePlan, feature_pipeline, max_categories
from tidemill.spark_errors import sentence
from tidemill.training.families import family_of
from tidemill.training.prefixes import predictions_of, shared_fits
from tidemill.training.selection import SearchResult, TrialFold, choose, first_errors
from tidemill.training.tuner import Trial

if TYPE_CHECKING:
    from pyspark.ml import Model
    from pyspark.sql import DataFrame

# Two fits at a time keep two cores busy while one of them plans its next pass on the driver; more of them only share the cores.
SIDE_BY_SIDE = 2
ENGINE = "spark"


@dataclass(frozen=True)
class Problem:
    """What is learned and how it is judged; ``n_classes`` is 0 for a regression."""

    task: str
    metric: str
    n_classes: int
    seed: int


@dataclass(frozen=True)
class _Fold:
    """The vectors of one fold, cached: ``label`` and ``features_<encoding>``."""

    number: int
    train: DataFrame
    validation: DataFrame
    max_categories: int
    share: float  # the seconds of preparing the vectors that each trial answers for


def search(frame: DataFrame, plan: FeaturePlan, trials: Sequence[Trial], folds: Sequence[int], problem: Problem) -> SearchResult:
    """Cross-validate every trial and choose the best by its mean over the folds.

    A trial that fails is recorded and not tried in later folds; the search goes on with the others.

    Args:
        frame: the training rows, cached: the raw columns of ``plan``, ``label`` DOUBLE (class index, with the number of classes in its
            metadata, or value) and ``fold`` INT.
        plan: the features.
        trials: what to try.
        folds: the numbers of the folds, each the validation rows once.
        problem: task, metric, number of classes, seed.

    Raises:
        StepError: every trial failed, or the features cannot be fitted on a fold.
    """
    rows: list[TrialFold] = []
    seconds: dict[int, float] = {}
    for fold in folds:
        failed = first_errors(rows)
        alive = [trial for trial in trials if trial.number not in failed]
        # The longest fits of the last fold go first: they must not be the ones that are waited for.
        groups = sorted(shared_fits(alive, problem.task), key=lambda group: -sum(seconds.get(trial.number, 0.0) for trial in group))
        done = _run_fold(frame, plan, groups, fold, problem) if groups else []
        skipped = [_not_tried(trial, fold, failed[trial.number], problem) for trial in trials if trial.number in failed]
        rows += sorted([*done, *skipped], key=lambda row: row.trial)
        seconds = {row.trial: row.seconds for row in done}
    return choose(rows, trials, problem.metric)


def _run_fold(frame: DataFrame, plan: FeaturePlan, groups: list[list[Trial]], number: int, problem: Problem) -> list[TrialFold]:
    """Fit the features on the fold's training rows, then every group of trials on the cached vectors."""
    started = time.perf_counter()
    encodings = sorted({family_of(group[0].family, problem.task).encoding for group in groups})
    columns = ["label", *(f"features_{encoding}" for encoding in encodings)]
    train = frame.where(F.col("fold") != number)
    try:
        features = feature_pipeline(plan, encodings).fit(train)
        vectors = features.transform(train).select(columns)
        held_out = features.transform(frame.where(F.col("fold") == number)).select(columns)
    except Exception as error:
        raise StepError(f"train: the features cannot be fitted on the training rows of fold {number}: {sentence(error)}") from error
    with cached(vectors), cached(held_out):
        vectors.count()
        share = (time.perf_counter() - started) / sum(map(len, groups))
        fold = _Fold(number, vectors, held_out, max_categories(features), share)
        tasks = [inheritable_thread_target(frame.sparkSession)(_task(group, fold, problem)) for group in groups]
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            return [row for done in pool.map(lambda task: task(), tasks) for row in done]


def _task(group: list[Trial], fold: _Fold, problem: Problem) -> Callable[[], list[TrialFold]]:
    """Return the work of one thread: one fit, and the metric of each trial that it serves."""

    def run() -> list[TrialFold]:
        started = time.perf_counter()
        try:
            model = fit_family(group[0], fold.train, fold.max_categories, problem)
        except Exception as error:  # noqa: BLE001 - one trial's failure, whatever it is, is one trial's failure
            spent = fold.share + (time.perf_counter() - started) / len(group)
            return [_row(trial, fold.number, problem, seconds=spent, error=sentence(error)) for trial in group]
        spent = fold.share + (time.perf_counter() - started) / len(group)
        return [_measured(model, trial, group[0], fold, problem, spent) for trial in group]

    return run


def fit_family(trial: Trial, vectors: DataFrame, categories: int, problem: Problem) -> Model:
    """Fit the trial's estimator on ``vectors``: ``label`` and ``features_<encoding>``."""
    family = family_of(trial.family, problem.task)
    estimator = family.build(trial.params, task=problem.task, n_classes=problem.n_classes, seed=problem.seed, max_categories=categories)
    return estimator.fit(vectors)


def _measured(model: Model, trial: Trial, fitted: Trial, fold: _Fold, problem: Problem, spent: float) -> TrialFold:
    """Score the validation rows with what ``trial`` makes of the fitted model."""
    started = time.perf_counter()
    value, error = None, None
    try:
        predictions = predictions_of(model, trial, fitted, fold.validation, problem.task)
        value = compute_metrics(predictions, problem.task, problem.n_classes)[problem.metric]
        if not math.isfinite(value):
            value, error = None, f"{problem.metric} is {value} on the validation rows of fold {fold.number}"
    except Exception as caught:  # noqa: BLE001 - as above
        error = sentence(caught)
    return _row(trial, fold.number, problem, seconds=spent + time.perf_counter() - started, value=value, error=error)


def _row(trial: Trial, fold: int, problem: Problem, *, seconds: float, value: float | None = None, error: str | None = None) -> TrialFold:
    return TrialFold(
        trial=trial.number,
        fold=fold,
        family=trial.family,
        params=trial.params_json,
        metric=problem.metric,
        value=value,
        seconds=seconds,
        state="FAILED" if error else "SUCCEEDED",
        engine=ENGINE,
        error=error,
    )


def _not_tried(trial: Trial, fold: int, reason: str, problem: Problem) -> TrialFold:
    return _row(trial, fold, problem, seconds=0.0, error=f"not tried, since it failed in an earlier fold: {reason}")
