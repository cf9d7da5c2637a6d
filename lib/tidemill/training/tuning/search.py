"""The search: k-fold cross-validation of trials, the features fitted once a fold, each fit by its family's engine."""

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
from tidemill.training.engines import spark as mllib_fits
from tidemill.training.engines import tasks as task_fits
from tidemill.training.engines.choice import Engines
from tidemill.training.engines.fit_worker import Outcome, run_counts
from tidemill.training.engines.fold_matrix import TooLarge
from tidemill.training.folds import NO_VARIANT, Folds, Place
from tidemill.training.out_of_fold import MAX_SCORES, ScoreHistogram, merge_histograms
from tidemill.training.problem import Problem
from tidemill.training.selection import FAILED, SUCCEEDED, SearchResult, TrialFold, choose, in_order
from tidemill.training.tuning.staged_boosting import is_sequential, settled, shared_fits
from tidemill.training.tuning.tuner import Trial

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class OutcomeRows:
    """Makes rows of trials of one problem, fitted by ``engines``."""

    problem: Problem
    engines: Engines

    def judged(self, outcomes: Sequence[Outcome], trials: Sequence[Trial], fold: int, share: float) -> list[TrialFold]:
        """Return the rows of outcomes; a metric that is no number is a failure."""
        by_number = {trial.number: trial for trial in trials}
        rows = []
        for outcome in outcomes:
            value, error = outcome.metrics.get(self.problem.metric, math.nan), outcome.error
            if error is None and not math.isfinite(value):
                error = f"{self.problem.metric} is {value} on the validation rows of fold {fold}"
            rows.append(self._row(by_number[outcome.trial], fold, share, outcome, None if error else value, error))
        return rows

    def absent(self, trial: Trial, fold: int, seconds: float, error: str) -> TrialFold:
        """Return the row of a trial that does not count on a fold."""
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
            engine=self.engines.way(trial.family),
            error=error,
            library=outcome.library or self.engines.library(trial.family, self.problem),
            score_seconds=outcome.score_seconds,
            share=share,
            rounds=outcome.rounds,
        )


def of_bad_features(error: StepError, place: Place, trials: Sequence[Trial]) -> list[Outcome]:
    """Return the failures of trials whose own values make features that cannot be fitted.

    Raises:
        StepError: they are those of the spec as it stands, without which there is no search.
    """
    if place.variant == NO_VARIANT:
        raise error
    return [Outcome(trial.number, {}, 0.0, 0.0, str(error)) for trial in trials]


# Two fits of MLlib at a time keep two cores busy while one of them plans its next pass on the driver; more only share the cores. Of
# tasks, the fits of one fold run while the features of the next are made.
SIDE_BY_SIDE = 2

Done = Callable[[Sequence[TrialFold]], None]
Known = Mapping[tuple[str, str, int], TrialFold]
PlanOf = Callable[[str], FeaturePlan]


