"""The search: k-fold cross-validation of trials, the features fitted once a fold, each fit by its family's engine."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pyspark import inheritable_thread_target
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.evaluation import compute_metrics
from tidemill.features import FeaturePlan
from tidemill.spark_errors import sentence
from tidemill.training.adjusted import AdjustedProbabilities
from tidemill.training.engines import SPARK, TASKS, Engines
from tidemill.training.folds import ORDER, WEIGHT, CopiedVectors, Folds, Vectors
from tidemill.training.out_of_fold import SIZE, counted_by_spark
from tidemill.training.prefixes import is_sequential, predictions_of, rounds_of, shared_fits
from tidemill.training.problem import Problem
from tidemill.training.selection import FAILED, SUCCEEDED, SearchResult, TrialFold, choose, first_errors
from tidemill.training.tasks.copy import TooLarge
from tidemill.training.tasks.fits import Fit, Outcome, run_counts, run_fits
from tidemill.training.tasks.learner import Setting
from tidemill.training.tuner import Trial

if TYPE_CHECKING:
    from pyspark.ml import Model
    from pyspark.sql import DataFrame

# Two fits of MLlib at a time keep two cores busy while one of them plans its next pass on the driver; more only share the cores. Of
# tasks, the fits of one fold run while the features of the next are made.
SIDE_BY_SIDE = 2

Done = Callable[[Sequence[TrialFold]], None]
Known = Mapping[tuple[str, str, int], TrialFold]


class Search:
    """Cross-validation of trials, as many times as a tuner asks for; the vectors of the folds are kept between.

    A trial that fails is recorded and does not count in later folds; the search goes on with the others.

    Args:
        frame: the training rows, cached: the raw columns of ``plan``, ``label`` DOUBLE (class index, with the number of classes in its
            metadata, or value), ``fold`` INT and, for the engine tasks, ``_order`` BIGINT.
        plan: the features.
        families: those whose trials are to come.
        problem: task, metric, number of classes, seed.
        engines: which engine fits which family; without any, MLlib fits all.
        done: is told of the rows of each fit as it ends.
        known: what is known from a search that was cut short: family, parameters and fold → the row.
    """

    def __init__(
        self,
        frame: DataFrame,
        plan: FeaturePlan,
        families: Collection[str],
        problem: Problem,
        *,
        engines: Engines | None = None,
        done: Done | None = None,
        known: Known | None = None,
        parallelism: int | None = None,
    ) -> None:
        """Remember what to search with; nothing is fitted yet."""
        self._frame, self._plan, self._families, self.problem = frame, plan, sorted(families), problem
        self._done, self._known, self._parallelism = done, known or {}, parallelism
        self._failed: set[int] = set()
        self._told = threading.Lock()
        self.fits = 0
        self.engines = engines or Engines()
        self.folds = self._folds()

    def run(self, trials: Sequence[Trial], folds: Sequence[int], *, share: float = 1.0, is_last: bool = False) -> list[TrialFold]:
        """Return a row for each fold and trial, the folds one after the other.

        ``share`` is that of the training rows, the first by ``_order``. With ``is_last`` the vectors of a fold are freed after its last
        fit.

        Raises:
            StepError: the features cannot be fitted on a fold.
            SpecError: the vectors are too large for the engine that is asked for.
        """
        self._settle(trials, folds, share)
        # Fits that go round by round come first: while they wait for their driver, the short ones fill the cores.
        spark = sorted(self._groups(trials, SPARK), key=lambda group: not is_sequential(group[0]))
        tasks = self._groups(trials, TASKS)
        left = {fold: len(spark) + bool(tasks) for fold in folds}

        def ended(fold: int, rows: list[TrialFold]) -> list[TrialFold]:
            with self._told:
                self._failed.update(row.trial for row in rows if row.state == FAILED)
                left[fold] -= 1
                if self._done and rows:
                    self._done(rows)
            if is_last and not left[fold]:
                self.folds.free(fold)
            return rows

        def run_spark(fold: int, group: list[Trial]) -> list[TrialFold]:
            return ended(fold, self._by_spark(fold, [trial for trial in group if trial.number not in self._failed], share))

        def run_tasks(fold: int) -> list[TrialFold]:
            return ended(fold, self._by_tasks(fold, tasks, share))

        wrapped = inheritable_thread_target(self._frame.sparkSession)
        with ThreadPoolExecutor(self._parallelism or SIDE_BY_SIDE) as pool:
            running = []
            for fold in folds:
                running += [pool.submit(wrapped(run_tasks), fold)] if tasks else []
                running += [pool.submit(wrapped(run_spark), fold, group) for group in spark]
            try:
                rows = [row for future in running for row in future.result()]
            finally:
                for future in running:
                    future.cancel()
        return _in_order(rows, trials, folds, self._absent)

    def out_of_fold(self, trial: Trial, folds: Sequence[int]) -> np.ndarray:
        """Return what the trial says of the rows that it has not seen, of all folds together, as `out_of_fold.counted`.

        Raises:
            Exception: it cannot be fitted again.
        """
        if self._engine([trial]) == TASKS:
            fits = [task_fit(trial, self.folds.copied(fold), self.problem, rounds={}) for fold in folds]
            return run_counts(self._frame.sparkSession, fits)
        found = np.zeros((2, SIZE), dtype=np.int64)
        for fold in folds:
            vectors = self.folds.vectors(fold)
            model = fit_family(trial, vectors.train, vectors.max_categories, self.problem)
            found += counted_by_spark(self._adjusted(model.transform(vectors.held_out)))
        return found

    def close(self) -> None:
        """Free all vectors."""
        self.folds.close()

    def _folds(self) -> Folds:
        encodings: dict[str, set[str]] = {SPARK: set(), TASKS: set()}
        for name in self._families:
            encodings[self.engines.engine(name)].add(self.problem.family(name).encoding)
        return Folds(
            self._frame,
            self._plan,
            encodings,
            is_expanding=self.problem.is_expanding,
            balance=self.problem.balance,
            scratch=self.engines.scratch,
            most_bytes=self.engines.most_bytes,
        )

    def _settle(self, trials: Sequence[Trial], folds: Sequence[int], share: float) -> None:
        """Make the first copy that is needed; where it is too large, give its families to MLlib, if that is free to choose."""
        by_tasks = [trial for trial in trials if self.engines.engine(trial.family) == TASKS]
        needed = [fold for fold in folds if len(self._reused(by_tasks, fold, share)) < len(by_tasks)]
        if not needed:
            return
        try:
            self.folds.copied(needed[0])
        except TooLarge as error:
            self.folds.close()
            self.engines = self.engines.without_tasks(self.problem, error.n_bytes)
            self.folds = self._folds()

    def _groups(self, trials: Sequence[Trial], engine: str) -> list[list[Trial]]:
        own = [trial for trial in trials if self._engine([trial]) == engine]
        return shared_fits(own, self.problem.task, in_tasks=engine == TASKS)

    def _engine(self, group: Sequence[Trial]) -> str:
        return self.engines.engine(group[0].family)

    def _reused(self, group: Sequence[Trial], fold: int, share: float) -> dict[int, TrialFold]:
        """Return the rows that are known already."""
        found = {trial.number: self._known.get((trial.family, trial.params_json, fold)) for trial in group} if share == 1 else {}
        return {number: replace(row, trial=number) for number, row in found.items() if row is not None}

    def _by_spark(self, fold: int, group: list[Trial], share: float) -> list[TrialFold]:
        """Fit once by MLlib and measure each trial that the fit serves."""
        reused = self._reused(group, fold, share)
        fresh = [trial for trial in group if trial.number not in reused]
        if not fresh:
            return list(reused.values())
        vectors = self.folds.vectors(fold)
        started = time.perf_counter()
        self.fits += 1
        try:
            model = fit_family(fresh[0], _first_rows(vectors.train, share), vectors.max_categories, self.problem)
        except Exception as error:  # noqa: BLE001 - one trial's failure, whatever it is, is one trial's failure
            spent = (time.perf_counter() - started) / len(fresh)
            return [*reused.values(), *(self._row(trial, fold, share, seconds=spent, error=sentence(error)) for trial in fresh)]
        spent = (time.perf_counter() - started) / len(fresh)
        return [*reused.values(), *(self._measured(model, trial, fresh[0], fold, vectors, spent, share) for trial in fresh)]

    def _measured(self, model: Model, trial: Trial, fitted: Trial, fold: int, vectors: Vectors, spent: float, share: float) -> TrialFold:
        """Score the validation rows with what ``trial`` makes of the fitted model."""
        started = time.perf_counter()
        found: Mapping[str, float] = {}
        error = None
        try:
            predictions = predictions_of(model, trial, fitted, vectors.held_out, self.problem.task)
            found = compute_metrics(self._adjusted(predictions), self.problem.task, self.problem.n_classes)
        except Exception as caught:  # noqa: BLE001 - as above
            error = sentence(caught)
        took = time.perf_counter() - started
        return self._judged(trial, fold, share, Outcome(trial.number, found, spent + took, took, error))

    def _adjusted(self, predictions: DataFrame) -> DataFrame:
        """Return the predictions with the classes' shares as they are."""
        balance = self.problem.balance
        return predictions if balance is None else AdjustedProbabilities(balance.factors).transform(predictions)

    def _by_tasks(self, fold: int, groups: Sequence[list[Trial]], share: float) -> list[TrialFold]:
        """Fit all groups of a fold, each a task of one job."""
        reused: dict[int, TrialFold] = {}
        fits = []
        trials: dict[int, Trial] = {}
        for group in groups:
            alive = [trial for trial in group if trial.number not in self._failed]
            reused |= self._reused(alive, fold, share)
            fresh = [trial for trial in alive if trial.number not in reused]
            if fresh:
                fits.append((fresh, self.problem.family(fresh[0].family)))
                trials |= {trial.number: trial for trial in fresh}
        if not fits:
            return list(reused.values())
        copied = self.folds.copied(fold)
        self.fits += len(fits)
        sent = [
            task_fit(fresh[0], copied, self.problem, rounds={trial.number: rounds_of(trial, family) for trial in fresh}, share=share)
            for fresh, family in fits
        ]
        outcomes = run_fits(self._frame.sparkSession, sent)
        return [*reused.values(), *(self._judged(trials[outcome.trial], fold, share, outcome) for outcome in outcomes)]

    def _judged(self, trial: Trial, fold: int, share: float, outcome: Outcome) -> TrialFold:
        """Return the row of an outcome; a metric that is no number is a failure."""
        value, error = outcome.metrics.get(self.problem.metric, math.nan), outcome.error
        if error is None and not math.isfinite(value):
            error = f"{self.problem.metric} is {value} on the validation rows of fold {fold}"
        kept = None if error else value
        return self._row(trial, fold, share, seconds=outcome.seconds, value=kept, error=error, score_seconds=outcome.score_seconds)

    def _absent(self, trial: Trial, fold: int, seconds: float, error: str) -> TrialFold:
        return self._row(trial, fold, 1.0, seconds=seconds, error=error)

    def _row(
        self,
        trial: Trial,
        fold: int,
        share: float,
        *,
        seconds: float,
        value: float | None = None,
        error: str | None = None,
        score_seconds: float | None = None,
    ) -> TrialFold:
        return TrialFold(
            trial=trial.number,
            fold=fold,
            family=trial.family,
            params=trial.params_json,
            metric=self.problem.metric,
            value=value,
            seconds=seconds,
            state=FAILED if error else SUCCEEDED,
            engine=self.engines.engine(trial.family),
            error=error,
            library=self.engines.library(trial.family, self.problem),
            score_seconds=score_seconds,
            share=share,
        )


