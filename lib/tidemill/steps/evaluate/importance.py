"""What a model looks at: the permutation importance of raw columns, and their contributions to single predictions, on test rows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.dataset.splits import hash_columns
from tidemill.evaluation.importance import (
    BLOCK,
    PLACE,
    SCORES,
    Judge,
    Permutations,
    build_permuted_rows,
    estimate_importances,
    measure_blocks,
)
from tidemill.lake.ops import ContributionRow, ImportanceRow
from tidemill.model_registry.predict import encode_label, model_outputs
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.session import task_slots
from tidemill.steps.contributions import CONTRIBUTIONS, can_explain, explain_predictions
from tidemill.tasks import METRICS, is_minimised

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

    from tidemill.evaluation import Estimate
    from tidemill.model_registry import Manifest
    from tidemill.steps.result import StepContext

logger = logging.getLogger(__name__)

KIND = "permutation"
MIN_ROWS = 30
"""With fewer labelled test rows nothing is computed: the intervals would hold everything."""
_SEED = 31
_DRAWS = 100
_LABEL, _WEIGHT, _UNIT = "_tidemill_label", "_tidemill_weight", "_tidemill_unit"


def explain_candidate(context: StepContext, model: PipelineModel, manifest: Manifest, dataset: DataFrame) -> None:
    """Write what the candidate looks at: ``ops.importances`` (kind ``permutation``) and ``ops.contributions``; safe to repeat."""
    _record_importances(context, model, manifest, dataset)
    _record_contributions(context, model, manifest, dataset)


def _record_importances(context: StepContext, model: PipelineModel, manifest: Manifest, dataset: DataFrame) -> None:
    importances = measure_importances(context, model, manifest, dataset)
    run = context.run_columns
    rows = []
    for rank, (name, estimate) in enumerate(importances.items(), start=1):
        lower, upper = estimate.ends
        rows.append(
            ImportanceRow(
                **run,
                model_version=manifest.version,
                column_name=name,
                kind=KIND,
                importance=estimate.number,
                rank=rank,
                lower=lower,
                upper=upper,
            )
        )
    context.lake.ledger.put(ImportanceRow, rows, where={**run, "kind": KIND})


def _record_contributions(context: StepContext, model: PipelineModel, manifest: Manifest, dataset: DataFrame) -> None:
    """Write one row per sampled test row and column, and one for the mean prediction."""
    count, key = context.spec.pipeline.evaluation.importance.contributions, context.spec.pipeline.dataset.key
    run = {**context.run_columns, "model_version": manifest.version}
    rows: list[ContributionRow] = []
    if count and can_explain(manifest):
        order = hash_columns(key, _SEED, stream="contributions")
        names = dict.fromkeys((*key, *manifest.feature_columns))
        test = (
            dataset.where(F.col("split") == "test")
            .orderBy(order, *map(column, key))
            .limit(max(count, MIN_ROWS))
            .select(*map(column, names))
        )
        with cache_frame(test) as sample:
            if sample.count() >= MIN_ROWS:
                rows = [ContributionRow(**run, **cells) for cells in list_contributions(context, model, manifest, sample.limit(count))]
    context.lake.ledger.put(ContributionRow, rows, where=context.run_columns)


def list_contributions(context: StepContext, model: PipelineModel, manifest: Manifest, sample: DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the columns of ``ops.contributions`` about the rows of a sample; rows that were not scored are left out."""
    features = list(manifest.feature_columns)
    row_key = F.to_json(F.struct(*map(column, context.spec.pipeline.dataset.key))).alias("row_key")
    values = F.array(*[column(name).cast("string") for name in features]).alias("values")
    with explain_predictions(model, manifest, context.lake, sample) as explained:
        scored = explained.where(F.col(CONTRIBUTIONS).isNotNull()).select(row_key, values, CONTRIBUTIONS).collect()
    for row in scored:
        struct = row[CONTRIBUTIONS]
        common = {"row_key": row["row_key"], **{name: struct[name] for name in ("class_index", "scale", "kind")}}
        yield {**common, "contribution": struct["base"]}
        for name, value in zip(features, row["values"], strict=True):
            yield {**common, "column_name": name, "column_value": value, "contribution": struct["columns"][name]}


def measure_importances(context: StepContext, model: PipelineModel, manifest: Manifest, dataset: DataFrame) -> Mapping[str, Estimate]:
    """Return how much worse the selection metric gets where a raw column is permuted, by column, the greatest first.

    Empty where the setting is 0 rows, the task has no features or its metric no formula, or there are too few labelled test rows.
    """
    pipeline = context.spec.pipeline
    settings, metric = pipeline.evaluation.importance, METRICS.get(pipeline.selection_metric)
    if not settings.rows or not manifest.kind.reads_features or metric.value is None or pipeline.dataset.label is None:
        return {}
    features = list(manifest.feature_columns)
    sampled = _sample_test_rows(context, manifest, dataset.where(F.col("split") == "test"), settings.rows)
    table = sampled.toArrow()
    if table.num_rows < MIN_ROWS:
        logger.info("no permutation importance: %d labelled test rows, expected at least %d", table.num_rows, MIN_ROWS)
        return {}
    plan = Permutations(tuple(features), settings.repeats, table.num_rows)
    schema = type(sampled.schema)([sampled.schema[name] for name in features])
    partitions = min(plan.n_blocks, 4 * task_slots(context.spark))
    judge = Judge(
        metric.name,
        manifest.task,
        *_read_labels(table),
        draws=min(pipeline.evaluation.bootstrap, _DRAWS),
        quantile=pipeline.training.quantile,
        own=() if metric.is_built_in else (metric,),
    )
    names = ["prediction"] if manifest.kind.predicts_number else ["prediction", "probability"]
    outputs = F.concat(F.array("prediction"), *[vector_to_array(F.col(name)) for name in names[1:]]).alias(SCORES)
    with cache_frame(build_permuted_rows(context.spark, table.select(features), schema, plan, partitions)) as permuted:
        permuted.count()  # now: a Spark task that copies and scores at once would need two Python workers, the second without the model
        scored = model_outputs(model, manifest, permuted, [BLOCK, PLACE], names).select(BLOCK, PLACE, outputs)
        blocks = measure_blocks(scored, judge)
    return estimate_importances(blocks, plan, is_minimised=is_minimised(metric.name))


def _sample_test_rows(context: StepContext, manifest: Manifest, test: DataFrame, rows: int) -> DataFrame:
    """Return the first labelled rows by a hash of the key: the features, the label, the weight, and a hash of the resampling unit."""
    declared = context.spec.pipeline.dataset
    label = encode_label(manifest, column(str(declared.label)))
    weight = column(declared.weight).cast("double") if declared.weight else F.lit(1.0)
    unit = hash_columns(declared.unit_columns, _SEED)
    order = hash_columns(declared.key, _SEED, stream="importance")
    labelled = test.where(label.isNotNull()).orderBy(order, *map(column, declared.key)).limit(rows)
    features = [column(name) for name in manifest.feature_columns]
    return labelled.select(*features, label.alias(_LABEL), weight.alias(_WEIGHT), unit.alias(_UNIT))


def _read_labels(table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, weights and the numbers of the resampling units."""
    labels, weights = (table.column(name).to_numpy(zero_copy_only=False).astype(np.float64) for name in (_LABEL, _WEIGHT))
    return labels, weights, np.unique(table.column(_UNIT).to_numpy(), return_inverse=True)[1]
