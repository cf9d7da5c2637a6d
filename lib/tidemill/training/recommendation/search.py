"""The search of the task recommendation: the folds hold pairs of users and items in place of feature vectors."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pyspark.ml import PipelineModel
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.features import FeaturePlan
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.training.engines.fit_worker import Outcome
from tidemill.training.engines.spark import first_rows
from tidemill.training.engines.timeouts import call_within
from tidemill.training.folds import Folds, Place
from tidemill.training.recommendation.preferences import Preferences, RatingVectors, fit, forget, measure, with_order
from tidemill.training.tuning.search import Done, Known, Search

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tidemill.training.problem import Problem
    from tidemill.training.recommendation.ids import KnownIds
    from tidemill.training.selection import TrialFold
    from tidemill.training.tuning.tuner import Trial


class RatingFolds(Folds):
    """Makes the pairs of a fold when they are first wanted, and frees them when told to."""

    def __init__(self, frame: DataFrame, problem: Problem, preferences: Preferences) -> None:
        """Remember what to make: ``frame`` has ``user`` and ``item`` INT, ``rating``, ``fold``."""
        super().__init__(frame, lambda _: FeaturePlan(), {}, problem)
        self._preferences = preferences
        self._ratings: dict[Place, RatingVectors] = {}

    def ratings(self, place: Place) -> RatingVectors:
        """Return the pairs of a fold."""
        with self._locked(place):
            if place not in self._ratings:
                stack, preferences = ExitStack(), self._preferences
                self._held[place] = stack
                train = stack.enter_context(cache_frame(with_order(preferences.pairs(self._train(place.fold)))))
                held_out = self._frame.where(F.col("fold") == place.fold)
                relevant = stack.enter_context(cache_frame(preferences.relevant_pairs(held_out, train)))
                self._ratings[place] = RatingVectors(train, held_out, relevant)
            return self._ratings[place]

    def free(self, place: Place) -> None:
        """Let go of a fold's pairs."""
        with self._locked(place):
            self._ratings.pop(place, None)
        super().free(place)


class RatingSearch(Search):
    """Cross-validation of ALS: a trial is fitted on the pairs of a fold and ranks, for each user, the items that are new to it.

    ``frame``: the training rows, cached: ``user`` and ``item`` INT, ``rating`` DOUBLE, ``fold`` INT.
    """

    def __init__(
        self,
        frame: DataFrame,
        families: Collection[str],
        problem: Problem,
        preferences: Preferences,
        *,
        done: Done | None = None,
        known: Known | None = None,
        parallelism: int | None = None,
        limit: float | None = None,
    ) -> None:
        """Remember what to search with; nothing is fitted yet."""
        self._preferences = preferences
        self._pairs = RatingFolds(frame, problem, preferences)
        super().__init__(frame, FeaturePlan(), families, problem, done=done, known=known, parallelism=parallelism, limit=limit)

    def _folds(self) -> Folds:
        return self._pairs

    def _by_spark(self, place: Place, group: Sequence[Trial], share: float) -> list[TrialFold]:
        """Fit and measure each trial of a group by itself."""
        fresh, rows = self._fresh(group, place.fold, share)
        for trial in fresh:
            self.fits += 1
            rows += self.rows.judged([self._measured(trial, place, share)], [trial], place.fold, share)
        return rows

    def _measured(self, trial: Trial, place: Place, share: float) -> Outcome:
        started = time.perf_counter()
        found: Mapping[str, float] = {}
        error, fitted = None, started
        try:
            ratings = self._pairs.ratings(place)
            spark, rows, is_implicit = ratings.train.sparkSession, first_rows(ratings.train, share), self._preferences.is_implicit
            model = call_within(spark, self.limit, lambda: fit(rows, trial.params, self.problem, is_implicit=is_implicit))
            fitted = time.perf_counter()
            try:
                found = call_within(spark, self.limit, lambda: measure(model, ratings, self._preferences, [self.problem.metric]))
            finally:
                forget(model)
        except Exception as caught:  # noqa: BLE001 - one trial's failure, whatever it is, is one trial's failure
            error = format_spark_error(caught)
        ended = time.perf_counter()
        return Outcome(trial.number, found, ended - started, ended - fitted, error)


def refit_pairs(
    frame: DataFrame, ids: KnownIds, trial: Trial, problem: Problem, preferences: Preferences, limit: float | None = None
) -> PipelineModel:
    """Fit ``trial`` on all pairs of ``frame``; the model numbers the ids, and adds ``prediction`` to rows that have both.

    The fit may take ``limit`` seconds, where that is given.

    Raises:
        StepError: the fit failed, or took longer than it may.
    """
    try:
        with cache_frame(preferences.pairs(frame)) as train:
            is_implicit = preferences.is_implicit
            model = call_within(frame.sparkSession, limit, lambda: fit(train, trial.params, problem, is_implicit=is_implicit))
            return PipelineModel([ids, model])
    except Exception as error:
        raise StepError(
            f"train: {trial.family} {trial.params_json} cannot be fitted on all training rows: {format_spark_error(error)}"
        ) from error
