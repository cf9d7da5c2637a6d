"""Contributions of raw columns to single predictions: exact for trees and linear models, sampled Shapley values for any other model.

Both are computed by Spark tasks, for any number of rows.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.ml import PipelineModel
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F

from tidemill.column_names import INTERNAL
from tidemill.columns import column
from tidemill.errors import UsageError
from tidemill.evaluation.shapley import HYBRID, OUTPUTS, ROW, ShapleyDesign, build_hybrids, weigh_hybrids
from tidemill.exact_cast import exact_cast
from tidemill.features import slot_names
from tidemill.features.text.arrow import sparse_parts, vector_size
from tidemill.learners.contributions import ContributionStage, ExactContributions, explain_linear, explain_trees, is_linear
from tidemill.learners.model import LearnedModel
from tidemill.model_registry.predict import model_outputs, predict
from tidemill.model_registry.sample import read_sample
from tidemill.runtime.caching import cache_frame
from tidemill.training.adjustment import AdjustedProbabilities
from tidemill.training.importances import find_raw_column

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.ml import Transformer
    from pyspark.sql import Column, DataFrame, SparkSession

    from tidemill.lake import Lake
    from tidemill.model_registry import Manifest

CONTRIBUTIONS = f"{INTERNAL}_contributions"
"""The column that `explain_predictions` adds; an internal name, since the rows may have a column ``contributions`` of their own."""
_VECTORS = "features_"
_RAW = f"{INTERNAL}_outputs_by_column"


def can_explain(manifest: Manifest) -> bool:
    """Return True where predictions are numbers or probabilities of classes, made from features."""
    return manifest.kind.reads_features and not manifest.kind.finds_clusters


@contextmanager
def explain_predictions(model: PipelineModel, manifest: Manifest, lake: Lake, df: DataFrame) -> Iterator[DataFrame]:
    """Yield the predictions of rows (see `predict`) with the column `CONTRIBUTIONS`, for the duration of the block.

    It is a STRUCT, null where the row was not scored: ``base``, the mean prediction; ``columns`` MAP<STRING, DOUBLE>, the
    contribution of each raw column of the features; ``scale``, what base and contributions add up to: value, probability, log-odds, or
    margin, the score of a class before the softmax; ``class_index`` INT, the predicted class of more than two, null otherwise; ``kind``:
    tree, linear or sampled.

    Args:
        model: the model.
        manifest: its manifest.
        lake: the lake that has the version: the sample in its folder is the background.
        df: the rows.

    Raises:
        UsageError: predictions of the task have no contributions.
        StepError: the version has no sample, since an earlier release trained it.
    """
    if not can_explain(manifest):
        raise UsageError(f"{manifest.pipeline}: predictions of the task {manifest.task} cannot be explained; score without --explain")
    background = _read_background(lake, manifest)
    exact = _find_exact(model, manifest, df.sparkSession, background)
    if exact is not None:
        stages = PipelineModel([*model.stages, ContributionStage(exact, _RAW)])
        yield _shape(predict(stages, manifest, df, [_RAW]), manifest, exact.kind, exact.scale)
        return
    with cache_frame(df.withColumn(ROW, F.monotonically_increasing_id())) as rows:
        raw = _sample_contributions(model, manifest, rows, background)
        joined = predict(model, manifest, rows).join(raw, ROW, "left").drop(ROW)
        scale = "value" if manifest.kind.predicts_number else "probability"
        scored = joined.withColumn(_RAW, F.when(F.col("score_error").isNull(), F.col(_RAW)))
        yield _shape(scored, manifest, "sampled", scale)


def _read_background(lake: Lake, manifest: Manifest) -> pa.Table:
    """Return the feature columns of the rows that are kept with the version, at most 100."""
    features = read_sample(lake, manifest)["features"].combine_chunks()
    return pa.Table.from_arrays(features.flatten(), names=list(manifest.feature_columns))


def _shape(scored: DataFrame, manifest: Manifest, kind: str, scale: str) -> DataFrame:
    """Replace the array of all outputs by the struct of the one that is explained: of several classes the predicted one."""
    names, width = list(manifest.feature_columns), len(manifest.feature_columns) + 1
    raw, index = F.col(_RAW), F.lit(None).cast("int")
    start: Column = F.lit(0)
    if manifest.kind.has_many_classes:
        index = (F.array_position("probability", F.array_max("probability")) - 1).cast("int")
        start = index * width
    columns = F.map_from_arrays(F.array(*map(F.lit, names)), F.slice(raw, start + 1, width - 1))
    struct = F.struct(
        F.get(raw, start + width - 1).alias("base"),
        columns.alias("columns"),
        F.lit(scale).alias("scale"),
        index.alias("class_index"),
        F.lit(kind).alias("kind"),
    )
    return scored.withColumn(CONTRIBUTIONS, F.when(raw.isNotNull(), struct)).drop(_RAW)


def _find_exact(model: PipelineModel, manifest: Manifest, spark: SparkSession, background: pa.Table) -> ExactContributions | None:
    """Return how the model's own predictor explains itself; None where stages change its predictions or slots mix raw columns."""
    stage = _find_predictor(model)
    if stage is None:
        return None
    vectors = str(stage.getOrDefault("featuresCol"))
    names = list(manifest.feature_columns)
    columns = [find_raw_column(slot, names) for slot in slot_names(model, vectors.removeprefix(_VECTORS))]
    if not columns or None in columns:
        return None
    groups = [names.index(str(name)) for name in columns]
    if is_linear(stage):
        means = _mean_slots(model, manifest, spark.createDataFrame(background), vectors)
        return explain_linear(stage, groups, len(names), means) if len(means) == len(groups) else None
    if hasattr(stage, "get_booster"):  # XGBoost's own stage
        stage = LearnedModel("xgboost", manifest.task, vectors, bytes(stage.get_booster().save_raw("ubj")))
    return explain_trees(stage, groups, len(names)) if isinstance(stage, LearnedModel) else None


