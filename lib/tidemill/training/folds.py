"""The vectors of each fold: features fitted on its training rows once, and what they make of all its rows, for either engine."""

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
from tidemill.training.engines.fold_matrix import Copy, TooLarge, write_copy
from tidemill.training.fit_limits import call_within_feature_limit, limit_custom_stages
from tidemill.training.monotone import directions

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from tidemill.training.balance import Balance
    from tidemill.training.problem import Problem

logger = logging.getLogger(__name__)


Made = TypeVar("Made")

WEIGHT = "_tidemill_row_weight"
"""What a row counts for: in the frame to train on its own weight, in vectors to learn from that times the one of its class."""
ORDER = "_tidemill_row_order"
"""The column by which the rows of a copy are sorted: a hash of the key, so that the first rows are a sample in every layout."""


NO_VARIANT = "{}"
"""The name of the features as they are declared."""


class Place(NamedTuple):
    """A fold, and the variant of the features."""

    fold: int
    variant: str = NO_VARIANT


@dataclass(frozen=True)
class Vectors:
    """The vectors of one fold in Spark, cached: ``label``, ``_order``, ``features_<encoding>`` and, where rows have one, ``_weight``."""

    train: DataFrame
    held_out: DataFrame
    max_categories: int
    monotone: tuple[int, ...] = ()


@dataclass(frozen=True)
class CopiedVectors:
    """The vectors of one fold in files, which slots of the trees' are categories, and which way predictions may go with each."""

    copy: Copy
    nominal: Mapping[int, int]
    monotone: tuple[int, ...] = ()


