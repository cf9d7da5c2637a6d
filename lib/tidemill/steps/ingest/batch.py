"""Commit a batch of records: first the quarantine, then the table, then the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import BATCH_ID, INGESTED_AT, ROW_HASH, SOURCE_FILE
from tidemill.errors import StepError
from tidemill.lake.ops import FileRow
from tidemill.lake.staging import StagedRows
from tidemill.quoting import name_batch_app
from tidemill.runtime.spark_errors import raise_step_error
from tidemill.sources.records import RAW, RULES, SOURCE_LINE, STATUS, VALID, WARNINGS, FileCount, Records, isolate_selects, select_rejected
from tidemill.sources.schema.policies import SchemaChange
from tidemill.steps.commit_stats import count_written_rows, has_matching_rows, is_empty_table, make_empty_frame
from tidemill.steps.ingest.history import FULL_BATCH, drop_replayed, find_lossy_columns, record_changes, record_files, record_schema
from tidemill.steps.ingest.staged_records import hold_to_expectations, max_partitions
from tidemill.steps.result import StepContext, StepResult


@dataclass(frozen=True)
class Batch:
    """Staged and counted records that are to be committed.

    Args:
        number: the number of the batch.
        records: what the reader returned.
        staged: the records with their status (see ``add_status``).
        schema: the columns of the table without those that ingest adds.
        counts: the counts by file.
        ledger: the rows of ops.files for this batch.
        size: the size of the files in bytes.
        changes: the changes of the schema.
        replaces: the first batch that this one replaces (a replay).
        merge_by: the key by which records are merged; empty to append them.
        position: where the next read begins, for a source without files.
        place: the place of a source without files.
        reason: where the schema comes from.
        notes: remarks for the user.
    """

    number: int
    records: Records
    staged: StagedRows
    schema: T.StructType
    counts: Mapping[str, FileCount]
    ledger: Sequence[FileRow]
    size: int = 0
    changes: tuple[SchemaChange, ...] = ()
    replaces: int | None = None
    merge_by: tuple[str, ...] = ()
    position: str | None = None
    place: str | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The number of physical records."""
        return sum(count.records for count in self.counts.values())

    @property
    def valid(self) -> int:
        """The number of records for the table."""
        return sum(count.valid for count in self.counts.values())

    @property
    def rejected(self) -> int:
        """The number of records for the quarantine."""
        return sum(count.rejected for count in self.counts.values())

    def meta(self, context: StepContext) -> dict[str, object]:
        """Return the metadata of the commit, from which the ledger can be rebuilt."""
        counts = {"batch_id": self.number, "rows_in": self.rows, "rows_out": self.valid, "rows_quarantined": self.rejected}
        more = {"replaces": self.replaces, "position": self.position, "place": self.place}
        return context.meta(**counts, **{name: value for name, value in more.items() if value is not None})


def commit(context: StepContext, batch: Batch) -> StepResult:
    """Commit a batch; it counts from the table's own commit on.

    Raises:
        ExpectationRefused: one of the source's expectations fails the batch; nothing is committed.
        StepError: records were lost, or a commit has another number of rows than expected.
    """
    table = f"bronze.{context.item}"
    if batch.rows != batch.valid + batch.rejected:
        raise StepError(f"{table}: {batch.rows} records were read, but {batch.valid} are valid and {batch.rejected} rejected; report this")
    remarks = hold_to_expectations(context, batch.staged, batch.schema, batch.valid)
    with raise_step_error(table):
        _commit_quarantine(context, f"{table}_quarantine", batch)
        _widen(context, table, batch)
        version = _commit_table(context, table, batch)
    written = None if batch.merge_by else count_written_rows(context.lake, table, version)
    if written not in (None, batch.valid):
        raise StepError(f"{table}: version {version} holds {written} rows of this batch instead of {batch.valid}; restore it and run again")
    record_files(context, batch.ledger, batch.number)
    record_changes(context, batch.changes, batch.number)
    record_schema(context, batch.schema, batch.reason, batch.number)
    if batch.replaces is not None:
        drop_replayed(context, batch.replaces, batch.number)
    notes = (*batch.notes, *remarks, *(str(change) for change in batch.changes))
    return StepResult({table: version}, batch.rows, batch.valid, batch.rejected, notes=notes)


