"""The step score: the champion's predictions, merged by key and model version."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.errors import ExpectationRefused, StepError, did_you_mean
from tidemill.features.checks import count_unreadable
from tidemill.features.unseen import UnseenValues, count_unseen
from tidemill.lake.ops import UnseenRow
from tidemill.model_registry import load_model
from tidemill.model_registry.predict import OUTPUTS, predict
from tidemill.runtime.caching import cache_frame
from tidemill.steps.dataset.history import point_in_time_join
from tidemill.steps.result import StepContext, StepResult, suggest_key_remedy
from tidemill.steps.train.feature_spec import check_same_features
from tidemill.training.recommendation.recommend import recommend

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

    from tidemill.model_registry import Manifest
    from tidemill.steps.result import StepContext


def read_scoring_rows(context: StepContext) -> DataFrame:
    """Read the rows to score at pinned versions; of the dataset every row, labelled or not.

    Rows of ``scoring`` get the columns of the dataset's lookups and aggregates, unless they have them.
    """
    pipeline = context.spec.pipeline
    if pipeline.scoring.sql is not None:
        return point_in_time_join(
            context, context.lake.sql(context.spark, context.spec.sql_text(pipeline.scoring.sql), context.inputs, trust=pipeline.trust)
        )
    if pipeline.scoring.from_ not in (None, pipeline.dataset_table):
        return point_in_time_join(context, context.lake.read(context.spark, pipeline.scoring.from_, context.inputs[pipeline.scoring.from_]))
    return context.lake.read(context.spark, pipeline.dataset_table, context.inputs[pipeline.dataset_table])


def describe_scoring_rows(context: StepContext) -> str:
    """Return the name of the rows to score for messages."""
    pipeline = context.spec.pipeline
    return "scoring.sql" if pipeline.scoring.sql is not None else pipeline.scoring.from_ or pipeline.dataset_table


def write_recommendations(context: StepContext, model: PipelineModel, manifest: Manifest) -> tuple[int, int]:
    """Write ``gold.<pipeline>_recommendations``: for each user of the model the best items; return the table's version and the rows.

    One row per (user, rank, model_version): the user's and the item's column, each in its own type, ``rank`` INT from 1, ``score``,
    ``model_version``, ``run_id``, ``scored_at``. Items that a user has in any row of the dataset are left out, unless
    ``scoring.seen``. The rows of the version are replaced in one commit, so a repeat gives the same result.
    """
    pipeline = context.spec.pipeline
    user, item = manifest.feature_columns
    dataset = context.lake.read(context.spark, pipeline.dataset_table, context.inputs[pipeline.dataset_table])
    seen = None if pipeline.scoring.seen else dataset.select(column(user).alias("user"), column(item).alias("item"))
    recommendations = recommend(model, pipeline.training.items_each, seen=seen).select(
        F.col("user").alias(user),
        "rank",
        F.col("item").alias(item),
        "score",
        F.lit(manifest.version).cast("int").alias("model_version"),
        F.lit(context.run_id).alias("run_id"),
        F.lit(datetime.now(UTC)).alias("scored_at"),
    )
    with cache_frame(recommendations) as rows:
        count = rows.count()
        meta = context.meta(model_version=manifest.version)
        where = f"model_version = {manifest.version}"
        return context.lake.replace_where(rows, pipeline.recommendations_table, where=where, meta=meta), count


STAMPS = ("model_version", "run_id", "scored_at")


def score(context: StepContext) -> StepResult:
    """Score all rows of ``scoring`` and merge them into ``gold.<pipeline>_predictions``; a repeat changes nothing.

    Predictions are computed once and cached: they are used for the check of the key, the merge and the counts. Category values without
    training rows are counted in ``ops.unseen``.

    Grain: one row per (key, model_version). Columns: the key, ``scoring.keep``, ``prediction``, ``probability``, ``model_version`` INT,
    ``score_error`` (null where the row was scored), ``run_id``, ``scored_at``.

    Raises:
        ExpectationRefused: the key is not unique or not null in the rows to score.
        StepError: a column of the key or of ``keep`` is missing, rows were lost on the way, or the model was trained with other features.
    """
    pipeline = context.spec.pipeline
    version = context.inputs[pipeline.model_name]
    key = list(pipeline.dataset.key)
    keep = [name for name in pipeline.scoring.keep if name not in key]
    rows = read_scoring_rows(context)
    _check_columns(context, rows, key, keep)
    model, manifest = load_model(context.lake, context.pipeline, version)
    check_same_features(context.lake, context.pipeline, pipeline.features, manifest)
    columns = dict.fromkeys((*key, *keep, *manifest.feature_columns))
    predicted = predict(model, manifest, rows.select(*[column(name) for name in columns if name in rows.columns])).select(
        *map(column, (*key, *keep)),
        "prediction",
        "probability",
        F.lit(version).cast("int").alias("model_version"),
        "score_error",
        F.lit(context.run_id).alias("run_id"),
        F.lit(datetime.now(UTC)).alias("scored_at"),
    )
    count, unseen = count_unseen(model, manifest.feature_columns, rows)
    table = pipeline.predictions_table
    with cache_frame(predicted) as scored:
        _check_rows(context, scored, key, count)
        widen_types(context, table, scored)
        committed = context.lake.merge(
            scored,
            table,
            keys=[*key, "model_version"],
            update_if_changed=["prediction", "probability", "score_error", *keep],
            meta=context.meta(model_version=version),
        )
        predictions = context.lake.read(context.spark, table, committed).where(F.col("model_version") == version)
        failed = _check_none_lost(context, scored, predictions, key, count)
    _record_unseen(context, version, count, unseen)
    outputs = {table: committed}
    if manifest.kind.recommends:
        outputs[pipeline.recommendations_table], _ = write_recommendations(context, model, manifest)
    notes = [f"{failed} of {count} rows could not be scored; see score_error in {table}"] if failed else []
    notes += [each.sentence(count) for each in unseen if each.rows]
    notes += [f"{each.sentence()}; counted as missing" for each in count_unreadable(rows, pipeline.features) if each.unreadable]
    return StepResult(outputs=outputs, rows_in=count, rows_out=count, notes=tuple(notes))


def widen_types(context: StepContext, table: str, scored: DataFrame) -> None:
    """Widen the types of ``prediction`` and ``probability`` in the table: a MERGE would cast 0.3 to the INT 0.

    Raises:
        StepError: the type of earlier rows cannot be widened to that of the new ones.
    """
    if not context.lake.exists(table):
        return
    existing = context.lake.read(context.spark, table).schema
    kinds = {name: scored.schema[name].dataType for name in ("prediction", "probability") if name in existing.names}
    wider: dict[str, T.DataType] = {}
    for name, kind in kinds.items():
        before = existing[name].dataType
        is_whole = isinstance(before, T.IntegralType) and isinstance(kind, T.IntegralType)
        if before == kind or (is_whole and isinstance(before, T.LongType)):
            continue
        if not is_whole and not (isinstance(before, T.NumericType) and isinstance(kind, T.DoubleType)):
            raise StepError(
                f"{table}: {name} is {before.simpleString()} in rows of earlier models, {kind.simpleString()} in those of this one; "
                "give the pipeline another name, or move the table away and score again"
            )
        wider[name] = T.LongType() if is_whole else kind
    if wider:
        context.lake.recast(context.spark, table, wider, context.meta())


def _record_unseen(context: StepContext, version: int, count: int, unseen: Sequence[UnseenValues]) -> None:
    """Write the number of rows with unseen values to ``ops.unseen``, one row per categorical column."""
    rows = [
        UnseenRow(
            **context.run_columns,
            model_version=version,
            column_name=each.column,
            rows_scored=count,
            rows_unseen=each.rows,
            is_exact=each.is_exact,
            most_frequent=json.dumps([{"value": value, "rows": n} for value, n in each.values], ensure_ascii=False),
        )
        for each in unseen
    ]
    context.lake.ledger.put(UnseenRow, rows, where=context.run_columns)


def _check_columns(context: StepContext, rows: DataFrame, key: Sequence[str], keep: Sequence[str]) -> None:
    where = describe_scoring_rows(context)
    for setting, names in (("dataset.key", key), ("scoring.keep", keep)):
        for name in names:
            if name not in rows.columns:
                hint = f"{did_you_mean(name, rows.columns)}; it has {', '.join(rows.columns)}"
                raise StepError(f"{where}: no column {name!r}, which {setting} names{hint}")
            if name in OUTPUTS or name in STAMPS:
                raise StepError(f"{where}: {setting} names {name!r}, which is a column of the predictions' own; rename it in SQL")


def _check_rows(context: StepContext, scored: DataFrame, key: Sequence[str], count: int) -> None:
    """Refuse a null or repeated key, which a merge could not identify, and a model that does not return ``count`` rows.

    Stages cannot change the key. So where keys are unique and their number is right, no row is lost or repeated.
    """
    is_null = F.lit(False)
    for name in key:
        is_null = is_null | column(name).isNull()
    groups = scored.groupBy(*map(column, key)).count()
    many = (F.col("count") > 1) & ~is_null
    counts = groups.agg(
        F.coalesce(F.sum("count"), F.lit(0)).alias("rows"),
        F.coalesce(F.sum(F.when(is_null, F.col("count"))), F.lit(0)).alias("nulls"),
        F.count_if(many).alias("repeated"),
        F.min(F.when(many, F.concat_ws(", ", *[column(name).cast("string") for name in key]))).alias("example"),
    ).first()
    assert counts is not None  # an aggregate without groups always has one row
    where, names, pipeline = describe_scoring_rows(context), ", ".join(key), context.spec.pipeline
    if counts["rows"] != count:
        raise StepError(f"{where}: {count} rows were to be scored, the model gave {counts['rows']}; a stage of it drops or repeats rows")
    if counts["nulls"]:
        raise ExpectationRefused(
            f"{where}: the key ({names}) is null in {counts['nulls']} of {counts['rows']} rows to score; drop or repair them"
        )
    if counts["repeated"]:
        raise ExpectationRefused(
            f"{where}: {counts['repeated']} values of the key ({names}) stand in more than one row to score, such as {counts['example']}; "
            f"{suggest_key_remedy(context, pipeline.scoring.from_ or pipeline.dataset_table, pipeline.scoring.sql)}"
        )


def _check_none_lost(context: StepContext, scored: DataFrame, predictions: DataFrame, key: Sequence[str], count: int) -> int:
    """Return the number of rows that could not be scored; refuse where a row is missing after the merge."""
    keys = [column(name) for name in key]
    joined = scored.select(*keys).join(predictions.select(*keys, "score_error"), on=list(key), how="inner")
    merged_rows, failed = joined.agg(F.count("*"), F.count("score_error")).first() or (0, 0)
    if merged_rows != count:
        table = context.spec.pipeline.predictions_table
        raise StepError(f"{table}: {count} rows were to be scored, {merged_rows} have a prediction after the merge; report this")
    return int(failed)