class Folds:
    """Makes the vectors of a fold when they are first wanted, for each engine its own, and frees them when told to.

    ``plan_of`` gives the features of a variant by its name (`Trial.variant`); the variants of a fold share what they learn alike.
    ``encodings`` are those that each engine needs. ``fits`` counts the feature pipelines that were fitted, ``asked`` and ``learnt`` the
    things that these wanted to know of the rows, and those of them that no variant before had learnt. Where stages of the user's own are
    among the features, those of a fold, and the vectors that they make, may take ``limit`` seconds each.
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
        """Remember what to make; nothing is made yet."""
        self._limit = limit
        self._frame, self._plan_of, self._is_expanding, self._balance = frame, plan_of, problem.is_expanding, problem.balance
        self._monotone = problem.monotone
        self.encodings = {engine: sorted(wanted) for engine, wanted in encodings.items()}
        self._scratch, self._most_bytes = scratch, most_bytes
        self._locks: dict[Place, threading.Lock] = {}
        self._lock = threading.Lock()
        self._memos: dict[int, FitCache] = {}
        self._together: FoldStatistics | None = None
        self.of_all_rows = FitCache()
        self._features: dict[Place, PipelineModel] = {}
        self._vectors: dict[Place, Vectors] = {}
        self._copies: dict[Place, CopiedVectors] = {}
        self._held: dict[Place, ExitStack] = {}
        self.fits = 0

    @property
    def asked(self) -> int:
        """How many things were to be learnt of the rows of the folds."""
        return sum(memo.requests for memo in self._memos.values())

    @property
    def learnt(self) -> int:
        """How many of them had to be."""
        return sum(memo.misses for memo in self._memos.values())

    def expect(self, folds: Sequence[int]) -> None:
        """Know which folds are to come: what their features ask of the rows is learnt of all of them at once.

        What it says of all rows is kept in ``of_all_rows``, for the fit behind the search.
        """
        if len(folds) > 1:
            self._together = FoldStatistics(self._frame, folds, is_expanding=self._is_expanding)
            self.of_all_rows = FitCache(self._together, ALL_ROWS, self._all_encodings)

    def prepare(self, place: Place) -> None:
        """Fit the features of a fold ahead of what they are for."""
        with self._locked(place):
            self._made(self._fitted, place)

    def vectors(self, place: Place) -> Vectors:
        """Return the vectors of a fold for MLlib."""
        with self._locked(place):
            if place not in self._vectors:
                self._vectors[place] = self._made(self._cache, place)
            return self._vectors[place]

    def copied(self, place: Place) -> CopiedVectors:
        """Return the vectors of a fold for tasks.

        Raises:
            TooLarge: they take more than a copy may.
        """
        with self._locked(place):
            if place not in self._copies:
                self._copies[place] = self._made(self._copy, place)
            return self._copies[place]

    def free(self, place: Place) -> None:
        """Let go of the vectors of a fold."""
        with self._locked(place):
            self._vectors.pop(place, None)
            self._copies.pop(place, None)
            self._features.pop(place, None)
            held = self._held.pop(place, None)
        if held:
            held.close()

    def close(self) -> None:
        """Let go of all of them."""
        for place in list(self._held):
            self.free(place)

    @property
    def _all_encodings(self) -> list[str]:
        return sorted({encoding for encodings in self.encodings.values() for encoding in encodings})

    def _locked(self, place: Place) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(place, threading.Lock())

    def _made(self, make: Callable[[Place], Made], place: Place) -> Made:
        """Return what ``make`` gives for a fold, whose number its failure names."""
        try:
            with contain_exit("a stage of the features"):
                return call_within_feature_limit(self._frame.sparkSession, self._limit, self._plan_of(place.variant), lambda: make(place))
        except TooLarge:
            raise
        except Exception as error:
            told = "" if place.variant == NO_VARIANT else f" with {place.variant}"
            rows = f"the training rows of fold {place.fold}"
            raise StepError(f"train: the features{told} cannot be fitted on {rows}: {format_spark_error(error)}") from error

    def _train(self, number: int) -> DataFrame:
        return self._frame.where(F.col("fold") < number if self._is_expanding else F.col("fold") != number)

    def _fitted(self, place: Place) -> PipelineModel:
        if place not in self._features:
            with self._lock:
                memo = self._memos.setdefault(place.fold, FitCache(self._together, place.fold))
            features = feature_pipeline(limit_custom_stages(self._plan_of(place.variant), self._limit), self._all_encodings, memo)
            self._features[place] = features.fit(self._train(place.fold))
            logger.info("features are fitted on the training rows of fold %d", place.fold)
            with self._lock:
                self.fits += 1
        return self._features[place]

    def _cache(self, place: Place) -> Vectors:
        features, number = self._fitted(place), place.fold
        order = [ORDER] if ORDER in self._frame.columns else []
        columns = ["label", *order, *(f"features_{encoding}" for encoding in self.encodings["spark"])]
        train = balanced(features.transform(self._train(number)), self._balance, columns)
        weight = [WEIGHT] if WEIGHT in self._frame.columns else []
        held_out = features.transform(self._frame.where(F.col("fold") == number).drop(PART)).select(*columns, *weight)
        with ExitStack() as held:
            held.enter_context(cache_frame(train))
            held.enter_context(cache_frame(held_out))
            train.count()
            self._held.setdefault(place, ExitStack()).push(held.pop_all())
        return Vectors(train, held_out, max_categories(features), directions(features, self._monotone))

    def _copy(self, place: Place) -> CopiedVectors:
        features, number = self._fitted(place), place.fold
        # Rows without a fold serve the final fit alone; where folds expand, those behind the fold have not happened yet.
        rows = self._frame.where(F.col("fold") <= number) if self._is_expanding else self._frame.where(F.col("fold").isNotNull())
        if PART in rows.columns:  # those of the fold were not in the fit, so that they lie in no part of it
            rows = rows.withColumn(PART, F.when(F.col("fold") != number, F.col(PART)))
        encodings = self.encodings["tasks"]
        vectors = copyable(features.transform(rows), F.col("fold") == number, self._balance, encodings)
        copy = write_copy(vectors, self._scratch, encodings, self._most_bytes)
        self._held.setdefault(place, ExitStack()).callback(copy.remove)
        if "tree" not in encodings:
            return CopiedVectors(copy, {})
        return CopiedVectors(copy, nominal_slots(features), directions(features, self._monotone))


def balanced(vectors: DataFrame, balance: Balance | None, columns: Sequence[str]) -> DataFrame:
    """Return ``columns`` of the rows that are learned from, and where rows have weights their ``_weight``."""
    own = [WEIGHT] if WEIGHT in vectors.columns else []
    if balance is None:
        return vectors.select(*columns, *own)
    if balance.kind == "undersample":
        return vectors.where(balance.kept("label", ORDER)).select(*columns, *own)
    return vectors.select(*columns, _weight(vectors, balance).alias(WEIGHT))


def _weight(vectors: DataFrame, balance: Balance | None) -> Column:
    """Return what a row to be learned from counts for: its own weight, times that of its class."""
    own = F.col(WEIGHT) if WEIGHT in vectors.columns else F.lit(1.0)
    return own * balance.weight("label") if balance is not None and balance.kind == "weights" else own


def copyable(vectors: DataFrame, is_held_out: Column, balance: Balance | None, encodings: Sequence[str]) -> DataFrame:
    """Return the columns of a copy; of the rows to be learned from those that ``balance`` keeps. Others have their own weight."""
    kept = vectors
    if balance is not None and balance.kind == "undersample":
        kept = vectors.where(is_held_out | balance.kept("label", ORDER))
    weight = F.when(is_held_out, _weight(vectors, None)).otherwise(_weight(vectors, balance))
    columns = [f"features_{encoding}" for encoding in encodings]
    return kept.select(F.col(ORDER).alias("order"), is_held_out.alias("is_held_out"), "label", weight.alias("weight"), *columns)