class Search:
    """Cross-validation of trials, as many times as a tuner asks for; the vectors of the folds are kept between.

    A trial that fails is recorded and does not count in later folds; the search goes on with the others.

    Args:
        frame: the training rows, cached: the raw columns of ``plan``, ``label`` DOUBLE (class index, with the number of classes in its
            metadata, or value), ``fold`` INT and, for the engine tasks, ``_order`` BIGINT.
        plan: the features, or what gives those of a variant by its name (`Trial.variant`).
        families: those whose trials are to come.
        problem: task, metric, number of classes, seed.
        engines: which engine fits which family; without any, MLlib fits all.
        done: is told of the rows of each fit as it ends.
        known: what is known from a search that was cut short: family, parameters and fold → the row.
        parallelism: fits of MLlib's, or folds of tasks, side by side.
        limit: seconds that each fit may take, and the features of a fold where stages of the user's own are among them.
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
        """Remember what to search with; nothing is fitted yet."""
        self._frame, self._families, self.problem = frame, sorted(families), problem
        self.plan_of: PlanOf = (lambda _: plan) if isinstance(plan, FeaturePlan) else plan
        self._done, self._known, self._parallelism, self.limit = done, known or {}, parallelism, limit
        self._expected: Sequence[int] = ()
        self._failed: set[int] = set()
        self._told = threading.Lock()
        self.fits = 0
        self.engines = engines or Engines()
        self.folds = self._folds()

    def expect(self, folds: Sequence[int]) -> None:
        """Know which folds are to come, so that what all of them ask of the rows is learnt at once."""
        self._expected = folds
        self.folds.expect(folds)

    def run(self, trials: Sequence[Trial], folds: Sequence[int], *, share: float = 1.0, is_last: bool = False) -> list[TrialFold]:
        """Return a row for each fold and trial, the folds one after the other.

        ``share`` is that of the training rows, the first by ``_order``. With ``is_last`` the vectors of a fold are freed after its last
        fit.

        Raises:
            StepError: the features cannot be fitted on a fold.
            SpecError: the vectors are too large for the engine that is asked for.
        """
        try:
            return self._run(trials, folds, share, is_last=is_last)
        except TooLarge as error:  # of any fold: they differ where they expand, and in what their features have seen
            self.folds.close()
            self.engines = self.engines.without_tasks(self.problem, error.n_bytes)
            self.folds = self._folds()
            self.folds.expect(self._expected)
            return self._run(trials, folds, share, is_last=is_last)

    def _run(self, trials: Sequence[Trial], folds: Sequence[int], share: float, *, is_last: bool) -> list[TrialFold]:
        self._settle(trials, folds, share)
        own = {engine: [trial for trial in trials if self.engines.way(trial.family) == engine] for engine in (ON_CLUSTER, IN_TASKS)}
        # Fits that go round by round come first: while they wait for their driver, the short ones fill the cores.
        spark = sorted(shared_fits(own[ON_CLUSTER], self.problem.task), key=lambda group: not is_sequential(group[0]))
        variants = list(dict.fromkeys(trial.variant for trial in trials))
        tasks = {variant: found for variant in variants if (found := [trial for trial in own[IN_TASKS] if trial.variant == variant])}
        left = Counter(Place(fold, group[0].variant) for fold in folds for group in [*spark, *tasks.values()])

        def ended(place: Place, rows: list[TrialFold]) -> list[TrialFold]:
            with self._told:
                self._failed.update(row.trial for row in rows if row.state == FAILED)
                left[place] -= 1
                if self._done and rows:
                    self._done(rows)
            if is_last and not left[place]:
                self.folds.free(place)
            return rows

        def run_spark(place: Place, group: list[Trial]) -> list[TrialFold]:
            return ended(place, self._by_spark(place, group, share))

        def run_tasks(place: Place) -> list[TrialFold]:
            return ended(place, self._by_tasks(place, tasks[place.variant], share))

        wrapped = inheritable_thread_target(self._frame.sparkSession)
        with ThreadPoolExecutor(self._parallelism or SIDE_BY_SIDE) as pool:
            running = []
            for place in (Place(fold, variant) for fold in folds for variant in variants):
                running += [pool.submit(wrapped(run_tasks), place)] if place.variant in tasks else []
                running += [pool.submit(wrapped(run_spark), place, group) for group in spark if group[0].variant == place.variant]
            try:
                rows = [row for future in running for row in future.result()]
            finally:
                for future in running:
                    future.cancel()
        return in_order(rows, trials, folds, self.rows.absent)

    def out_of_fold(self, trial: Trial, folds: Sequence[int]) -> list[ScoreHistogram]:
        """Count what the trial says of the rows that it has not seen, of all folds together, as `out_of_fold.count_scores`.

        Raises:
            Exception: it cannot be fitted again.
        """
        if self.engines.way(trial.family) == IN_TASKS:
            copies = [self.folds.copied(Place(fold, trial.variant)) for fold in folds]
            fits = [task_fits.task_fit([trial], copied, self.problem, limit=self.limit) for copied in copies]
            return run_counts(self._frame.sparkSession, fits)
        vectors = (self.folds.vectors(Place(fold, trial.variant)) for fold in folds)
        max_scores = MAX_SCORES // len(folds)
        return merge_histograms([mllib_fits.fit_and_count(trial, each, self.problem, max_scores, self.limit) for each in vectors])

    @property
    def rows(self) -> OutcomeRows:
        """What makes rows of outcomes, with the engines as they are now."""
        return OutcomeRows(self.problem, self.engines)

    def close(self) -> None:
        """Free all vectors."""
        self.folds.close()

    def _folds(self) -> Folds:
        encodings: dict[str, set[str]] = {ON_CLUSTER: set(), IN_TASKS: set()}
        for name in self._families:
            encodings[self.engines.way(name)].add(self.problem.family(name).encoding)
        return Folds(
            self._frame,
            self.plan_of,
            encodings,
            self.problem,
            scratch=self.engines.scratch,
            most_bytes=self.engines.most_bytes,
            limit=self.limit,
        )

    def _settle(self, trials: Sequence[Trial], folds: Sequence[int], share: float) -> None:
        """Make the first copy that is needed before any fit, and the features of the next one; where folds expand, the last is largest."""
        by_tasks = [trial for trial in trials if self.engines.way(trial.family) == IN_TASKS]
        first_folds = sorted(folds, reverse=self.problem.is_expanding)
        wanted = [(Place(fold, trial.variant), trial) for fold in first_folds for trial in by_tasks]
        needed = list(dict.fromkeys(place for place, trial in wanted if not self._reused([trial], place.fold, share)))
        if not needed:
            return
        wrapped = inheritable_thread_target(self._frame.sparkSession)
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            first = pool.submit(wrapped(self.folds.copied), needed[0])
            for place in needed[1:SIDE_BY_SIDE]:
                pool.submit(wrapped(self.folds.prepare), place)
            if isinstance(error := first.exception(), TooLarge):  # others come again when the vectors are wanted
                raise error

    def _reused(self, group: Sequence[Trial], fold: int, share: float) -> dict[int, TrialFold]:
        """Return the rows that are known already, of fits by the engine that would fit them now."""
        found = [(trial, self._known.get((trial.family, trial.params_json, fold))) for trial in group] if share == 1 else []
        return {
            trial.number: replace(row, trial=trial.number)
            for trial, row in found
            if row is not None and self.engines.way(trial.family) == row.engine
        }

    def _fresh(self, group: Sequence[Trial], fold: int, share: float) -> tuple[list[Trial], list[TrialFold]]:
        """Return the trials of a group that are to be fitted, and the rows of the others; those that failed are in neither."""
        alive = [trial for trial in group if trial.number not in self._failed]
        reused = self._reused(alive, fold, share)
        return [trial for trial in alive if trial.number not in reused], list(reused.values())

    def _by_spark(self, place: Place, group: Sequence[Trial], share: float) -> list[TrialFold]:
        """Fit once by MLlib and measure each trial that the fit serves."""
        fresh, rows = self._fresh(group, place.fold, share)
        if not fresh:
            return rows
        self.fits += 1
        try:
            found = mllib_fits.measure(fresh, self.folds.vectors(place), self.problem, share, self.limit)
        except StepError as error:
            found = of_bad_features(error, place, fresh)
        return rows + self.rows.judged(found, fresh, place.fold, share)

    def _by_tasks(self, place: Place, trials: Sequence[Trial], share: float) -> list[TrialFold]:
        """Fit all trials of a fold in one job, those that share a fit in one task."""
        fresh, rows = self._fresh(trials, place.fold, share)
        if not fresh:
            return rows
        try:
            copied = self.folds.copied(place)
        except StepError as error:
            return rows + self.rows.judged(of_bad_features(error, place, fresh), fresh, place.fold, share)
        fits = task_fits.grouped(fresh, copied, self.problem, share=share, limit=self.limit)
        self.fits += len(fits)
        return rows + self.rows.judged(task_fits.measure(self._frame.sparkSession, fits), fresh, place.fold, share)


def search(
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
    found = Search(frame, plan, {trial.family for trial in trials}, problem, engines=engines)
    try:
        rows = found.run(trials, folds, is_last=True)
    finally:
        found.close()
    chosen = choose(rows, trials, problem.metric, folds=folds)
    return replace(chosen, best=settled(chosen.best, chosen.rows, problem))
