"""Metrics of recommendations: ranking metrics, errors of ratings, and the most popular items as a baseline.

Frames are in ids of any type: ``user``, ``item``, and ``rating`` DOUBLE or ``rank`` INT.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


TopItems = Callable[["DataFrame", int], "DataFrame"]
"""Users (``user``) and the number of items for each → ``user``, ``item``, ``score``, including items seen before."""

# Users whose numbers of seen items lie within a factor of four share one call.
_FACTOR, _MIN_ITEMS = 4, 64
# The mean rating of an item starts with this many ratings of the overall mean, so that a single good rating does not put it first.
_PRIOR_RATINGS = 5


def aggregate_pairs(rows: DataFrame, *, is_implicit: bool) -> DataFrame:
    """Return one row per user and item: ``rating`` is the mean of the ratings, or the sum of the counts."""
    together = F.sum("rating") if is_implicit else F.avg("rating")
    return rows.groupBy("user", "item").agg(together.alias("rating"))


def relevance_threshold(train: DataFrame, declared: float | None) -> float:
    """Return the least rating with which an item counts as relevant: as declared, or the mean of the training ratings."""
    if declared is not None:
        return declared
    row = train.agg(F.avg("rating")).first()
    return math.inf if row is None or row[0] is None else float(row[0])


def relevant_pairs(held_out: DataFrame, train: DataFrame, least: float | None) -> DataFrame:
    """Return ``user`` and ``item`` of the held-out pairs that are relevant and not among the training pairs.

    ``least`` is the least relevant rating; None if the pairs are counts, which are relevant above 0.
    """
    liked = F.col("rating") > 0 if least is None else F.col("rating") >= least
    return held_out.where(liked).select("user", "item").join(train.select("user", "item"), on=["user", "item"], how="left_anti")


def top_unseen_items(best: TopItems, users: DataFrame, seen: DataFrame, k: int) -> DataFrame:
    """Return the best ``k`` items of each user that are not in ``seen``: ``user``, ``item``, ``score``, ``rank`` from 1.

    For each user as many more items are requested as the user has seen, rounded up, and the seen ones are left out. Ties go by the item.
    """
    counts = seen.groupBy("user").agg(F.count("*").alias("_seen"))
    step = F.greatest(F.ceil(F.log(float(_FACTOR), F.greatest(F.col("_seen") / _MIN_ITEMS, F.lit(1.0)))), F.lit(0)).cast("int")
    stepped = users.join(counts, on="user", how="left").select("user", F.coalesce(step, F.lit(0)).alias("_step"))
    steps = sorted(row["_step"] for row in stepped.select("_step").distinct().collect()) or [0]
    parts = [best(stepped.where(F.col("_step") == step).select("user"), k + _MIN_ITEMS * _FACTOR**step) for step in steps]
    together = reduce(lambda a, b: a.unionByName(b), parts)
    return _rank_items(together.join(seen.select("user", "item"), on=["user", "item"], how="left_anti"), k)


def top_items(best: TopItems, users: DataFrame, k: int) -> DataFrame:
    """Return the best ``k`` items of each user, seen or not, as ``top_unseen_items`` does."""
    return _rank_items(best(users, k + _MIN_ITEMS), k)


def ranking_metrics(ranked: DataFrame, relevant: DataFrame, k: int) -> dict[str, float]:
    """Return MLlib's ranking metrics at ``k``, the mean over the users of ``relevant``; NaN if there are none.

    A user without recommendations counts as 0. An item is relevant or not, so the gain of nDCG is 1 or 0. Ids of ``relevant`` of another
    type are cast to the type in ``ranked``; ids that cannot be cast are unknown.

    Source: RankingEvaluator of MLlib; K. Järvelin and J. Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002.
    """
    ranked, relevant = _align_id_types(ranked, relevant)
    hits = ranked.where(F.col("rank") <= k).join(relevant, on=["user", "item"], how="inner")
    so_far = F.row_number().over(Window.partitionBy("user").orderBy("rank"))
    of_users = (
        hits.select("user", "rank", so_far.alias("so_far"))
        .groupBy("user")
        .agg(
            F.count("*").alias("hits"),
            F.sum(F.col("so_far") / F.col("rank")).alias("precisions"),
            F.sum(1 / F.log(F.col("rank") + 1.0)).alias("gain"),
        )
    )
    of_relevant = relevant.groupBy("user").agg(F.count("*").alias("relevant"))
    ideal = [sum(1 / math.log(place + 2) for place in range(count)) for count in range(k + 1)]
    best_gain = F.split(F.lit(" ".join(map(repr, ideal))), " ")[F.least(F.col("relevant"), F.lit(k)).cast("int")].cast("double")
    row = (
        of_relevant.join(of_users, on="user", how="left")
        .agg(
            _mean_over_users(F.col("gain") / best_gain).alias("ndcgAtK"),
            _mean_over_users(F.col("precisions") / F.least(F.col("relevant"), F.lit(k))).alias("meanAveragePrecisionAtK"),
            _mean_over_users(F.col("hits") / k).alias("precisionAtK"),
            _mean_over_users(F.col("hits") / F.col("relevant")).alias("recallAtK"),
        )
        .first()
    )
    assert row is not None  # an aggregate without groups always has one row
    return {name: math.nan if value is None else float(value) for name, value in row.asDict().items()}


def rating_metrics(predictions: DataFrame, *, is_implicit: bool) -> dict[str, float]:
    """Return ``coverage``, the share of rows that have a prediction, and for ratings the ``rmse`` and ``mae`` of those rows.

    ``predictions``: ``rating`` and ``prediction`` DOUBLE, null or NaN where the user or the item is unknown.
    """
    error = F.when(~F.isnan("prediction"), F.col("prediction") - F.col("rating"))
    row = predictions.agg(
        F.count("*").alias("rows"),
        F.count(error).alias("known"),
        F.avg(error * error).alias("squares"),
        F.avg(F.abs(error)).alias("absolutes"),
    ).first()
    assert row is not None  # as above
    coverage = {"coverage": row["known"] / row["rows"] if row["rows"] else math.nan}
    if is_implicit:
        return coverage
    known = row["known"] > 0
    return {"rmse": math.sqrt(row["squares"]) if known else math.nan, "mae": row["absolutes"] if known else math.nan, **coverage}


def popularity_scores(train: DataFrame, *, is_implicit: bool) -> DataFrame:
    """Return ``item`` and ``score``: the mean rating, smoothed towards the overall mean, or the number of users with a count above 0."""
    if is_implicit:
        return train.groupBy("item").agg(F.count_if(F.col("rating") > 0).cast("double").alias("score"))
    mean = relevance_threshold(train, None)
    return train.groupBy("item").agg(((F.sum("rating") + _PRIOR_RATINGS * mean) / (F.count("*") + _PRIOR_RATINGS)).alias("score"))


def recommend_popular(items: DataFrame) -> TopItems:
    """Return a function that recommends the items of the greatest ``score`` to every user."""

    def best(users: DataFrame, count: int) -> DataFrame:
        return users.crossJoin(F.broadcast(items.orderBy(F.desc("score"), "item").limit(count)))

    return best


def predict_popular_ratings(rows: DataFrame, train: DataFrame, items: DataFrame) -> DataFrame:
    """Return ``rating`` and ``prediction``: the item's score where user and item are known, else null."""
    users = train.select("user", F.lit(True).alias("_is_known")).distinct()
    with_scores = rows.join(users, on="user", how="left").join(items, on="item", how="left")
    return with_scores.select("rating", F.when(F.col("_is_known"), F.col("score")).alias("prediction"))


def _align_id_types(ranked: DataFrame, relevant: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Return both with ids of one type: as text where the types differ, so that an id that cannot be cast keeps its value."""
    for name in ("user", "item"):
        kind = ranked.schema[name].dataType
        if relevant.schema[name].dataType != kind:
            same = F.coalesce(F.col(name).try_cast(kind).cast("string"), F.col(name).cast("string"))
            ranked, relevant = ranked.withColumn(name, F.col(name).cast("string")), relevant.withColumn(name, same)
    return ranked, relevant


def _rank_items(scored: DataFrame, k: int) -> DataFrame:
    place = F.row_number().over(Window.partitionBy("user").orderBy(F.desc("score"), "item"))
    score = F.col("score").cast("double").alias("score")
    return scored.select("user", "item", score, place.alias("rank")).where(F.col("rank") <= k)


def _mean_over_users(figure: Column) -> Column:
    return F.avg(F.coalesce(figure, F.lit(0.0)))
