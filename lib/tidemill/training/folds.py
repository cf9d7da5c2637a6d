"""Feature vectors of each fold, for both engines: features are fitted once on its training rows and transform all of its rows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pyspark.ml import PipelineModel
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.features import FeaturePlan, feature_pipeline, max_categories, nominal_slots
from tidemill.features.fit_cache import ALL_ROWS, FitCache, FoldStatistics
from tidemill.features.names import PART
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.runtime.user_code import contain_exit
from tidemill.training.engines.fold_matrix import FoldMatrix, MatrixTooLarge, write_fold_matrix
from tidemill.training.fit_limits import call_within_feature_limit, limit_custom_stages
from tidemill.training.monotone import list_directions

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from tidemill.training.balance import Balance
    from tidemill.training.problem import Problem

logger = logging.getLogger(__name__)


Result = TypeVar("Result")

WEIGHT = "_tidemill_row_weight"
"""The weight of a row: its own in the training frame; in the vectors of training rows that times the weight of its class."""
ORDER = "_tidemill_row_order"
"""The column that orders the rows of a fold matrix: a hash of the key, so that the first rows are a sample in every layout."""


NO_VARIANT = "{}"
"""The variant of the features as declared, without values of a trial."""


class FoldVariant(NamedTuple):
    """A fold and a variant of the features (`Trial.variant`): one set of vectors."""

    fold: int
    variant: str = NO_VARIANT


@dataclass(frozen=True)
class SparkVectors:
    """The cached vectors of one fold for MLlib: ``label``, ``_order``, ``features_<encoding>`` and, where rows have one, ``_weight``."""

    train: DataFrame
    held_out: DataFrame
    max_categories: int
    monotone: tuple[int, ...] = ()


@dataclass(frozen=True)
class TaskVectors:
    """The vectors of one fold for tasks: a matrix in files, the categorical slots of ``features_tree``, and its monotone constraints."""

    matrix: FoldMatrix
    nominal: Mapping[int, int]
    monotone: tuple[int, ...] = ()


class Folds:
    """Builds the vectors of each fold on first use, for each engine its own, and frees them on request.

    ``plan_of`` returns the features of a variant; the variants of a fold share the statistics that they have in common. ``encodings`` are
    those that each engine needs. ``fits`` counts the fitted feature pipelines, ``requests`` the statistics that they needed, and ``misses``
    those that had to be computed. Where the features have custom stages, fitting them and building the vectors may take ``limit`` seconds
    each.
    """

    def __init__(
        self,
        frame: DataFrame,
        plan_of: Callable[[str], FeaturePlan],
        encodings: Mapping[str, Collection[str]],
        problem: Problem,
        *,
        scratch: str = "",
        most_bytes: int = 0,
        limit: float | None = None,
    ) -> None:
        """Store the arguments; nothing is fitted yet."""
        self._limit = limit
        self._frame, self._plan_of, self._is_expanding, self._balance = frame, plan_of, problem.is_expanding, problem.balance
        self._monotone = problem.monotone
        self.encodings = {engine: sorted(names) for engine, names in encodings.items()}
        self._scratch, self._most_bytes = scratch, most_bytes
        self._locks: dict[FoldVariant, threading.Lock] = {}
        self._lock = threading.Lock()
        self._caches: dict[int, FitCache] = {}
        self._statistics: FoldStatistics | None = None
        self.all_rows_cache = FitCache()
        self._features: dict[FoldVariant, PipelineModel] = {}
        self._spark_vectors: dict[FoldVariant, SparkVectors] = {}
        self._task_vectors: dict[FoldVariant, TaskVectors] = {}
        self._resources: dict[FoldVariant, ExitStack] = {}
        self.fits = 0

    @property
    def requests(self) -> int:
        """The number of statistics that the features of all folds needed."""
        return sum(cache.requests for cache in self._caches.values())

    @property
    def misses(self) -> int:
        """The number of statistics that had to be computed."""
        return sum(cache.misses for cache in self._caches.values())

    def expect(self, folds: Sequence[int]) -> None:
        """Declare the folds of the search, so that the statistics of all of them are computed in one pass.

        The statistics of all rows are kept in ``all_rows_cache``, for the refit.
        """
        if len(folds) > 1:
            self._statistics = FoldStatistics(self._frame, folds, is_expanding=self._is_expanding)
            self.all_rows_cache = FitCache(self._statistics, ALL_ROWS, self._all_encodings)

    def prepare(self, fold_variant: FoldVariant) -> None:
        """Fit the features of a fold before its vectors are needed."""
        with self._lock_of(fold_variant):
            self._build(self._fit_features, fold_variant)

    def spark_vectors(self, fold_variant: FoldVariant) -> SparkVectors:
        """Return the vectors of a fold for MLlib."""
        with self._lock_of(fold_variant):
            if fold_variant not in self._spark_vectors:
                self._spark_vectors[fold_variant] = self._build(self._cache_vectors, fold_variant)
            return self._spark_vectors[fold_variant]

    def task_vectors(self, fold_variant: FoldVariant) -> TaskVectors:
        """Return the vectors of a fold for tasks.

        Raises:
            MatrixTooLarge: the vectors take more than ``most_bytes``.
        """
        with self._lock_of(fold_variant):
            if fold_variant not in self._task_vectors:
                self._task_vectors[fold_variant] = self._build(self._write_matrix, fold_variant)
            return self._task_vectors[fold_variant]

    def free(self, fold_variant: FoldVariant) -> None:
        """Free the vectors of a fold."""
        with self._lock_of(fold_variant):
            self._spark_vectors.pop(fold_variant, None)
            self._task_vectors.pop(fold_variant, None)
            self._features.pop(fold_variant, None)
            resources = self._resources.pop(fold_variant, None)
        if resources:
            resources.close()

    def close(self) -> None:
        """Free all vectors."""
        for fold_variant in list(self._resources):
            self.free(fold_variant)

    @property
    def _all_encodings(self) -> list[str]:
        return sorted({encoding for encodings in self.encodings.values() for encoding in encodings})

    def _lock_of(self, fold_variant: FoldVariant) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(fold_variant, threading.Lock())

    def _build(self, make: Callable[[FoldVariant], Result], fold_variant: FoldVariant) -> Result:
        """Return the result of ``make`` for a fold; its errors name the fold."""
        try:
            with contain_exit("a stage of the features"):
                return call_within_feature_limit(
                    self._frame.sparkSession, self._limit, self._plan_of(fold_variant.variant), lambda: make(fold_variant)
                )
        except MatrixTooLarge:
            raise
        except Exception as error:
            variant = "" if fold_variant.variant == NO_VARIANT else f" with {fold_variant.variant}"
            rows = f"the training rows of fold {fold_variant.fold}"
            raise StepError(f"train: the features{variant} cannot be fitted on {rows}: {format_spark_error(error)}") from error

    def _training_rows(self, number: int) -> DataFrame:
        return self._frame.where(F.col("fold") < number if self._is_expanding else F.col("fold") != number)

    def _fit_features(self, fold_variant: FoldVariant) -> PipelineModel:
        if fold_variant not in self._features:
            with self._lock:
                cache = self._caches.setdefault(fold_variant.fold, FitCache(self._statistics, fold_variant.fold))
            features = feature_pipeline(limit_custom_stages(self._plan_of(fold_variant.variant), self._limit), self._all_encodings, cache)
            self._features[fold_variant] = features.fit(self._training_rows(fold_variant.fold))
            logger.info("features are fitted on the training rows of fold %d", fold_variant.fold)
            with self._lock:
                self.fits += 1
        return self._features[fold_variant]

    def _cache_vectors(self, fold_variant: FoldVariant) -> SparkVectors:
        features, number = self._fit_features(fold_variant), fold_variant.fold
        order = [ORDER] if ORDER in self._frame.columns else []
        columns = ["label", *order, *(f"features_{encoding}" for encoding in self.encodings["spark"])]
        train = select_training_columns(features.transform(self._training_rows(number)), self._balance, columns)
        weight = [WEIGHT] if WEIGHT in self._frame.columns else []
        held_out = features.transform(self._frame.where(F.col("fold") == number).drop(PART)).select(*columns, *weight)
        with ExitStack() as stack:
            stack.enter_context(cache_frame(train))
            stack.enter_context(cache_frame(held_out))
            train.count()
            self._resources.setdefault(fold_variant, ExitStack()).push(stack.pop_all())
        return SparkVectors(train, held_out, max_categories(features), list_directions(features, self._monotone))

    def _write_matrix(self, fold_variant: FoldVariant) -> TaskVectors:
        features, number = self._fit_features(fold_variant), fold_variant.fold
        # Rows without a fold are used by the refit only; where folds expand, rows of later folds lie in the future.
        rows = self._frame.where(F.col("fold") <= number) if self._is_expanding else self._frame.where(F.col("fold").isNotNull())
        if PART in rows.columns:  # the held-out rows were not in the fit, so they have no part
            rows = rows.withColumn(PART, F.when(F.col("fold") != number, F.col(PART)))
        encodings = self.encodings["tasks"]
        vectors = select_matrix_columns(features.transform(rows), F.col("fold") == number, self._balance, encodings)
        matrix = write_fold_matrix(vectors, self._scratch, encodings, self._most_bytes)
        self._resources.setdefault(fold_variant, ExitStack()).callback(matrix.remove)
        if "tree" not in encodings:
            return TaskVectors(matrix, {})
        return TaskVectors(matrix, nominal_slots(features), list_directions(features, self._monotone))


def select_training_columns(vectors: DataFrame, balance: Balance | None, columns: Sequence[str]) -> DataFrame:
    """Select ``columns`` of the rows that ``balance`` keeps, and ``_weight`` where rows have weights."""
    own = [WEIGHT] if WEIGHT in vectors.columns else []
    if balance is None:
        return vectors.select(*columns, *own)
    if balance.kind == "undersample":
        return vectors.where(balance.is_kept("label", ORDER)).select(*columns, *own)
    return vectors.select(*columns, _weight(vectors, balance).alias(WEIGHT))


def _weight(vectors: DataFrame, balance: Balance | None) -> Column:
    """Return the weight of a training row: its own, times that of its class."""
    own = F.col(WEIGHT) if WEIGHT in vectors.columns else F.lit(1.0)
    return own * balance.weight("label") if balance is not None and balance.kind == "weights" else own


def select_matrix_columns(vectors: DataFrame, is_held_out: Column, balance: Balance | None, encodings: Sequence[str]) -> DataFrame:
    """Select the columns of a fold matrix: held-out rows with their own weight, and the training rows that ``balance`` keeps."""
    rows = vectors
    if balance is not None and balance.kind == "undersample":
        rows = vectors.where(is_held_out | balance.is_kept("label", ORDER))
    weight = F.when(is_held_out, _weight(vectors, None)).otherwise(_weight(vectors, balance))
    columns = [f"features_{encoding}" for encoding in encodings]
    return rows.select(F.col(ORDER).alias("order"), is_held_out.alias("is_held_out"), "label", weight.alias("weight"), *columns)