def _find_predictor(model: PipelineModel) -> Transformer | None:
    """Return the stage that predicts from the features, if it is the only one and no later stage changes its prediction."""
    places = [
        place
        for place, stage in enumerate(model.stages)
        if stage.hasParam("featuresCol") and str(stage.getOrDefault("featuresCol")).startswith(_VECTORS)
    ]
    if len(places) != 1:
        return None
    later = model.stages[places[0] + 1 :]
    return (
        model.stages[places[0]] if all(isinstance(stage, AdjustedProbabilities) and stage.keeps_probabilities for stage in later) else None
    )


def _mean_slots(model: PipelineModel, manifest: Manifest, background: DataFrame, vectors: str) -> np.ndarray:
    """Return the mean of each slot over the background rows."""
    table = model_outputs(model, manifest, background, [], [vectors]).toArrow()
    arrays = table.column(0).combine_chunks()
    _, slots, values = sparse_parts(arrays)
    return np.bincount(slots, values, vector_size(arrays)) / len(arrays)


def _sample_contributions(model: PipelineModel, manifest: Manifest, rows: DataFrame, background: pa.Table) -> DataFrame:
    """Return `ROW` and the array of contributions by Shapley values of the final prediction."""
    types = {field.name: field.dataType for field in rows.schema.fields}
    features = [
        (column(name) if types[name].simpleString() == kind else exact_cast(column(name), types[name], kind)).alias(name)
        for name, kind in manifest.feature_columns.items()
    ]
    design = ShapleyDesign.of(len(features), background.num_rows)
    hybrids = build_hybrids(rows.select(ROW, *features), background, design)
    kind = manifest.kind
    scored = model_outputs(model, manifest, hybrids, [ROW, HYBRID], ["prediction" if kind.predicts_number else "probability"])
    if kind.predicts_number:
        outputs = F.array("prediction")
    else:
        every = vector_to_array(F.col("probability"))
        outputs = F.array(every[1]) if kind.has_positive_class else every
    return weigh_hybrids(scored.select(ROW, HYBRID, outputs.alias(OUTPUTS)), design, _RAW)
