"""Take quarantined records of a source or a table through their rules again."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from operator import and_

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import BATCH_ID, ROW_HASH, SOURCE_FILE
from tidemill.columns import column
from tidemill.errors import ExpectationRefused, UsageError
from tidemill.lake.staging import StagedRows
from tidemill.quality.expectations.quarantine import describe_refusal, describe_repeated_key
from tidemill.quality.expectations.row_rules import (
    count_violations,
    sample_repeated_keys,
    sample_violations,
    select_kept_rows,
    select_quarantined_rows,
)
from tidemill.quality.expectations.rules import errors_count_as_violations
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.locks import hold_lock
from tidemill.runtime.spark_errors import raise_step_error
from tidemill.sources.files.listing import list_source_files
from tidemill.sources.records import STATUS, VALID, count_by_file, count_by_rule
from tidemill.spec.models import SOURCE_KINDS
from tidemill.spec.models.source_kinds import FileKind
from tidemill.steps.expectations import rules_for
from tidemill.steps.ingest.batch import Batch, commit
from tidemill.steps.ingest.files import build_file_rows, read_records
from tidemill.steps.ingest.history import REPROCESSED, SourceHistory, load_history, resolve_schema
from tidemill.steps.ingest.staged_records import BatchJob
from tidemill.steps.prepare.step import table_rows
from tidemill.steps.result import StepContext, StepResult

_PLACE = [SOURCE_FILE, ROW_HASH]


def reprocess_source(context: StepContext) -> StepResult:
    """Read the files of the refused records once more and add those that are good now to ``bronze.<source>``, as a batch of their own.

    A record is known by its file and the hash of its text. ``rows_in`` are the records in quarantine that were found again; those
    whose file is gone, and those that are still refused, stay in quarantine.

    Raises:
        UsageError: the source has no files; what its quarantine holds comes again with ``--replay``.
    """
    source, table = context.spec.pipeline.sources[context.item], f"bronze.{context.item}"
    kind = SOURCE_KINDS.get(source.format, context.spec.folder)
    if not isinstance(kind, FileKind):
        raise UsageError(
            f"sources.{context.item}: {source.format} has no files to read again; use `tidemill run … --only {context.node} --replay FROM`"
        )
    with hold_lock(context.lake.root, f"ingest.{table}"), ExitStack() as stack:
        before = load_history(context)
        wanted = stack.enter_context(cache_frame(_committed(context, before).select(*_PLACE).distinct()))
        named = {row[SOURCE_FILE] for row in wanted.select(SOURCE_FILE).distinct().collect()}
        files = [file for file in list_source_files(source, context.spark) if file.name in named]
        gone = sorted(named - {file.name for file in files})
        notes = (f"{len(gone)} files are gone, such as {gone[0]}: their records stay in quarantine",) if gone else ()
        number = before.last + 1
        reread = read_records(BatchJob(stack, context, source, number), kind, files, resolve_schema(context, source, before))
        if reread.staged is None or reread.schema is None:
            return _nothing(context, table, notes)
        columns = reread.staged.rows.frame.columns
        again = stack.enter_context(cache_frame(reread.staged.rows.frame.join(wanted, _PLACE, "left_semi").select(*columns)))
        # A run that was killed behind its commit has added some of them already.
        added = context.lake.read(context.spark, table).select(*_PLACE).join(wanted, _PLACE, "left_semi").distinct()
        good = again.where(F.col(STATUS) == VALID).join(added, _PLACE, "left_anti").select(*columns)
        counts = count_by_file(good)
        rows = [
            replace(row, state=REPROCESSED) for row in build_file_rows(context, files, counts, reread.bad, number) if row.path in counts
        ]
        batch = Batch(
            number,
            reread.records,
            StagedRows(good, None),
            reread.schema,
            counts,
            rows,
            changes=reread.changes,
            reason="reprocessed",
            notes=notes,
        )
        still = sum(count.rejected for count in count_by_file(again).values())
        notes = (
            *notes,
            *(f"still refused: {count} record{'' if count == 1 else 's'}, {rule}" for rule, count in count_by_rule(again).items()),
        )
        result = commit(context, batch) if batch.valid else _nothing(context, table, notes)
        _release(context, wanted)
        return replace(result, rows_in=batch.valid + still, rows_quarantined=still, notes=notes)


def _committed(context: StepContext, before: SourceHistory) -> DataFrame:
    """Return the quarantine of committed batches: what a killed one left is not of it."""
    return context.lake.read(context.spark, f"bronze.{context.item}_quarantine").where(f"{BATCH_ID} <= {before.last}")


def _release(context: StepContext, wanted: DataFrame) -> None:
    """Take the records that are in the table now out of quarantine."""
    table = f"bronze.{context.item}"
    rows = context.lake.read(context.spark, f"{table}_quarantine")
    done = context.lake.read(context.spark, table).select(*_PLACE).join(wanted, _PLACE, "left_semi").distinct()
    left = rows.join(done, _PLACE, "left_anti").select(*rows.columns)
    context.lake.replace(left, f"{table}_quarantine", meta=context.meta())


def _nothing(context: StepContext, table: str, notes: tuple[str, ...]) -> StepResult:
    version = context.lake.version(table)
    return StepResult({} if version is None else {table: version}, rows_in=0, rows_out=0, notes=notes)


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
    with raise_step_error(name), errors_count_as_violations(context.spark):
        rows = table_rows(context, table)
        refused = _with_key(lake.read(context.spark, f"{name}_quarantine"), rows.schema, table.key)
        is_whole = reduce(and_, [F.col("_key")[key].isNotNull() for key in table.key])
        keys = refused.where(is_whole).select(*[F.col("_key")[key].alias(key) for key in table.key]).distinct()
        wanted = rows.join(keys, list(table.key), "left_semi").select(*[column(part) for part in rows.columns])
        rules = rules_for(context, name, table, wanted)
        with cache_frame(rules.judged(wanted)) as checked:
            counts = count_violations(checked, rules.rows, table.key, rules.measures)
            version = lake.version(name)
            stays = f"{name} stays at version {version}; "
            broken = [rule for rule in rules.rows if rule.action == "fail" and counts.failed[rule.name]]
            reasons = [describe_refusal(name, rule, counts, sample_violations(checked, rule, rules.key), stays) for rule in broken]
            if counts.repeated_keys:
                reasons.append(describe_repeated_key(name, rules.key, counts, sample_repeated_keys(checked, rules.key), stays))
            if reasons:
                raise ExpectationRefused("\n".join(reasons))
            meta = context.meta(reprocessed=counts.rows, rows_out=counts.kept, rows_quarantined=counts.quarantined)
            if counts.kept:
                kept = select_kept_rows(checked)
                changing = [part for part in kept.columns if part not in table.key]
                version = lake.merge(kept, name, keys=table.key, update_if_changed=changing, meta=meta)
            if counts.rows:
                stamp = {"run_id": F.lit(context.run_id), "quarantined_at": F.lit(datetime.now(UTC))}
                done = checked.select(F.struct(*[column(key) for key in table.key]).alias("_key")).distinct()
                older = refused.join(done, "_key", "left_anti").select(*[part for part in refused.columns if part != "_key"])
                lake.replace(older.unionByName(select_quarantined_rows(checked).withColumns(stamp)), f"{name}_quarantine", meta=meta)
    outputs = {} if version is None else {name: version}
    dropped = counts.dropped + counts.superseded
    return StepResult(outputs, counts.rows, counts.kept, counts.quarantined, dropped)


def _with_key(quarantine: DataFrame, schema: T.StructType, key: list[str]) -> DataFrame:
    """Return the quarantine with ``_key``, the key of each row out of its JSON."""
    shape = T.StructType([T.StructField(name, schema[name].dataType) for name in key])
    return quarantine.withColumn("_key", F.from_json("raw", shape))
