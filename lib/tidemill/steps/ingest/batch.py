"""A batch of records: what was read, and its commit: quarantine, then the table, then the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import BATCH_ID, INGESTED_AT, ROW_HASH, SOURCE_FILE
from tidemill.errors import StepError
from tidemill.lake.staging import StagedRows
from tidemill.quoting import name_batch_app
from tidemill.runtime.spark_errors import raise_step_error
from tidemill.sources.records import FATE, GOOD, NOTED, RAW, RULES, SOURCE_LINE, FileCount, Records, apart, refused_records
from tidemill.sources.schema.policies import Change
from tidemill.steps.commit_stats import blank, holds, is_blank, rows_written
from tidemill.steps.ingest.history import FULL_BATCH, drop_replayed, lossy_columns, record, record_changes, record_schema
from tidemill.steps.ingest.staged_records import hold_to_expectations, most_partitions
from tidemill.steps.result import StepContext, StepResult


@dataclass(frozen=True)
class Batch:
    """Records that were read, counted, and are to be committed.

    ``kept`` are judged records (as of ``judged_records``), ``ledger`` the rows of ops.files that will tell of them. ``replaces`` is the
    first batch that this one replaces (a replay), ``merge_by`` the key by which the records are merged (empty: they are appended),
    ``position`` and ``place`` belong to a source without files.
    """

    number: int
    records: Records
    kept: StagedRows
    schema: T.StructType
    counts: Mapping[str, FileCount]
    ledger: Sequence[Mapping[str, object]]
    size: int = 0
    changes: tuple[Change, ...] = ()
    replaces: int | None = None
    merge_by: tuple[str, ...] = ()
    position: str | None = None
    place: str | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The physical records."""
        return sum(count.records for count in self.counts.values())

    @property
    def good(self) -> int:
        """The records that go into the table."""
        return sum(count.good for count in self.counts.values())

    @property
    def refused(self) -> int:
        """The records that go beside it."""
        return sum(count.refused for count in self.counts.values())

    def meta(self, context: StepContext) -> dict[str, object]:
        """Return what the commit says of itself: the truth from which the ledger can be made again."""
        told = {"batch_id": self.number, "rows_in": self.rows, "rows_out": self.good, "rows_quarantined": self.refused}
        more = {"replaces": self.replaces, "position": self.position, "place": self.place}
        return context.meta(**told, **{name: value for name, value in more.items() if value is not None})


def commit(context: StepContext, batch: Batch) -> StepResult:
    """Commit a batch; the table's own commit is the one point at which it counts.

    Raises:
        ExpectationRefused: one of the source's expectations fails the batch; nothing is committed.
        StepError: records were lost on the way, or a commit holds another number of rows than it should.
    """
    table = f"bronze.{context.item}"
    if batch.rows != batch.good + batch.refused:
        raise StepError(f"{table}: {batch.rows} records were read, but {batch.good} are good and {batch.refused} refused; report this")
    told = hold_to_expectations(context, batch.kept, batch.schema, batch.good)
    with raise_step_error(table):
        _commit_quarantine(context, f"{table}_quarantine", batch)
        _widen(context, table, batch)
        version = _commit_table(context, table, batch)
    written = None if batch.merge_by else rows_written(context.lake, table, version)
    if written not in (None, batch.good):
        raise StepError(f"{table}: version {version} holds {written} rows of this batch instead of {batch.good}; restore it and run again")
    record(context, batch.ledger, batch.number)
    record_changes(context, batch.changes, batch.number)
    record_schema(context, batch.schema, batch.reason, batch.number)
    if batch.replaces is not None:
        drop_replayed(context, batch.replaces, batch.number)
    notes = (*batch.notes, *told, *(str(change) for change in batch.changes))
    return StepResult({table: version}, batch.rows, batch.good, batch.refused, notes=notes)


def _commit_table(context: StepContext, table: str, batch: Batch) -> int:
    # The stage has these columns, in the order of the table, and the marks behind them.
    good = apart(batch.kept.frame.where(F.col(FATE) == GOOD), batch.schema).drop(NOTED, RAW, RULES, FATE)
    lake, meta, app, part = context.lake, batch.meta(context), name_batch_app(context.item), batch.kept.part(GOOD)
    if batch.number == FULL_BATCH:
        return lake.replace(good, table, meta=meta, part=part)
    if batch.replaces is not None and lake.exists(table):
        return lake.replace_where_once(good, table, where=f"{BATCH_ID} >= {batch.replaces}", app=app, n=batch.number, meta=meta)
    if batch.merge_by:
        changing = [name for name in batch.schema.names if name not in batch.merge_by]
        return lake.merge(good, table, keys=batch.merge_by, update_if_changed=changing, meta=meta, batch=(app, batch.number))
    return lake.append_once(good, table, app=app, n=batch.number, meta=meta, part=part)


def _widen(context: StepContext, table: str, batch: Batch) -> None:
    """Rewrite the table with the wider types of the batch, where it has narrower ones; its rows stay what they are."""
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
    lossy = lossy_columns(context, table, wider)
    if lossy:
        raise StepError(
            f"{table}: {', '.join(lossy)} cannot be widened to DOUBLE, it holds numbers above 2^53; declare it DECIMAL or STRING"
        )
    context.lake.recast(context.spark, table, wider, context.meta(widened=sorted(wider)))


def _commit_quarantine(context: StepContext, table: str, batch: Batch) -> None:
    """Write the refused records, in place of what a killed attempt at this batch may have left."""
    lake, mine = context.lake, f"{BATCH_ID} = {batch.number}"
    is_settled = is_blank(lake, table) if batch.number == FULL_BATCH else lake.exists(table) and not holds(lake, table, mine)
    if batch.refused == 0 and is_settled:
        return
    repeats = any(count.repeated_headers for count in batch.counts.values())
    refused = refused_records(batch.kept.frame, with_repeated_headers=repeats)
    if batch.refused and batch.records.locate is not None:
        refused = batch.records.locate(refused)
    if SOURCE_LINE not in refused.columns:
        refused = refused.withColumn(SOURCE_LINE, F.lit(None).cast("bigint"))
    stamps = {INGESTED_AT: F.lit(datetime.now(UTC)), BATCH_ID: F.lit(batch.number).cast("bigint"), "run_id": F.lit(context.run_id)}
    refused = refused.withColumns(stamps).coalesce(most_partitions(context, batch.size))
    refused = refused.select("raw", "rules", SOURCE_FILE, SOURCE_LINE, ROW_HASH, INGESTED_AT, BATCH_ID, "run_id")
    expected = batch.refused
    if batch.merge_by and lake.exists(table):
        # Records behind the watermark come again with each batch: those in quarantine already stay there once.
        known = lake.read(context.spark, table).where(f"NOT {mine}").select(SOURCE_FILE, ROW_HASH).distinct()
        refused = refused.join(known, [SOURCE_FILE, ROW_HASH], "left_anti").select(*refused.columns)
        expected = refused.count() if batch.refused else 0
        if expected == 0 and is_settled:
            return
    refused = refused if expected else blank(refused)
    meta = context.meta(batch_id=batch.number, rows_quarantined=batch.refused)
    if batch.number == FULL_BATCH:
        version = lake.replace(refused, table, meta=meta)
    else:
        version = lake.replace_where(refused, table, where=mine, meta=meta)
    written = rows_written(lake, table, version)
    if written not in (None, expected):
        raise StepError(f"{table}: {expected} records were refused, {written} written; run again")