def search(
    frame: DataFrame, plan: FeaturePlan, trials: Sequence[Trial], folds: Sequence[int], problem: Problem, engines: Engines | None = None
) -> SearchResult:
    """Cross-validate every trial once and choose the best by its mean over the folds; see `Search` for the arguments.

    Raises:
        StepError: every trial failed, or the features cannot be fitted on a fold.
    """
    found = Search(frame, plan, {trial.family for trial in trials}, problem, engines=engines)
    try:
        rows = found.run(trials, folds, is_last=True)
    finally:
        found.close()
    return choose(rows, trials, problem.metric, folds=folds)


def fit_family(trial: Trial, vectors: DataFrame, categories: int, problem: Problem) -> Model:
    """Fit the trial's estimator of MLlib on ``vectors``: ``label`` and ``features_<encoding>``."""
    family = problem.family(trial.family)
    estimator = family.build(trial.params, task=problem.task, n_classes=problem.n_classes, seed=problem.seed, max_categories=categories)
    if WEIGHT in vectors.columns:
        if not (estimator.hasParam("weightCol") and family.takes_weights):
            raise StepError(f"{trial.family} knows no weights of rows; write `balance: undersample`, or `engine: tasks` where it has one")
        estimator.set(estimator.getParam("weightCol"), WEIGHT)
    return estimator.fit(vectors)


