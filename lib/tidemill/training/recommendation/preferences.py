"""What the rows of a recommendation mean, and what of them a model is fitted on and judged by."""

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


_FEWEST_BLOCKS, _MOST_BLOCKS, _PAIRS_A_BLOCK = 2, 10, 50_000


@dataclass(frozen=True)
class Preferences:
    """The columns, and how they are to be taken.

    ``label`` is the rating, or with ``is_implicit`` a count; ``k`` items are recommended; ``relevant`` is the least rating that counts as
    liked, None for the mean of the training ratings.
    """

    user: str
    item: str
    label: str
    is_implicit: bool = False
    k: int = 10
    relevant: float | None = None

    @classmethod
    def of(cls, training: Training, dataset: Dataset) -> Preferences:
        """Return those that a spec declares."""
        return cls(
            str(training.user), str(training.item), str(dataset.label), training.implicit or False, training.items_each, training.relevant
        )

    def rows(self, rows: DataFrame, *more: str) -> DataFrame:
        """Return ``user``, ``item``, ``rating`` DOUBLE and ``more`` of the rows that have all three."""
        user, item, rating = column(self.user), column(self.item), column(self.label).cast("double")
        named = rows.select(user.alias("user"), item.alias("item"), rating.alias("rating"), *[column(name) for name in more])
        return named.where(F.col("user").isNotNull() & F.col("item").isNotNull() & F.col("rating").isNotNull() & ~F.isnan("rating"))

    def pairs(self, rows: DataFrame) -> DataFrame:
        """Return one row a user and item, as `tidemill.evaluation.recommendations.pairs`."""
        return aggregate_pairs(rows, is_implicit=self.is_implicit)

    def relevant_pairs(self, held_out: DataFrame, train: DataFrame) -> DataFrame:
        """Return what users liked among the held-out rows and had not had in the pairs of the training."""
        least = None if self.is_implicit else relevance_threshold(train, self.relevant)
        return relevant_pairs(self.pairs(held_out), train, least)


@dataclass(frozen=True)
class RatingVectors:
    """One fold, in numbers of ids: the training's pairs, the held-out rows, and what users liked of them."""

    train: DataFrame
    held_out: DataFrame
    relevant: DataFrame


def fit(pairs_: DataFrame, params: Mapping[str, Scalar], problem: Problem, *, is_implicit: bool) -> ALSModel:
    """Fit ALS on ``user`` and ``item`` INT and ``rating`` DOUBLE, in an order that the layout of the data does not decide."""
    family = find_family("als", problem.task)
    estimator = family.build_estimator(params, task=problem.task, n_classes=0, seed=problem.seed, max_categories=0)
    assert isinstance(estimator, ALS)
    # Few pairs in many blocks are many tasks of nothing each; MLlib's own ten are taken from half a million pairs on.
    blocks = min(_MOST_BLOCKS, max(_FEWEST_BLOCKS, pairs_.count() // _PAIRS_A_BLOCK))
    for name in {"numUserBlocks", "numItemBlocks"} - set(params):
        estimator.set(estimator.getParam(name), blocks)
    ordered = pairs_.repartition("user").sortWithinPartitions("user", "item")
    named = ordered.select(F.col("user").alias(USER), F.col("item").alias(ITEM), F.col("rating").alias(RATING))
    return estimator.setImplicitPrefs(is_implicit).fit(named)


def forget(model: ALSModel) -> None:
    """Free the vectors of a model that is not used any more: MLlib persists them as RDDs, which it leaves to its garbage collection.

    Spark Connect shows no RDD, so that there it is left at that.
    """
    if is_remote():
        return
    for factors in (model.userFactors, model.itemFactors):
        rdd = factors._jdf.queryExecution().toRdd()
        while not rdd.getStorageLevel().isValid() and not rdd.dependencies().isEmpty():
            rdd = rdd.dependencies().head().rdd()
        rdd.unpersist(False)


def with_order(pairs_: DataFrame) -> DataFrame:
    """Add the column by which the first pairs are a sample."""
    return pairs_.withColumn(ORDER, F.xxhash64("user", "item"))


def best_of(model: ALSModel) -> TopItems:
    """Return what recommends by the products of the model's vectors, block by block."""

    def best(users: DataFrame, count: int) -> DataFrame:
        found = model.recommendForUserSubset(users.select(F.col("user").alias(USER)), count)
        each = found.select(F.col(USER).alias("user"), F.explode("recommendations").alias("one"))
        return each.select("user", F.col(f"one.{ITEM}").alias("item"), F.col("one.rating").alias("score"))

    return best


def measure(model: ALSModel, fold: RatingVectors, preferences: Preferences, metrics: Sequence[str]) -> dict[str, float]:
    """Return the ranking metrics or the errors of a fold, as far as ``metrics`` asks for them."""
    found: dict[str, float] = {}
    if any(name in RANKING for name in metrics):
        users = fold.relevant.select("user").distinct()
        ranked = top_unseen_items(best_of(model), users, fold.train, preferences.k)
        found |= ranking_metrics(ranked, fold.relevant, preferences.k)
    if any(name not in RANKING for name in metrics):
        named = fold.held_out.select(F.col("user").alias(USER), F.col("item").alias(ITEM), "rating")
        predicted = model.transform(named).select("rating", F.col("prediction").cast("double").alias("prediction"))
        found |= rating_metrics(predicted, is_implicit=preferences.is_implicit)
    return found
