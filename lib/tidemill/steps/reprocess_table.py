"""The quarantine of a silver table taken through again: the rows of its keys, and only they, after the rule or the SQL was mended."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import reduce
from operator import and_

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.caching import cached
from tidemill.columns import column
from tidemill.errors import ExpectationRefused, UsageError
from tidemill.quality.refusals import refusal, repeated_key
from tidemill.quality.rules import errors_count_as_violations
from tidemill.quality.verdicts import kept_rows, quarantined_rows, repeated_keys, samples, tally
from tidemill.spark_errors import as_step_error
from tidemill.steps.prepare import table_rows
from tidemill.steps.result import StepContext, StepResult
from tidemill.steps.table_expectations import rules_for


def reprocess_table(context: StepContext) -> StepResult:
    """Make the rows of the quarantined keys again, from the versions that the table was made of, and merge the good ones by key.

    ``rows_in`` are these rows. Rules of single rows are asked, those of the whole table are left to the next run. Rows without a key
    cannot be told apart: they stay in quarantine.

    Raises:
        UsageError: the table has no key.
        ExpectationRefused: a row breaks a rule with ``on_violation: fail``, or a key stands in more than one row.
    """
    table, name = context.spec.pipeline.tables[context.item], f"silver.{context.item}"
    if not table.key:
        raise UsageError(f"tables.{context.item}: without `key` its rows cannot be merged; run `tidemill run … --only {context.node}`")
    lake = context.lake
    with as_step_error(name), errors_count_as_violations(context.spark):
        rows = table_rows(context, table)
        refused = _with_key(lake.read(context.spark, f"{name}_quarantine"), rows.schema, table.key)
        is_whole = reduce(and_, [F.col("_key")[key].isNotNull() for key in table.key])
        keys = refused.where(is_whole).select(*[F.col("_key")[key].alias(key) for key in table.key]).distinct()
        wanted = rows.join(keys, list(table.key), "left_semi").select(*[column(part) for part in rows.columns])
        rules = rules_for(context, name, table, wanted)
        with cached(rules.judged(wanted)) as checked:
            counts = tally(checked, rules.rows, table.key, rules.measures)
            version = lake.version(name)
            stays = f"{name} stays at version {version}; "
            broken = [rule for rule in rules.rows if rule.action == "fail" and counts.failed[rule.name]]
            reasons = [refusal(name, rule, counts, samples(checked, rule, rules.key), stays) for rule in broken]
            if counts.repeated_keys:
                reasons.append(repeated_key(name, rules.key, counts, repeated_keys(checked, rules.key), stays))
            if reasons:
                raise ExpectationRefused("\n".join(reasons))
            meta = context.meta(reprocessed=counts.rows, rows_out=counts.kept, rows_quarantined=counts.quarantined)
            if counts.kept:
                kept = kept_rows(checked)
                changing = [part for part in kept.columns if part not in table.key]
                version = lake.merge(kept, name, keys=table.key, update_if_changed=changing, meta=meta)
            if counts.rows:
                stamp = {"run_id": F.lit(context.run_id), "quarantined_at": F.lit(datetime.now(UTC))}
                done = checked.select(F.struct(*[column(key) for key in table.key]).alias("_key")).distinct()
                older = refused.join(done, "_key", "left_anti").select(*[part for part in refused.columns if part != "_key"])
                lake.replace(older.unionByName(quarantined_rows(checked).withColumns(stamp)), f"{name}_quarantine", meta=meta)
    outputs = {} if version is None else {name: version}
    dropped = counts.dropped + counts.superseded
    return StepResult(outputs, counts.rows, counts.kept, counts.quarantined, dropped)


def _with_key(quarantine: DataFrame, schema: T.StructType, key: list[str]) -> DataFrame:
    """Return the quarantine with ``_key``, the key of each row out of its JSON."""
    shape = T.StructType([T.StructField(name, schema[name].dataType) for name in key])
    return quarantine.withColumn("_key", F.from_json("raw", shape))
