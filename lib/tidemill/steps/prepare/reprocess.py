"""Reprocess quarantined records of a source or a table with the current rules."""

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
from tidemill.steps.expectations import build_table_rules
from tidemill.steps.ingest.batch import Batch, commit
from tidemill.steps.ingest.files import build_file_rows, read_records
from tidemill.steps.ingest.history import REPROCESSED, SourceHistory, load_history, resolve_schema
from tidemill.steps.ingest.staged_records import BatchJob
from tidemill.steps.prepare.step import compute_table_rows
from tidemill.steps.result import StepContext, StepResult

_RECORD_ID = [SOURCE_FILE, ROW_HASH]


def reprocess_source(context: StepContext) -> StepResult:
    """Read the files of quarantined records again, and append those that are valid now to ``bronze.<source>``, as a batch of their own.

    A record is identified by its file and the hash of its text. ``rows_in`` counts the quarantined records that were read again. Records
    whose file is gone, and those that are still rejected, stay in quarantine.

    Raises:
        UsageError: the source has no files; ``--replay`` reads its records again.
    """
    source, table = context.spec.pipeline.sources[context.item], f"bronze.{context.item}"
    kind = SOURCE_KINDS.get(source.format, context.spec.folder)
    if not isinstance(kind, FileKind):
        raise UsageError(
            f"sources.{context.item}: {source.format} has no files to read again; use `tidemill run … --only {context.node} --replay FROM`"
        )
    with hold_lock(context.lake.root, f"ingest.{table}"), ExitStack() as stack:
        before = load_history(context)
        quarantined = stack.enter_context(cache_frame(_read_committed_quarantine(context, before).select(*_RECORD_ID).distinct()))
        file_names = {row[SOURCE_FILE] for row in quarantined.select(SOURCE_FILE).distinct().collect()}
        files = [file for file in list_source_files(source, context.spark) if file.name in file_names]
        missing_files = sorted(file_names - {file.name for file in files})
        notes = (
            (f"{len(missing_files)} files are gone, such as {missing_files[0]}: their records stay in quarantine",) if missing_files else ()
        )
        number = before.last + 1
        reread = read_records(BatchJob(stack, context, source, number), kind, files, resolve_schema(context, source, before))
        if reread.staged is None or reread.schema is None:
            return _build_empty_result(context, table, notes)
        columns = reread.staged.rows.frame.columns
        reread_rows = stack.enter_context(cache_frame(reread.staged.rows.frame.join(quarantined, _RECORD_ID, "left_semi").select(*columns)))
        # A run that was killed after its commit has appended some of them already.
        added = context.lake.read(context.spark, table).select(*_RECORD_ID).join(quarantined, _RECORD_ID, "left_semi").distinct()
        valid = reread_rows.where(F.col(STATUS) == VALID).join(added, _RECORD_ID, "left_anti").select(*columns)
        counts = count_by_file(valid)
        rows = [
            replace(row, state=REPROCESSED) for row in build_file_rows(context, files, counts, reread.bad, number) if row.path in counts
        ]
        batch = Batch(
            number,
            reread.records,
            StagedRows(valid, None),
            reread.schema,
            counts,
            rows,
            changes=reread.changes,
            reason="reprocessed",
            notes=notes,
        )
        still_rejected = sum(count.rejected for count in count_by_file(reread_rows).values())
        notes = (
            *notes,
            *(f"still refused: {count} record{'' if count == 1 else 's'}, {rule}" for rule, count in count_by_rule(reread_rows).items()),
        )
        result = commit(context, batch) if batch.valid else _build_empty_result(context, table, notes)
        _remove_released(context, quarantined)
        return replace(result, rows_in=batch.valid + still_rejected, rows_quarantined=still_rejected, notes=notes)


def _read_committed_quarantine(context: StepContext, before: SourceHistory) -> DataFrame:
    """Return the quarantined records of committed batches, without those of a killed one."""
    return context.lake.read(context.spark, f"bronze.{context.item}_quarantine").where(f"{BATCH_ID} <= {before.last}")


def _remove_released(context: StepContext, quarantined: DataFrame) -> None:
    """Remove the records that are in the table now from the quarantine."""
    table = f"bronze.{context.item}"
    rows = context.lake.read(context.spark, f"{table}_quarantine")
    released = context.lake.read(context.spark, table).select(*_RECORD_ID).join(quarantined, _RECORD_ID, "left_semi").distinct()
    remaining = rows.join(released, _RECORD_ID, "left_anti").select(*rows.columns)
    context.lake.replace(remaining, f"{table}_quarantine", meta=context.meta())


def _build_empty_result(context: StepContext, table: str, notes: tuple[str, ...]) -> StepResult:
    version = context.lake.version(table)
    return StepResult({} if version is None else {table: version}, rows_in=0, rows_out=0, notes=notes)


def reprocess_table(context: StepContext) -> StepResult:
    """Compute the rows of the quarantined keys again, from the pinned inputs, and merge the valid ones by key.

    ``rows_in`` is the number of these rows. Row rules are checked; table rules wait for the next run. Rows without a key cannot be
    identified: they stay in quarantine.

    Raises:
        UsageError: the table has no key.
        ExpectationRefused: a row breaks a rule with ``on_violation: fail``, or a key has more than one row.
    """
    table, name = context.spec.pipeline.tables[context.item], f"silver.{context.item}"
    if not table.key:
        raise UsageError(f"tables.{context.item}: without `key` its rows cannot be merged; run `tidemill run … --only {context.node}`")
    lake = context.lake
    with raise_step_error(name), errors_count_as_violations(context.spark):
        rows = compute_table_rows(context, table)
        refused = _add_key(lake.read(context.spark, f"{name}_quarantine"), rows.schema, table.key)
        is_whole = reduce(and_, [F.col("_key")[key].isNotNull() for key in table.key])
        keys = refused.where(is_whole).select(*[F.col("_key")[key].alias(key) for key in table.key]).distinct()
        quarantined = rows.join(keys, list(table.key), "left_semi").select(*[column(part) for part in rows.columns])
        rules = build_table_rules(context, name, table, quarantined)
        with cache_frame(rules.annotate(quarantined)) as checked:
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
                valid_rows = select_kept_rows(checked)
                changing = [part for part in valid_rows.columns if part not in table.key]
                version = lake.merge(valid_rows, name, keys=table.key, update_if_changed=changing, meta=meta)
            if counts.rows:
                stamp = {"run_id": F.lit(context.run_id), "quarantined_at": F.lit(datetime.now(UTC))}
                released = checked.select(F.struct(*[column(key) for key in table.key]).alias("_key")).distinct()
                older = refused.join(released, "_key", "left_anti").select(*[part for part in refused.columns if part != "_key"])
                lake.replace(older.unionByName(select_quarantined_rows(checked).withColumns(stamp)), f"{name}_quarantine", meta=meta)
    outputs = {} if version is None else {name: version}
    dropped = counts.dropped + counts.superseded
    return StepResult(outputs, counts.rows, counts.kept, counts.quarantined, dropped)


def _add_key(quarantine: DataFrame, schema: T.StructType, key: list[str]) -> DataFrame:
    """Add ``_key``, the key of each quarantined row, from its JSON."""
    shape = T.StructType([T.StructField(name, schema[name].dataType) for name in key])
    return quarantine.withColumn("_key", F.from_json("raw", shape))
