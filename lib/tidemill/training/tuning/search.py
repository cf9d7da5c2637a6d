"""The search: k-fold cross-validation of trials; features are fitted once per fold, and each model by the engine of its family."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyspark import inheritable_thread_target

from tidemill.errors import StepError
from tidemill.families import IN_TASKS, ON_CLUSTER
from tidemill.features import FeaturePlan
from tidemill.training.engines.choice import Engines
from tidemill.training.engines.fit_worker import Outcome, run_counts
from tidemill.training.engines.fold_matrix import MatrixTooLarge
from tidemill.training.engines.spark import fit_and_count, measure_trials
from tidemill.training.engines.tasks import build_fit, group_fits, measure_fits
from tidemill.training.folds import NO_VARIANT, Folds, FoldVariant
from tidemill.training.out_of_fold import MAX_SCORES, ScoreHistogram, merge_histograms
from tidemill.training.problem import Problem
from tidemill.training.selection import FAILED, SUCCEEDED, SearchResult, TrialFold, complete_rows, select_trial
from tidemill.training.tuning.staged_boosting import group_by_shared_fit, is_sequential, with_mean_rounds
from tidemill.training.tuning.tuner import Trial

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class OutcomeRows:
    """Converts outcomes to rows of ``ops.trials``, for trials of one problem that ``engines`` fit."""

    problem: Problem
    engines: Engines

    def to_rows(self, outcomes: Sequence[Outcome], trials: Sequence[Trial], fold: int, share: float) -> list[TrialFold]:
        """Return the rows of outcomes; a trial whose metric is not finite has failed."""
        by_number = {trial.number: trial for trial in trials}
        rows = []
        for outcome in outcomes:
            value, error = outcome.metrics.get(self.problem.metric, math.nan), outcome.error
            if error is None and not math.isfinite(value):
                error = f"{self.problem.metric} is {value} on the validation rows of fold {fold}"
            rows.append(self._row(by_number[outcome.trial], fold, share, outcome, None if error else value, error))
        return rows

    def absent(self, trial: Trial, fold: int, seconds: float, error: str) -> TrialFold:
        """Return the row of a fold that does not count for a trial."""
        return self._row(trial, fold, 1.0, Outcome(trial.number, {}, seconds, 0.0, error), None, error)

    def _row(self, trial: Trial, fold: int, share: float, outcome: Outcome, value: float | None, error: str | None) -> TrialFold:
        return TrialFold(
            trial=trial.number,
            fold=fold,
            family=trial.family,
            params=trial.params_json,
            metric=self.problem.metric,
            value=value,
            seconds=outcome.seconds,
            state=FAILED if error else SUCCEEDED,
            engine=self.engines.engine_of(trial.family),
            error=error,
            library=outcome.library or self.engines.library(trial.family, self.problem),
            score_seconds=outcome.score_seconds,
            share=share,
            rounds=outcome.rounds,
        )


def feature_failures(error: StepError, fold_variant: FoldVariant, trials: Sequence[Trial]) -> list[Outcome]:
    """Return an outcome with ``error`` for each trial whose feature values cannot be fitted.

    Raises:
        StepError: the features are those that the spec declares, so the search cannot go on.
    """
    if fold_variant.variant == NO_VARIANT:
        raise error
    return [Outcome(trial.number, {}, 0.0, 0.0, str(error)) for trial in trials]


# Two concurrent MLlib fits keep the cores busy while one of them plans its next pass on the driver; more would only share the cores. With
# the engine tasks, the fits of one fold run while the features of the next are fitted.
DEFAULT_PARALLELISM = 2

Done = Callable[[Sequence[TrialFold]], None]
Known = Mapping[tuple[str, str, int], TrialFold]
PlanOf = Callable[[str], FeaturePlan]


class Search:
    """Cross-validation of trials, in one or more calls of `run`, which share the vectors of the folds.

    A trial that fails is recorded and not fitted on later folds; the search goes on with the others.

    Args:
        frame: the training rows, cached: the raw columns of ``plan``, ``label`` DOUBLE (class index, with the number of classes in its
            metadata, or value), ``fold`` INT and, for the engine tasks, ``_order`` BIGINT.
        plan: the features, or a function that returns those of a variant (`Trial.variant`).
        families: the families of all trials.
        problem: task, metric, number of classes, seed.
        engines: the engine of each family; without it, MLlib fits all.
        done: is called with the rows of each fit when it ends.
        known: results of an interrupted search: family, parameters and fold → the row.
        parallelism: the number of concurrent MLlib fits, or folds of tasks.
        limit: the most seconds of each fit, and of the features of a fold where they have custom stages.
    """

    def __init__(
        self,
        frame: DataFrame,
        plan: FeaturePlan | PlanOf,
        families: Collection[str],
        problem: Problem,
        *,
        engines: Engines | None = None,
        done: Done | None = None,
        known: Known | None = None,
        parallelism: int | None = None,
        limit: float | None = None,
    ) -> None:
        """Store the arguments; nothing is fitted yet."""
        self._frame, self._families, self.problem = frame, sorted(families), problem
        self.plan_of: PlanOf = (lambda _: plan) if isinstance(plan, FeaturePlan) else plan
        self._done, self._known, self._parallelism, self.limit = done, known or {}, parallelism, limit
        self._expected: Sequence[int] = ()
        self._failed: set[int] = set()
        self._rows_lock = threading.Lock()
        self.fits = 0
        self.engines = engines or Engines()
        self.folds = self._open_folds()

    def expect(self, folds: Sequence[int]) -> None:
        """Declare the folds of the search, so that the statistics of all of them are computed in one pass."""
        self._expected = folds
        self.folds.expect(folds)

    def run(self, trials: Sequence[Trial], folds: Sequence[int], *, share: float = 1.0, is_last: bool = False) -> list[TrialFold]:
        """Fit and measure the trials; return a row for each fold and trial, fold by fold.

        ``share`` is the share of the training rows, the first by ``_order``. With ``is_last`` the vectors of a fold are freed after its
        last fit.

        Raises:
            StepError: the features cannot be fitted on a fold.
            SpecError: the vectors are too large for the engine that the spec declares.
        """
        try:
            return self._run(trials, folds, share, is_last=is_last)
        except MatrixTooLarge as error:  # any fold may be the first too large one: training rows and features differ
            self.folds.close()
            self.engines = self.engines.without_tasks(self.problem, error.n_bytes)
            self.folds = self._open_folds()
            self.folds.expect(self._expected)
            return self._run(trials, folds, share, is_last=is_last)

    def _run(self, trials: Sequence[Trial], folds: Sequence[int], share: float, *, is_last: bool) -> list[TrialFold]:
        self._prepare_first_vectors(trials, folds, share)
        trials_by_engine = {
            engine: [trial for trial in trials if self.engines.engine_of(trial.family) == engine] for engine in (ON_CLUSTER, IN_TASKS)
        }
        # Sequential fits start first: while they wait for the driver, short fits use the cores.
        spark_groups = sorted(
            group_by_shared_fit(trials_by_engine[ON_CLUSTER], self.problem.task), key=lambda group: not is_sequential(group[0])
        )
        variants = list(dict.fromkeys(trial.variant for trial in trials))
        task_trials = {
            variant: trials_of_variant
            for variant in variants
            if (trials_of_variant := [trial for trial in trials_by_engine[IN_TASKS] if trial.variant == variant])
        }
        fits_left = Counter(FoldVariant(fold, group[0].variant) for fold in folds for group in [*spark_groups, *task_trials.values()])

        def finish(fold_variant: FoldVariant, rows: list[TrialFold]) -> list[TrialFold]:
            with self._rows_lock:
                self._failed.update(row.trial for row in rows if row.state == FAILED)
                fits_left[fold_variant] -= 1
                if self._done and rows:
                    self._done(rows)
            if is_last and not fits_left[fold_variant]:
                self.folds.free(fold_variant)
            return rows

        def run_spark(fold_variant: FoldVariant, group: list[Trial]) -> list[TrialFold]:
            return finish(fold_variant, self._fit_by_spark(fold_variant, group, share))

        def run_tasks(fold_variant: FoldVariant) -> list[TrialFold]:
            return finish(fold_variant, self._fit_by_tasks(fold_variant, task_trials[fold_variant.variant], share))

        wrapped = inheritable_thread_target(self._frame.sparkSession)
        with ThreadPoolExecutor(self._parallelism or DEFAULT_PARALLELISM) as pool:
            running = []
            for fold_variant in (FoldVariant(fold, variant) for fold in folds for variant in variants):
                running += [pool.submit(wrapped(run_tasks), fold_variant)] if fold_variant.variant in task_trials else []
                running += [
                    pool.submit(wrapped(run_spark), fold_variant, group)
                    for group in spark_groups
                    if group[0].variant == fold_variant.variant
                ]
            try:
                rows = [row for future in running for row in future.result()]
            finally:
                for future in running:
                    future.cancel()
        return complete_rows(rows, trials, folds, self.rows.absent)

    def out_of_fold(self, trial: Trial, folds: Sequence[int]) -> list[ScoreHistogram]:
        """Return the histograms of the trial's out-of-fold predictions over all folds; see `out_of_fold.count_scores`.

        Raises:
            Exception: the trial cannot be fitted again.
        """
        if self.engines.engine_of(trial.family) == IN_TASKS:
            vectors_of_folds = [self.folds.task_vectors(FoldVariant(fold, trial.variant)) for fold in folds]
            fits = [build_fit([trial], vectors, self.problem, limit=self.limit) for vectors in vectors_of_folds]
            return run_counts(self._frame.sparkSession, fits)
        spark_vectors = (self.folds.spark_vectors(FoldVariant(fold, trial.variant)) for fold in folds)
        max_scores = MAX_SCORES // len(folds)
        return merge_histograms([fit_and_count(trial, vectors, self.problem, max_scores, self.limit) for vectors in spark_vectors])

    @property
    def rows(self) -> OutcomeRows:
        """The converter of outcomes to rows, with the current engines."""
        return OutcomeRows(self.problem, self.engines)

    def close(self) -> None:
        """Free all vectors."""
        self.folds.close()

    def _open_folds(self) -> Folds:
        encodings: dict[str, set[str]] = {ON_CLUSTER: set(), IN_TASKS: set()}
        for name in self._families:
            encodings[self.engines.engine_of(name)].add(self.problem.family(name).encoding)
        return Folds(
            self._frame,
            self.plan_of,
            encodings,
            self.problem,
            scratch=self.engines.scratch,
            most_bytes=self.engines.most_bytes,
            limit=self.limit,
        )

    def _prepare_first_vectors(self, trials: Sequence[Trial], folds: Sequence[int], share: float) -> None:
        """Write the first fold matrix before any fit, and fit the features of the next one; of expanding folds the last is the largest."""
        by_tasks = [trial for trial in trials if self.engines.engine_of(trial.family) == IN_TASKS]
        first_folds = sorted(folds, reverse=self.problem.is_expanding)
        pairs = [(FoldVariant(fold, trial.variant), trial) for fold in first_folds for trial in by_tasks]
        needed_variants = list(
            dict.fromkeys(fold_variant for fold_variant, trial in pairs if not self._known_rows([trial], fold_variant.fold, share))
        )
        if not needed_variants:
            return
        wrapped = inheritable_thread_target(self._frame.sparkSession)
        with ThreadPoolExecutor(DEFAULT_PARALLELISM) as pool:
            first_matrix = pool.submit(wrapped(self.folds.task_vectors), needed_variants[0])
            for fold_variant in needed_variants[1:DEFAULT_PARALLELISM]:
                pool.submit(wrapped(self.folds.prepare), fold_variant)
            if isinstance(error := first_matrix.exception(), MatrixTooLarge):  # other errors are raised again when the vectors are used
                raise error

    def _known_rows(self, group: Sequence[Trial], fold: int, share: float) -> dict[int, TrialFold]:
        """Return the known rows of fits by the engine that would fit them now."""
        known = [(trial, self._known.get((trial.family, trial.params_json, fold))) for trial in group] if share == 1 else []
        return {
            trial.number: replace(row, trial=trial.number)
            for trial, row in known
            if row is not None and self.engines.engine_of(trial.family) == row.engine
        }

    def _split_known(self, group: Sequence[Trial], fold: int, share: float) -> tuple[list[Trial], list[TrialFold]]:
        """Return the trials of a group that must be fitted, and the known rows of the others; failed trials are left out."""
        alive = [trial for trial in group if trial.number not in self._failed]
        known_rows = self._known_rows(alive, fold, share)
        return [trial for trial in alive if trial.number not in known_rows], list(known_rows.values())

    def _fit_by_spark(self, fold_variant: FoldVariant, group: Sequence[Trial], share: float) -> list[TrialFold]:
        """Fit one model by MLlib, and measure each trial that shares it."""
        new_trials, rows = self._split_known(group, fold_variant.fold, share)
        if not new_trials:
            return rows
        self.fits += 1
        try:
            outcomes = measure_trials(new_trials, self.folds.spark_vectors(fold_variant), self.problem, share, self.limit)
        except StepError as error:
            outcomes = feature_failures(error, fold_variant, new_trials)
        return rows + self.rows.to_rows(outcomes, new_trials, fold_variant.fold, share)

    def _fit_by_tasks(self, fold_variant: FoldVariant, trials: Sequence[Trial], share: float) -> list[TrialFold]:
        """Fit all trials of a fold in one Spark job, with one Spark task per shared fit."""
        new_trials, rows = self._split_known(trials, fold_variant.fold, share)
        if not new_trials:
            return rows
        try:
            vectors = self.folds.task_vectors(fold_variant)
        except StepError as error:
            return rows + self.rows.to_rows(feature_failures(error, fold_variant, new_trials), new_trials, fold_variant.fold, share)
        fits = group_fits(new_trials, vectors, self.problem, share=share, limit=self.limit)
        self.fits += len(fits)
        return rows + self.rows.to_rows(measure_fits(self._frame.sparkSession, fits), new_trials, fold_variant.fold, share)


def cross_validate(
    frame: DataFrame,
    plan: FeaturePlan | PlanOf,
    trials: Sequence[Trial],
    folds: Sequence[int],
    problem: Problem,
    engines: Engines | None = None,
) -> SearchResult:
    """Cross-validate every trial once and choose the best by its mean over the folds; see `Search` for the arguments.

    Raises:
        StepError: every trial failed, or the features cannot be fitted on a fold.
    """
    search = Search(frame, plan, {trial.family for trial in trials}, problem, engines=engines)
    try:
        rows = search.run(trials, folds, is_last=True)
    finally:
        search.close()
    selected = select_trial(rows, trials, problem.metric, folds=folds)
    return replace(selected, best=with_mean_rounds(selected.best, selected.rows, problem))
