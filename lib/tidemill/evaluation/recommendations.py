"""What is recommended against what users came to like: ranking metrics, errors of ratings, and the popular items as a baseline.

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


Best = Callable[["DataFrame", int], "DataFrame"]
"""Users (``user``) and how many items each gets → ``user``, ``item``, ``score``, those seen before among them."""

# Users are asked for together whose numbers of seen items lie within a factor of four.
_STEP, _FEWEST = 4, 64
# The mean rating of an item begins with as many ratings of the average, so that one good rating makes no favourite.
_PRIOR = 5


def pairs(rows: DataFrame, *, is_implicit: bool) -> DataFrame:
    """Return one row a user and item: ``rating`` is the mean of what the rows say, of counts their sum."""
    together = F.sum("rating") if is_implicit else F.avg("rating")
    return rows.groupBy("user", "item").agg(together.alias("rating"))


def least_relevant(train: DataFrame, declared: float | None) -> float:
    """Return from which rating on an item counts as liked: as declared, or the mean of the training ratings."""
    if declared is not None:
        return declared
    row = train.agg(F.avg("rating")).first()
    return math.inf if row is None or row[0] is None else float(row[0])


def relevant_pairs(held_out: DataFrame, train: DataFrame, least: float | None) -> DataFrame:
    """Return ``user`` and ``item`` of what users liked among the held-out pairs and had not had before.

    ``least`` is the least rating that counts; None where the pairs are counts, of which each above 0 counts.
    """
    liked = F.col("rating") > 0 if least is None else F.col("rating") >= least
    return held_out.where(liked).select("user", "item").join(train.select("user", "item"), on=["user", "item"], how="left_anti")


def unseen_top(best: Best, users: DataFrame, seen: DataFrame, k: int) -> DataFrame:
    """Return the best ``k`` items of each user that are not in ``seen``: ``user``, ``item``, ``score``, ``rank`` from 1.

    A user is asked for as many items more as have been seen, rounded up, and those are left out; equal scores go by the item.
    """
    counts = seen.groupBy("user").agg(F.count("*").alias("_seen"))
    step = F.greatest(F.ceil(F.log(float(_STEP), F.greatest(F.col("_seen") / _FEWEST, F.lit(1.0)))), F.lit(0)).cast("int")
    stepped = users.join(counts, on="user", how="left").select("user", F.coalesce(step, F.lit(0)).alias("_step"))
    steps = sorted(row["_step"] for row in stepped.select("_step").distinct().collect()) or [0]
    found = [best(stepped.where(F.col("_step") == step).select("user"), k + _FEWEST * _STEP**step) for step in steps]
    together = reduce(lambda a, b: a.unionByName(b), found)
    return _ranked(together.join(seen.select("user", "item"), on=["user", "item"], how="left_anti"), k)


def top(best: Best, users: DataFrame, k: int) -> DataFrame:
    """Return the best ``k`` items of each user, whatever was seen, as ``unseen_top`` does."""
    return _ranked(best(users, k + _FEWEST), k)


def ranking_metrics(ranked: DataFrame, relevant: DataFrame, k: int) -> dict[str, float]:
    """Return MLlib's ranking metrics at ``k``, the mean over the users of ``relevant``; NaN where there is none.

    A user for whom nothing was recommended counts as 0. An item is relevant or not, so the gain of nDCG is 1 or 0. Where the ids of
    ``relevant`` are of another type, they are taken as ids of the type in ``ranked``; those that are none are unknown.

    Source: RankingEvaluator of MLlib; K. Järvelin and J. Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002.
    """
    ranked, relevant = _alike(ranked, relevant)
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
    wanted = relevant.groupBy("user").agg(F.count("*").alias("wanted"))
    ideal = [sum(1 / math.log(place + 2) for place in range(count)) for count in range(k + 1)]
    best_gain = F.split(F.lit(" ".join(map(repr, ideal))), " ")[F.least(F.col("wanted"), F.lit(k)).cast("int")].cast("double")
    row = (
        wanted.join(of_users, on="user", how="left")
        .agg(
            _mean(F.col("gain") / best_gain).alias("ndcgAtK"),
            _mean(F.col("precisions") / F.least(F.col("wanted"), F.lit(k))).alias("meanAveragePrecisionAtK"),
            _mean(F.col("hits") / k).alias("precisionAtK"),
            _mean(F.col("hits") / F.col("wanted")).alias("recallAtK"),
        )
        .first()
    )
    assert row is not None  # an aggregate without groups always has one row
    return {name: math.nan if value is None else float(value) for name, value in row.asDict().items()}


def rating_metrics(predictions: DataFrame, *, is_implicit: bool) -> dict[str, float]:
    """Return ``rmse`` and ``mae`` of the rows that have a prediction, for ratings alone, and ``coverage``, the share of those rows.

    ``predictions``: ``rating`` and ``prediction`` DOUBLE, null or NaN where the user or the item is not known.
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


def popularity(train: DataFrame, *, is_implicit: bool) -> DataFrame:
    """Return ``item`` and ``score``: its mean rating, begun with five of the overall mean, or the number of users who count above 0."""
    if is_implicit:
        return train.groupBy("item").agg(F.count_if(F.col("rating") > 0).cast("double").alias("score"))
    mean = least_relevant(train, None)
    return train.groupBy("item").agg(((F.sum("rating") + _PRIOR * mean) / (F.count("*") + _PRIOR)).alias("score"))


def popular(items: DataFrame) -> Best:
    """Return what recommends the same items to everybody, those of the greatest ``score``."""

    def best(users: DataFrame, count: int) -> DataFrame:
        return users.crossJoin(F.broadcast(items.orderBy(F.desc("score"), "item").limit(count)))

    return best


def popular_ratings(rows: DataFrame, train: DataFrame, items: DataFrame) -> DataFrame:
    """Return ``rating`` and ``prediction``, the item's score, of rows whose user and item are known, else null."""
    users = train.select("user", F.lit(True).alias("_is_known")).distinct()
    found = rows.join(users, on="user", how="left").join(items, on="item", how="left")
    return found.select("rating", F.when(F.col("_is_known"), F.col("score")).alias("prediction"))


def _alike(ranked: DataFrame, relevant: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Return both with ids of one type, which is text where they had two: so an id that the other type cannot hold is still itself."""
    for name in ("user", "item"):
        kind = ranked.schema[name].dataType
        if relevant.schema[name].dataType != kind:
            same = F.coalesce(F.col(name).try_cast(kind).cast("string"), F.col(name).cast("string"))
            ranked, relevant = ranked.withColumn(name, F.col(name).cast("string")), relevant.withColumn(name, same)
    return ranked, relevant


def _ranked(found: DataFrame, k: int) -> DataFrame:
    place = F.row_number().over(Window.partitionBy("user").orderBy(F.desc("score"), "item"))
    score = F.col("score").cast("double").alias("score")
    return found.select("user", "item", score, place.alias("rank")).where(F.col("rank") <= k)


def _mean(figure: Column) -> Column:
    return F.avg(F.coalesce(figure, F.lit(0.0)))