def task_fit(trial: Trial, copied: CopiedVectors, problem: Problem, *, rounds: Mapping[int, int | None], share: float = 1.0) -> Fit:
    """Return the fit of a trial as a task on copied vectors."""
    family = problem.family(trial.family)
    assert family.learner is not None  # engines are chosen by it
    setting = Setting(family.learner_params(trial.params, problem.task), problem.task, problem.n_classes, problem.seed)
    factors = problem.balance.factors if problem.balance else ()
    return Fit(copied.copy, family.learner, family.encoding, setting, rounds, copied.nominal, share, factors=factors)


def _first_rows(train: DataFrame, share: float) -> DataFrame:
    """Return the share of the rows that come first by ``_order``, which is spread evenly over all BIGINTs."""
    return train if share >= 1 else train.where(F.col(ORDER) < int(-(2**63) + share * 2.0**64))


def _in_order(
    done: Sequence[TrialFold],
    trials: Sequence[Trial],
    folds: Sequence[int],
    absent: Callable[[Trial, int, float, str], TrialFold],
) -> list[TrialFold]:
    """Return a row for each fold and trial; what follows a trial's first failure does not count, whether it was still tried or not."""
    found = {(row.fold, row.trial): row for row in done}
    errors: dict[int, str] = {}
    rows = []
    for fold in folds:
        for trial in trials:
            row = found.get((fold, trial.number))
            if trial.number in errors or row is None:
                first = errors.get(trial.number) or first_errors(done).get(trial.number, "failed")
                row = absent(trial, fold, row.seconds if row else 0.0, f"not counted, since it failed in an earlier fold: {first}")
            if row.state == FAILED:
                errors.setdefault(trial.number, row.error or "failed")
            rows.append(row)
    return rows
