"""The vectors of each fold: features fitted on its training rows once, and what they make of all its rows, for either engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pyspark.ml import PipelineModel
from pyspark.sql import functions as F

from tidemill.caching import cached
from tidemill.errors import StepError
from tidemill.features import FeaturePlan, feature_pipeline, max_categories, nominal_slots
from tidemill.features.names import PART
from tidemill.spark_errors import sentence
from tidemill.training.tasks.copy import Copy, TooLarge, write_copy

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from tidemill.training.balance import Balance
    from tidemill.training.problem import Problem

Made = TypeVar("Made")

WEIGHT = "_weight"
ORDER = "_order"
"""The column by which the rows of a copy are sorted: a hash of the key, so that the first rows are a sample in every layout."""


@dataclass(frozen=True)
class Vectors:
    """The vectors of one fold in Spark, cached: ``label``, ``_order`` and ``features_<encoding>``."""

    train: DataFrame
    held_out: DataFrame
    max_categories: int


@dataclass(frozen=True)
class CopiedVectors:
    """The vectors of one fold in files, and which slots of the trees' are categories."""

    copy: Copy
    nominal: Mapping[int, int]


class Folds:
    """Makes the vectors of a fold when they are first wanted, for each engine its own, and frees them when told to.

    ``encodings`` are those that each engine needs. ``fits`` counts the feature pipelines that were fitted.
    """

    def __init__(
        self,
        frame: DataFrame,
        plan: FeaturePlan,
        encodings: Mapping[str, Collection[str]],
        problem: Problem,
        *,
        scratch: str = "",
        most_bytes: int = 0,
    ) -> None:
        """Remember what to make; nothing is made yet."""
        self._frame, self._plan, self._is_expanding, self._balance = frame, plan, problem.is_expanding, problem.balance
        self.encodings = {engine: sorted(wanted) for engine, wanted in encodings.items()}
        self._scratch, self._most_bytes = scratch, most_bytes
        self._locks: dict[int, threading.Lock] = {}
        self._lock = threading.Lock()
        self._features: dict[int, PipelineModel] = {}
        self._vectors: dict[int, Vectors] = {}
        self._copies: dict[int, CopiedVectors] = {}
        self._held: dict[int, ExitStack] = {}
        self.fits = 0

    def prepare(self, number: int) -> None:
        """Fit the features of a fold ahead of what they are for."""
        with self._locked(number):
            self._made(self._fitted, number)

    def vectors(self, number: int) -> Vectors:
        """Return the vectors of a fold for MLlib."""
        with self._locked(number):
            if number not in self._vectors:
                self._vectors[number] = self._made(self._cache, number)
            return self._vectors[number]

    def copied(self, number: int) -> CopiedVectors:
        """Return the vectors of a fold for tasks.

        Raises:
            TooLarge: they take more than a copy may.
        """
        with self._locked(number):
            if number not in self._copies:
                self._copies[number] = self._made(self._copy, number)
            return self._copies[number]

    def free(self, number: int) -> None:
        """Let go of a fold's vectors."""
        with self._locked(number):
            self._vectors.pop(number, None)
            self._copies.pop(number, None)
            self._features.pop(number, None)
            held = self._held.pop(number, None)
        if held:
            held.close()

    def close(self) -> None:
        """Let go of all of them."""
        for number in list(self._held):
            self.free(number)

    def _locked(self, number: int) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(number, threading.Lock())

    def _made(self, make: Callable[[int], Made], number: int) -> Made:
        """Return what ``make`` gives for a fold, whose number its failure names."""
        try:
            return make(number)
        except TooLarge:
            raise
        except Exception as error:
            raise StepError(f"train: the features cannot be fitted on the training rows of fold {number}: {sentence(error)}") from error

    def _train(self, number: int) -> DataFrame:
        return self._frame.where(F.col("fold") < number if self._is_expanding else F.col("fold") != number)

    def _fitted(self, number: int) -> PipelineModel:
        if number not in self._features:
            wanted = sorted({encoding for encodings in self.encodings.values() for encoding in encodings})
            self._features[number] = feature_pipeline(self._plan, wanted).fit(self._train(number))
            with self._lock:
                self.fits += 1
        return self._features[number]

    def _cache(self, number: int) -> Vectors:
        features = self._fitted(number)
        order = [ORDER] if ORDER in self._frame.columns else []
        columns = ["label", *order, *(f"features_{encoding}" for encoding in self.encodings["spark"])]
        train = balanced(features.transform(self._train(number)), self._balance, columns)
        held_out = features.transform(self._frame.where(F.col("fold") == number).drop(PART)).select(columns)
        with ExitStack() as held:
            held.enter_context(cached(train))
            held.enter_context(cached(held_out))
            train.count()
            self._held.setdefault(number, ExitStack()).push(held.pop_all())
        return Vectors(train, held_out, max_categories(features))

    def _copy(self, number: int) -> CopiedVectors:
        features = self._fitted(number)
        # Rows without a fold serve the final fit alone; where folds expand, those behind the fold have not happened yet.
        rows = self._frame.where(F.col("fold") <= number) if self._is_expanding else self._frame.where(F.col("fold").isNotNull())
        if PART in rows.columns:  # those of the fold were not in the fit, so that they lie in no part of it
            rows = rows.withColumn(PART, F.when(F.col("fold") != number, F.col(PART)))
        encodings = self.encodings["tasks"]
        vectors = copyable(features.transform(rows), F.col("fold") == number, self._balance, encodings)
        copy = write_copy(vectors, self._scratch, encodings, self._most_bytes)
        self._held.setdefault(number, ExitStack()).callback(copy.remove)
        return CopiedVectors(copy, nominal_slots(features) if "tree" in encodings else {})


def balanced(vectors: DataFrame, balance: Balance | None, columns: Sequence[str]) -> DataFrame:
    """Return ``columns`` of the rows that are learned from, and where rows have weights their ``_weight``."""
    if balance is None:
        return vectors.select(*columns)
    if balance.kind == "undersample":
        return vectors.where(balance.kept("label", ORDER)).select(*columns)
    return vectors.select(*columns, balance.weight("label").alias(WEIGHT))


def copyable(vectors: DataFrame, is_held_out: Column, balance: Balance | None, encodings: Sequence[str]) -> DataFrame:
    """Return the columns of a copy; of the rows to be learned from those that ``balance`` keeps."""
    kept = vectors
    if balance is not None and balance.kind == "undersample":
        kept = vectors.where(is_held_out | balance.kept("label", ORDER))
    weight = balance.weight("label") if balance is not None and balance.kind == "weights" else F.lit(1.0)
    columns = [f"features_{encoding}" for encoding in encodings]
    return kept.select(F.col(ORDER).alias("order"), is_held_out.alias("is_held_out"), "label", weight.alias("weight"), *columns)