def _commit_table(context: StepContext, table: str, batch: Batch) -> int:
    # The staged rows have the columns of the table in order, followed by those of their status.
    valid = isolate_selects(batch.staged.frame.where(F.col(STATUS) == VALID), batch.schema).drop(WARNINGS, RAW, RULES, STATUS)
    lake, meta, app, part = context.lake, batch.meta(context), name_batch_app(context.item), batch.staged.part(VALID)
    if batch.number == FULL_BATCH:
        return lake.replace(valid, table, meta=meta, part=part)
    if batch.replaces is not None and lake.exists(table):
        return lake.replace_where_once(valid, table, where=f"{BATCH_ID} >= {batch.replaces}", app=app, n=batch.number, meta=meta)
    if batch.merge_by:
        changing = [name for name in batch.schema.names if name not in batch.merge_by]
        return lake.merge(valid, table, keys=batch.merge_by, update_if_changed=changing, meta=meta, batch=(app, batch.number))
    return lake.append_once(valid, table, app=app, n=batch.number, meta=meta, part=part)


def _widen(context: StepContext, table: str, batch: Batch) -> None:
    """Rewrite the table with the wider types of the batch; the values of its rows stay the same."""
    if batch.number == FULL_BATCH or not context.lake.exists(table):
        return
    before = context.lake.read(context.spark, table).schema
    wider = {
        part.name: part.dataType
        for part in batch.schema.fields
        if part.name in before.names and before[part.name].dataType != part.dataType
    }
    if not wider:
        return
    lossy = find_lossy_columns(context, table, wider)
    if lossy:
        raise StepError(
            f"{table}: {', '.join(lossy)} cannot be widened to DOUBLE, it holds numbers above 2^53; declare it DECIMAL or STRING"
        )
    context.lake.recast(context.spark, table, wider, context.meta(widened=sorted(wider)))


def _commit_quarantine(context: StepContext, table: str, batch: Batch) -> None:
    """Write the rejected records, replacing those that a killed attempt at this batch may have left."""
    lake, mine = context.lake, f"{BATCH_ID} = {batch.number}"
    is_settled = (
        is_empty_table(lake, table) if batch.number == FULL_BATCH else lake.exists(table) and not has_matching_rows(lake, table, mine)
    )
    if batch.rejected == 0 and is_settled:
        return
    repeats = any(count.repeated_headers for count in batch.counts.values())
    rejected = select_rejected(batch.staged.frame, with_repeated_headers=repeats)
    if batch.rejected and batch.records.locate is not None:
        rejected = batch.records.locate(rejected)
    if SOURCE_LINE not in rejected.columns:
        rejected = rejected.withColumn(SOURCE_LINE, F.lit(None).cast("bigint"))
    stamps = {INGESTED_AT: F.lit(datetime.now(UTC)), BATCH_ID: F.lit(batch.number).cast("bigint"), "run_id": F.lit(context.run_id)}
    rejected = rejected.withColumns(stamps).coalesce(max_partitions(context, batch.size))
    rejected = rejected.select("raw", "rules", SOURCE_FILE, SOURCE_LINE, ROW_HASH, INGESTED_AT, BATCH_ID, "run_id")
    expected = batch.rejected
    if batch.merge_by and lake.exists(table):
        # Records behind the watermark come again with each batch; the quarantine keeps each once.
        known = lake.read(context.spark, table).where(f"NOT {mine}").select(SOURCE_FILE, ROW_HASH).distinct()
        rejected = rejected.join(known, [SOURCE_FILE, ROW_HASH], "left_anti").select(*rejected.columns)
        expected = rejected.count() if batch.rejected else 0
        if expected == 0 and is_settled:
            return
    rejected = rejected if expected else make_empty_frame(rejected)
    meta = context.meta(batch_id=batch.number, rows_quarantined=batch.rejected)
    if batch.number == FULL_BATCH:
        version = lake.replace(rejected, table, meta=meta)
    else:
        version = lake.replace_where(rejected, table, where=mine, meta=meta)
    written = count_written_rows(lake, table, version)
    if written not in (None, expected):
        raise StepError(f"{table}: {expected} records were rejected, {written} written; run again")
