"""The search of the task recommendation: its folds hold pairs of users and items instead of feature vectors."""

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
from tidemill.training.engines.spark import take_first_rows
from tidemill.training.engines.timeouts import call_within
from tidemill.training.folds import Folds, FoldVariant
from tidemill.training.recommendation.preferences import (
    Preferences,
    RatingVectors,
    add_order,
    compute_fold_metrics,
    fit_als,
    unpersist_factors,
)
from tidemill.training.tuning.search import Done, Known, Search

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tidemill.training.problem import Problem
    from tidemill.training.recommendation.ids import KnownIds
    from tidemill.training.selection import TrialFold
    from tidemill.training.tuning.tuner import Trial


class RatingFolds(Folds):
    """Builds the pairs of a fold on first use, and frees them on request."""

    def __init__(self, frame: DataFrame, problem: Problem, preferences: Preferences) -> None:
        """Store the arguments: ``frame`` has ``user`` and ``item`` INT, ``rating``, ``fold``."""
        super().__init__(frame, lambda _: FeaturePlan(), {}, problem)
        self._preferences = preferences
        self._ratings: dict[FoldVariant, RatingVectors] = {}

    def ratings(self, fold_variant: FoldVariant) -> RatingVectors:
        """Return the pairs of a fold."""
        with self._lock_of(fold_variant):
            if fold_variant not in self._ratings:
                stack, preferences = ExitStack(), self._preferences
                self._resources[fold_variant] = stack
                train = stack.enter_context(cache_frame(add_order(preferences.pairs(self._training_rows(fold_variant.fold)))))
                held_out = self._frame.where(F.col("fold") == fold_variant.fold)
                relevant = stack.enter_context(cache_frame(preferences.relevant_pairs(held_out, train)))
                self._ratings[fold_variant] = RatingVectors(train, held_out, relevant)
            return self._ratings[fold_variant]

    def free(self, fold_variant: FoldVariant) -> None:
        """Free the pairs of a fold."""
        with self._lock_of(fold_variant):
            self._ratings.pop(fold_variant, None)
        super().free(fold_variant)


class RatingSearch(Search):
    """Cross-validation of ALS: a trial is fitted on the training pairs of a fold, and ranks for each user the items that are new to them.

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
        """Store the arguments; nothing is fitted yet."""
        self._preferences = preferences
        self._pairs = RatingFolds(frame, problem, preferences)
        super().__init__(frame, FeaturePlan(), families, problem, done=done, known=known, parallelism=parallelism, limit=limit)

    def _open_folds(self) -> Folds:
        return self._pairs

    def _fit_by_spark(self, fold_variant: FoldVariant, group: Sequence[Trial], share: float) -> list[TrialFold]:
        """Fit and measure each trial of a group."""
        new_trials, rows = self._split_known(group, fold_variant.fold, share)
        for trial in new_trials:
            self.fits += 1
            rows += self.rows.to_rows([self._measure(trial, fold_variant, share)], [trial], fold_variant.fold, share)
        return rows

    def _measure(self, trial: Trial, fold_variant: FoldVariant, share: float) -> Outcome:
        started = time.perf_counter()
        values: Mapping[str, float] = {}
        error, fit_ended = None, started
        try:
            ratings = self._pairs.ratings(fold_variant)
            spark, rows, is_implicit = ratings.train.sparkSession, take_first_rows(ratings.train, share), self._preferences.is_implicit
            model = call_within(spark, self.limit, lambda: fit_als(rows, trial.params, self.problem, is_implicit=is_implicit))
            fit_ended = time.perf_counter()
            try:
                values = call_within(
                    spark, self.limit, lambda: compute_fold_metrics(model, ratings, self._preferences, [self.problem.metric])
                )
            finally:
                unpersist_factors(model)
        except Exception as caught:  # noqa: BLE001 - one trial's failure, whatever it is, is one trial's failure
            error = format_spark_error(caught)
        ended = time.perf_counter()
        return Outcome(trial.number, values, ended - started, ended - fit_ended, error)


def refit_pairs(
    frame: DataFrame, ids: KnownIds, trial: Trial, problem: Problem, preferences: Preferences, limit: float | None = None
) -> PipelineModel:
    """Fit ``trial`` on all pairs of ``frame``; the model numbers the ids, and adds ``prediction`` to rows whose user and item are known.

    The fit may take ``limit`` seconds; None sets no limit.

    Raises:
        StepError: the fit failed, or took longer.
    """
    try:
        with cache_frame(preferences.pairs(frame)) as train:
            is_implicit = preferences.is_implicit
            model = call_within(frame.sparkSession, limit, lambda: fit_als(train, trial.params, problem, is_implicit=is_implicit))
            return PipelineModel([ids, model])
    except Exception as error:
        raise StepError(
            f"train: {trial.family} {trial.params_json} cannot be fitted on all training rows: {format_spark_error(error)}"
        ) from error
