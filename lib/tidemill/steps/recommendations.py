"""The table of what is recommended to whom."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.caching import cached
from tidemill.columns import column
from tidemill.training.recommendation.recommend import recommend

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel

    from tidemill.registry import Manifest
    from tidemill.steps.result import StepContext


def write_recommendations(context: StepContext, model: PipelineModel, manifest: Manifest) -> tuple[int, int]:
    """Write ``gold.<pipeline>_recommendations``: for each user of the model the best items; return the table's version and the rows.

    One row per (user, rank, model_version): the user's and the item's column, each in its own type, ``rank`` INT from 1, ``score``,
    ``model_version``, ``run_id``, ``scored_at``. What a user has in any row of the dataset, of whatever split and labelled or not, is left
    out, unless ``scoring.seen``. The rows of the version are replaced in one commit, so that a repeat gives the same.
    """
    pipeline = context.spec.pipeline
    user, item = manifest.feature_columns
    dataset = context.lake.read(context.spark, pipeline.dataset_table, context.inputs[pipeline.dataset_table])
    seen = None if pipeline.scoring.seen else dataset.select(column(user).alias("user"), column(item).alias("item"))
    found = recommend(model, pipeline.training.items_each, seen=seen).select(
        F.col("user").alias(user),
        "rank",
        F.col("item").alias(item),
        "score",
        F.lit(manifest.version).cast("int").alias("model_version"),
        F.lit(context.run_id).alias("run_id"),
        F.lit(datetime.now(UTC)).alias("scored_at"),
    )
    with cached(found) as rows:
        count = rows.count()
        meta = context.meta(model_version=manifest.version)
        where = f"model_version = {manifest.version}"
        return context.lake.replace_where(rows, pipeline.recommendations_table, where=where, meta=meta), count
