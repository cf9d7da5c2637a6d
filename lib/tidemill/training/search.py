"""The search: k-fold cross-validation of all trials, the features fitted once a fold."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
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
from tidemill.training.prefixes import is_sequential, predictions_of, shared_fits
from tidemill.training.selection import SearchResult, TrialFold, choose
from tidemill.training.tuner import Trial

if TYPE_CHECKING:
    from pyspark.ml import Model
    from pyspark.sql import DataFrame

# Two fits at a time keep two cores busy while one of them plans its next pass on the driver; more of them only share the cores.
SIDE_BY_SIDE = 2
ENGINE = "spark"


@dataclass(frozen=True)
class Problem:
    """What is learned and how it is judged; ``n_classes`` is 0 for a regression.

    ``is_expanding``: a fold is validated by models of the folds before it alone, and the first by none.
    """

    task: str
    metric: str
    n_classes: int
    seed: int
    is_expanding: bool = False


@dataclass(frozen=True)
class _Fold:
    """The vectors of one fold, cached: ``label`` and ``features_<encoding>``."""

    number: int
    train: DataFrame
    validation: DataFrame
    max_categories: int
    share: float  # the seconds of preparing the vectors that each trial answers for
    held: ExitStack  # closing it frees the vectors


def search(frame: DataFrame, plan: FeaturePlan, trials: Sequence[Trial], folds: Sequence[int], problem: Problem) -> SearchResult:
    """Cross-validate every trial and choose the best by its mean over the folds.

    A trial that fails is recorded and does not count in later folds; the search goes on with the others. The fits of one fold begin
    before those of the last are all done, so that the cores are busy to the end.

    Args:
        frame: the training rows, cached: the raw columns of ``plan``, ``label`` DOUBLE (class index, with the number of classes in its
            metadata, or value) and ``fold`` INT.
        plan: the features.
        trials: what to try.
        folds: the numbers of the folds, each the validation rows once; rows without a fold are in none.
        problem: task, metric, number of classes, seed.

    Raises:
        StepError: every trial failed, or the features cannot be fitted on a fold.
    """
    # Fits that go round by round come first: while they wait for their driver, the short ones of this and the next fold fill the cores.
    groups = sorted(shared_fits(trials, problem.task), key=lambda group: not is_sequential(group[0]))
    failed: set[int] = set()

    def run(fold: int, group: list[Trial]) -> list[TrialFold]:
        alive = [trial for trial in group if trial.number not in failed]
        try:
            done = _fit_and_measure(alive, shared.of(fold), problem) if alive else []
        finally:
            shared.release(fold)
        failed.update(row.trial for row in done if row.state == "FAILED")
        return done

    wrapped = inheritable_thread_target(frame.sparkSession)
    with closing(_Shared(frame, plan, groups, problem)) as shared, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        running = [pool.submit(wrapped(run), fold, group) for fold in folds for group in groups]
        try:
            done = [row for future in running for row in future.result()]
        finally:
            for future in running:
                future.cancel()
    return choose(_in_order(done, trials, folds, problem), trials, problem.metric)


class _Shared:
    """The vectors of each fold: made by the first fit that wants them, let go of after the last."""

    def __init__(self, frame: DataFrame, plan: FeaturePlan, groups: list[list[Trial]], problem: Problem) -> None:
        self._frame, self._plan, self._is_expanding = frame, plan, problem.is_expanding
        self._encodings = sorted({family_of(group[0].family, problem.task).encoding for group in groups})
        self._fits, self._trials = len(groups), sum(map(len, groups))
        self._lock = threading.Lock()
        self._made: dict[int, _Fold] = {}
        self._left: dict[int, int] = {}

    def of(self, number: int) -> _Fold:
        """Return the vectors of a fold."""
        with self._lock:
            if number not in self._made:
                self._made[number] = self._make(number)
            return self._made[number]

    def release(self, number: int) -> None:
        """Count one of the fold's fits as done."""
        with self._lock:
            self._left[number] = self._left.get(number, self._fits) - 1
            if not self._left[number] and number in self._made:
                self._made.pop(number).held.close()

    def close(self) -> None:
        """Let go of what a search that ended early left."""
        for fold in self._made.values():
            fold.held.close()

    def _make(self, number: int) -> _Fold:
        """Fit the features on the fold's training rows and keep what they make of all of its rows."""
        started = time.perf_counter()
        columns = ["label", *(f"features_{encoding}" for encoding in self._encodings)]
        train = self._frame.where(F.col("fold") < number if self._is_expanding else F.col("fold") != number)
        try:
            features = feature_pipeline(self._plan, self._encodings).fit(train)
            vectors = features.transform(train).select(columns)
            held_out = features.transform(self._frame.where(F.col("fold") == number)).select(columns)
        except Exception as error:
            raise StepError(f"train: the features cannot be fitted on the training rows of fold {number}: {sentence(error)}") from error
        with ExitStack() as held:
            held.enter_context(cached(vectors))
            held.enter_context(cached(held_out))
            vectors.count()
            share = (time.perf_counter() - started) / self._trials
            return _Fold(number, vectors, held_out, max_categories(features), share, held.pop_all())


def _fit_and_measure(group: list[Trial], fold: _Fold, problem: Problem) -> list[TrialFold]:
    """Fit once and measure each trial that the fit serves."""
    started = time.perf_counter()
    try:
        model = fit_family(group[0], fold.train, fold.max_categories, problem)
    except Exception as error:  # noqa: BLE001 - one trial's failure, whatever it is, is one trial's failure
        spent = fold.share + (time.perf_counter() - started) / len(group)
        return [_row(trial, fold.number, problem, seconds=spent, error=sentence(error)) for trial in group]
    spent = fold.share + (time.perf_counter() - started) / len(group)
    return [_measured(model, trial, group[0], fold, problem, spent) for trial in group]


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


def _in_order(done: Sequence[TrialFold], trials: Sequence[Trial], folds: Sequence[int], problem: Problem) -> list[TrialFold]:
    """Return a row for each fold and trial; what follows a trial's first failure does not count, whether it was still tried or not."""
    found = {(row.fold, row.trial): row for row in done}
    errors: dict[int, str] = {}
    rows = []
    for fold in folds:
        for trial in trials:
            row = found.get((fold, trial.number))
            if trial.number in errors:
                reason = f"not counted, since it failed in an earlier fold: {errors[trial.number]}"
                row = _row(trial, fold, problem, seconds=row.seconds if row else 0.0, error=reason)
            assert row is not None  # only a trial that failed before is left out
            if row.state == "FAILED":
                errors.setdefault(trial.number, row.error or "failed")
            rows.append(row)
    return rows
