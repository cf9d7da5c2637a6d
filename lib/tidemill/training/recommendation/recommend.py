"""What a saved model recommends: the best items of each user, in the ids of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pyspark.ml.recommendation import ALSModel
from pyspark.sql import functions as F

from tidemill.evaluation.recommendations import top_items, top_unseen_items
from tidemill.training.recommendation.ids import KnownIds
from tidemill.training.recommendation.preferences import best_of

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import Column, DataFrame


def recommend(model: PipelineModel, k: int, *, seen: DataFrame | None, users: DataFrame | None = None) -> DataFrame:
    """Return ``user``, ``rank`` INT from 1, ``item``, ``score`` DOUBLE: the best ``k`` items of each user that the model knows.

    ``seen`` are the pairs ``user`` and ``item`` to leave out, None for none; ``users`` (``user``) those who are asked for, None for all.
    Their ids are cast to the types that the model knows; what is no id of such a type is not known.
    """
    ids, als = cast("KnownIds", model.stages[0]), cast("ALSModel", model.stages[-1])
    asked = ids.users
    if users is not None:
        asked = asked.join(users.select(_as_known("user", ids.users).alias("id")).distinct(), on="id", how="left_semi")
    numbers = asked.select(F.col("number").alias("user"))
    best = best_of(als)
    ranked = top_items(best, numbers, k) if seen is None else top_unseen_items(best, numbers, _numbered(seen, ids), k)
    user_ids = ids.users.select(F.col("number").alias("user"), F.col("id").alias("user_id"))
    item_ids = ids.items.select(F.col("number").alias("item"), F.col("id").alias("item_id"))
    named = ranked.join(user_ids, on="user", how="inner").join(item_ids, on="item", how="inner")
    return named.select(F.col("user_id").alias("user"), "rank", F.col("item_id").alias("item"), "score")


def _numbered(pairs: DataFrame, ids: KnownIds) -> DataFrame:
    """Return the pairs whose ids the model knows, as numbers."""
    users = ids.users.select(F.col("id").alias("user"), F.col("number").alias("_user"))
    items = ids.items.select(F.col("id").alias("item"), F.col("number").alias("_item"))
    given = pairs.select(_as_known("user", ids.users).alias("user"), _as_known("item", ids.items).alias("item")).distinct()
    known = given.join(users, on="user", how="inner").join(items, on="item", how="inner")
    return known.select(F.col("_user").alias("user"), F.col("_item").alias("item"))


def _as_known(name: str, known: DataFrame) -> Column:
    return F.col(name).try_cast(known.schema["id"].dataType)
