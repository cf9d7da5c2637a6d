"""Quarantine taken through again: the records in it, and only they, after the rule, the options or the function was mended."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.caching import cached
from tidemill.column_names import BATCH_ID, ROW_HASH, SOURCE_FILE
from tidemill.errors import UsageError
from tidemill.lake.lock import locked
from tidemill.lake.staging import Staged
from tidemill.sources.files import list_source_files
from tidemill.sources.records import FATE, GOOD, refused_by_rule, survey
from tidemill.sources.registry import QueryKind, source_kind
from tidemill.steps.ingest_batch import Batch, commit
from tidemill.steps.ingest_files import file_rows, read_records
from tidemill.steps.ingest_past import REPROCESSED, Past, past
from tidemill.steps.ingest_schema import known_schema
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
    kind = source_kind(source.format, context.spec.folder)
    if isinstance(kind, QueryKind):
        raise UsageError(
            f"sources.{context.item}: {source.format} has no files to read again; use `tidemill run … --only {context.node} --replay FROM`"
        )
    with locked(context.lake.root, f"ingest.{table}"), ExitStack() as stack:
        before = past(context)
        wanted = stack.enter_context(cached(_committed(context, before).select(*_PLACE).distinct()))
        named = {row[SOURCE_FILE] for row in wanted.select(SOURCE_FILE).distinct().collect()}
        files = [file for file in list_source_files(source, context.spark) if file.name in named]
        gone = sorted(named - {file.name for file in files})
        notes = (f"{len(gone)} files are gone, such as {gone[0]}: their records stay in quarantine",) if gone else ()
        number = before.last + 1
        found = read_records(stack, context, source, kind, files, known_schema(context, source, before), number)
        if found.kept is None or found.schema is None:
            return _nothing(context, table, notes)
        columns = found.kept.frame.columns
        again = stack.enter_context(cached(found.kept.frame.join(wanted, _PLACE, "left_semi").select(*columns)))
        # A run that was killed behind its commit has added some of them already.
        added = context.lake.read(context.spark, table).select(*_PLACE).join(wanted, _PLACE, "left_semi").distinct()
        good = again.where(F.col(FATE) == GOOD).join(added, _PLACE, "left_anti").select(*columns)
        counts = survey(good)
        rows = [{**row, "state": REPROCESSED} for row in file_rows(context, files, counts, found.bad, number) if row["path"] in counts]
        batch = Batch(
            number, found.records, Staged(good, None), found.schema, counts, rows, changes=found.changes, reason="reprocessed", notes=notes
        )
        still = sum(count.refused for count in survey(again).values())
        notes = (
            *notes,
            *(f"still refused: {count} record{'' if count == 1 else 's'}, {rule}" for rule, count in refused_by_rule(again).items()),
        )
        result = commit(context, batch) if batch.good else _nothing(context, table, notes)
        _release(context, wanted)
        return replace(result, rows_in=batch.good + still, rows_quarantined=still, notes=notes)


def _committed(context: StepContext, before: Past) -> DataFrame:
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
