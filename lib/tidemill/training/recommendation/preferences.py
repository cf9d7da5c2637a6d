"""Preferences of users for items: the columns of a recommendation dataset, the fit of ALS, and its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.ml.recommendation import ALS, ALSModel
from pyspark.sql import functions as F
from pyspark.sql.utils import is_remote

from tidemill.columns import column
from tidemill.evaluation.recommendations import (
    TopItems,
    aggregate_pairs,
    ranking_metrics,
    rating_metrics,
    relevance_threshold,
    relevant_pairs,
    top_unseen_items,
)
from tidemill.families import find_family
from tidemill.families.built_in.recommenders import ITEM, RATING, USER
from tidemill.spec.models import Scalar
from tidemill.tasks import RANKING
from tidemill.training.folds import ORDER

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tidemill.spec.models import Dataset, Training
    from tidemill.training.problem import Problem


_MIN_BLOCKS, _MAX_BLOCKS, _PAIRS_PER_BLOCK = 2, 10, 50_000


@dataclass(frozen=True)
class Preferences:
    """The columns of a recommendation dataset, and their meaning.

    ``label`` is a rating, or with ``is_implicit`` a count; ``k`` items are recommended; ``relevant`` is the least rating of a relevant
    item, None for the mean of the training ratings.
    """

    user: str
    item: str
    label: str
    is_implicit: bool = False
    k: int = 10
    relevant: float | None = None

    @classmethod
    def of(cls, training: Training, dataset: Dataset) -> Preferences:
        """Return the preferences that a spec declares."""
        return cls(
            str(training.user), str(training.item), str(dataset.label), training.implicit or False, training.items_each, training.relevant
        )

    def rows(self, rows: DataFrame, *more: str) -> DataFrame:
        """Return ``user``, ``item``, ``rating`` DOUBLE and ``more`` of the rows that have all three."""
        user, item, rating = column(self.user), column(self.item), column(self.label).cast("double")
        renamed = rows.select(user.alias("user"), item.alias("item"), rating.alias("rating"), *[column(name) for name in more])
        return renamed.where(F.col("user").isNotNull() & F.col("item").isNotNull() & F.col("rating").isNotNull() & ~F.isnan("rating"))

    def pairs(self, rows: DataFrame) -> DataFrame:
        """Return one row per user and item; see `tidemill.evaluation.recommendations.aggregate_pairs`."""
        return aggregate_pairs(rows, is_implicit=self.is_implicit)

    def relevant_pairs(self, held_out: DataFrame, train: DataFrame) -> DataFrame:
        """Return the relevant held-out pairs that are not among the training pairs."""
        least = None if self.is_implicit else relevance_threshold(train, self.relevant)
        return relevant_pairs(self.pairs(held_out), train, least)


@dataclass(frozen=True)
class RatingVectors:
    """One fold, with numbered ids: the training pairs, the held-out rows, and the relevant pairs among them."""

    train: DataFrame
    held_out: DataFrame
    relevant: DataFrame


def fit_als(pairs_: DataFrame, params: Mapping[str, Scalar], problem: Problem, *, is_implicit: bool) -> ALSModel:
    """Fit ALS on ``user`` and ``item`` INT and ``rating`` DOUBLE, in an order that does not depend on the layout of the data."""
    family = find_family("als", problem.task)
    estimator = family.build_estimator(params, task=problem.task, n_classes=0, seed=problem.seed, max_categories=0)
    assert isinstance(estimator, ALS)
    # Few pairs in many blocks would be many nearly empty Spark tasks; MLlib's default of ten is used from half a million pairs.
    blocks = min(_MAX_BLOCKS, max(_MIN_BLOCKS, pairs_.count() // _PAIRS_PER_BLOCK))
    for name in {"numUserBlocks", "numItemBlocks"} - set(params):
        estimator.set(estimator.getParam(name), blocks)
    ordered = pairs_.repartition("user").sortWithinPartitions("user", "item")
    renamed = ordered.select(F.col("user").alias(USER), F.col("item").alias(ITEM), F.col("rating").alias(RATING))
    return estimator.setImplicitPrefs(is_implicit).fit(renamed)


def unpersist_factors(model: ALSModel) -> None:
    """Unpersist the factors of a model that is no longer used; MLlib leaves their cached RDDs to garbage collection.

    Spark Connect gives no access to RDDs, so nothing is freed there.
    """
    if is_remote():
        return
    for factors in (model.userFactors, model.itemFactors):
        rdd = factors._jdf.queryExecution().toRdd()
        while not rdd.getStorageLevel().isValid() and not rdd.dependencies().isEmpty():
            rdd = rdd.dependencies().head().rdd()
        rdd.unpersist(False)


def add_order(pairs_: DataFrame) -> DataFrame:
    """Add a hash of user and item: the first pairs in its order are a sample."""
    return pairs_.withColumn(ORDER, F.xxhash64("user", "item"))


def make_recommender(model: ALSModel) -> TopItems:
    """Return a function that recommends the items of the greatest predictions, by MLlib's block-wise products of factors."""

    def best(users: DataFrame, count: int) -> DataFrame:
        recommendations = model.recommendForUserSubset(users.select(F.col("user").alias(USER)), count)
        each = recommendations.select(F.col(USER).alias("user"), F.explode("recommendations").alias("one"))
        return each.select("user", F.col(f"one.{ITEM}").alias("item"), F.col("one.rating").alias("score"))

    return best


def compute_fold_metrics(model: ALSModel, fold: RatingVectors, preferences: Preferences, metrics: Sequence[str]) -> dict[str, float]:
    """Compute the ranking and rating metrics of a fold that ``metrics`` names."""
    values: dict[str, float] = {}
    if any(name in RANKING for name in metrics):
        users = fold.relevant.select("user").distinct()
        ranked = top_unseen_items(make_recommender(model), users, fold.train, preferences.k)
        values |= ranking_metrics(ranked, fold.relevant, preferences.k)
    if any(name not in RANKING for name in metrics):
        renamed = fold.held_out.select(F.col("user").alias(USER), F.col("item").alias(ITEM), "rating")
        predicted = model.transform(renamed).select("rating", F.col("prediction").cast("double").alias("prediction"))
        values |= rating_metrics(predicted, is_implicit=preferences.is_implicit)
    return values
