"""Recommendations of a saved model: the best items of each user, with the ids of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pyspark.ml.recommendation import ALSModel
from pyspark.sql import functions as F

from tidemill.evaluation.recommendations import top_items, top_unseen_items
from tidemill.training.recommendation.ids import KnownIds
from tidemill.training.recommendation.preferences import make_recommender

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import Column, DataFrame


def recommend(model: PipelineModel, k: int, *, seen: DataFrame | None, users: DataFrame | None = None) -> DataFrame:
    """Return ``user``, ``rank`` INT from 1, ``item``, ``score`` DOUBLE: the best ``k`` items of each user that the model knows.

    ``seen`` holds the pairs ``user`` and ``item`` to leave out, None for none; ``users`` (``user``) the users to recommend for, None for
    all. Ids are cast to the types of the model; an id that cannot be cast is unknown.
    """
    ids, als = cast("KnownIds", model.stages[0]), cast("ALSModel", model.stages[-1])
    selected_users = ids.users
    if users is not None:
        selected_users = selected_users.join(users.select(_cast_id("user", ids.users).alias("id")).distinct(), on="id", how="left_semi")
    numbers = selected_users.select(F.col("number").alias("user"))
    best = make_recommender(als)
    ranked = top_items(best, numbers, k) if seen is None else top_unseen_items(best, numbers, _to_numbers(seen, ids), k)
    user_ids = ids.users.select(F.col("number").alias("user"), F.col("id").alias("user_id"))
    item_ids = ids.items.select(F.col("number").alias("item"), F.col("id").alias("item_id"))
    named = ranked.join(user_ids, on="user", how="inner").join(item_ids, on="item", how="inner")
    return named.select(F.col("user_id").alias("user"), "rank", F.col("item_id").alias("item"), "score")


def _to_numbers(pairs: DataFrame, ids: KnownIds) -> DataFrame:
    """Return the pairs of known ids, as numbers."""
    users = ids.users.select(F.col("id").alias("user"), F.col("number").alias("_user"))
    items = ids.items.select(F.col("id").alias("item"), F.col("number").alias("_item"))
    cast_pairs = pairs.select(_cast_id("user", ids.users).alias("user"), _cast_id("item", ids.items).alias("item")).distinct()
    known = cast_pairs.join(users, on="user", how="inner").join(items, on="item", how="inner")
    return known.select(F.col("_user").alias("user"), F.col("_item").alias("item"))


def _cast_id(name: str, known: DataFrame) -> Column:
    return F.col(name).try_cast(known.schema["id"].dataType)
