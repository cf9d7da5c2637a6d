"""The step ingest: raw files → ``bronze.<source>``, every record accounted for, each file exactly once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.caching import cached
from tidemill.errors import SourceError, StepError, UsageError
from tidemill.sources.damaged import READ_FAILURES, empty_files, probe, reason
from tidemill.sources.files import SourceFile, list_files
from tidemill.sources.records import (
    BATCH_ID,
    INGESTED_AT,
    PROVENANCE,
    RESCUED,
    ROW_HASH,
    SOURCE_FILE,
    SOURCE_LINE,
    FileCount,
    Records,
    column,
    good_records,
    refused_records,
    survey,
)
from tidemill.sources.registry import source_kind
from tidemill.sources.schemas import parsed_schema
from tidemill.spark_errors import as_step_error
from tidemill.spec.models import Source
from tidemill.steps.ingest_files import FULL_BATCH, app_id, file_rows, new_files, record_files
from tidemill.steps.result import StepContext, StepResult
from tidemill.steps.written import blank, holds_batch, is_blank, rows_written

_BYTES_A_FILE = 64 * 2**20
_TOLD = 5


@dataclass(frozen=True)
class _Batch:
    """Files that were read: their records (None where there is none), the counts by file, the files that are bad."""

    number: int
    files: tuple[SourceFile, ...]
    frame: DataFrame | None
    schema: T.StructType | None
    counts: Mapping[str, FileCount]
    bad: Mapping[str, str]
    notes: tuple[str, ...]
    locate: Callable[[DataFrame], DataFrame] | None = None

    @property
    def records(self) -> int:
        return sum(count.records for count in self.counts.values())

    @property
    def good(self) -> int:
        return sum(count.good for count in self.counts.values())

    @property
    def refused(self) -> int:
        return sum(count.refused for count in self.counts.values())


def ingest(context: StepContext) -> StepResult:
    """Load the files of one source into ``bronze.<source>`` and ``bronze.<source>_quarantine``.

    Grain: one row per physical record. Columns: the source's own, ``_source_file``, ``_source_row_hash``, ``_ingested_at``,
    ``_batch_id`` (0 for a full load), ``_rescued``. ``load: incremental`` takes each file once: the commit of the main table is the one
    point at which a batch counts; what was written before it is replaced by a repeat, what comes after it is rebuilt from it.

    Raises:
        UsageError: an option or the schema is wrong.
        SourceError: there is no file, none can be read, or one cannot and ``on_bad_file: fail`` says that this is not to be.
        StepError: records were lost on the way.
    """
    source = context.spec.pipeline.sources[context.item]
    table = f"bronze.{context.item}"
    is_full = source.load == "full"
    try:
        files = list_files(source.paths, context.spark)
        notes: tuple[str, ...] = ()
        number = FULL_BATCH
        if not is_full:
            new = new_files(context, files, retry_bad=source.on_bad_file == "fail" or not context.lake.exists(table))
            files, notes = new.files, new.notes
            number = (context.lake.txn_version(table, app_id(context.item)) or FULL_BATCH) + 1
        if not files:
            return _unchanged(context, table, notes)
        with ExitStack() as stack:
            batch = _read(stack, context, source, files, number)
            return _load(context, source, table, batch, notes)
    except (SourceError, UsageError) as error:
        raise type(error)(f"sources.{context.item}: {error}") from error


def _read(stack: ExitStack, context: StepContext, source: Source, files: tuple[SourceFile, ...], number: int) -> _Batch:
    """Read the files, all at once; only where that fails are they tried one by one."""
    kind = source_kind(source.format)
    known = _known_schema(context, source)
    bad = empty_files(files)
    for is_last in (False, True):
        readable = [file for file in files if file.path not in bad]
        try:
            schema = known or (kind.infer(context.spark, source, readable) if readable else None)
            records = kind.read(context.spark, source, readable, schema) if schema is not None and readable else Records(None)
            frame = None if records.frame is None else stack.enter_context(cached(records.frame))
            counts = {} if frame is None else survey(frame)
            return _Batch(number, files, frame, schema, counts, bad | dict(records.bad_files), records.notes, records.locate)
        except READ_FAILURES as error:
            found = {} if is_last else probe(context.spark, kind, source, readable, known)
            if not found:
                raise SourceError(reason(error)) from error
            bad |= found
    raise AssertionError("unreachable")


def _known_schema(context: StepContext, source: Source) -> T.StructType | None:
    """Return the declared schema, or the one pinned in the table; None where the first batch is yet to tell."""
    if source.schema_ is not None:
        return parsed_schema(context.spark, context.spec.schema_text(source.schema_))
    table = f"bronze.{context.item}"
    if not context.lake.exists(table):
        return None
    return T.StructType([part for part in context.lake.read(context.spark, table).schema.fields if part.name not in PROVENANCE])


def _load(context: StepContext, source: Source, table: str, batch: _Batch, notes: tuple[str, ...]) -> StepResult:
    """Commit a batch: quarantine, then the table, then the ledger."""
    notes = (*notes, *batch.notes, *_told(batch.bad))
    rows = file_rows(context, batch.files, batch.counts, batch.bad, batch.number)
    is_hopeless = batch.frame is None and (source.load == "full" or not context.lake.exists(table))
    if batch.bad and (is_hopeless or source.on_bad_file == "fail"):
        context.lake.ledger.append("ops.files", [row for row in rows if row["error"]])
        what = "none of the files can be read" if is_hopeless else "a file cannot be read, and `on_bad_file: fail` is set"
        raise SourceError("; ".join((what, *_told(batch.bad))))
    if batch.frame is None or batch.schema is None:
        context.lake.ledger.append("ops.files", rows)
        return _unchanged(context, table, notes)
    if batch.records != batch.good + batch.refused:
        raise StepError(f"{table}: {batch.records} records were read, but {batch.good} are good and {batch.refused} refused; report this")
    stamp = {INGESTED_AT: F.lit(datetime.now(UTC)), BATCH_ID: F.lit(batch.number).cast("bigint")}
    with as_step_error(table):
        _commit_quarantine(context, f"{table}_quarantine", batch, stamp)
        version = _commit(context, table, batch, stamp)
    written = rows_written(context.lake, table, version)
    if written not in (None, batch.good):
        raise StepError(f"{table}: version {version} holds {written} rows of this batch instead of {batch.good}; restore it and run again")
    record_files(context, rows, batch.number)
    return StepResult({table: version}, batch.records, batch.good, batch.refused, notes=notes)


def _commit(context: StepContext, table: str, batch: _Batch, stamp: Mapping[str, Column]) -> int:
    assert batch.frame is not None
    assert batch.schema is not None
    order = [column(name) for name in batch.schema.names]
    good = good_records(batch.frame, batch.schema).withColumns(dict(stamp))
    good = _compacted(context, good.select(*order, SOURCE_FILE, ROW_HASH, INGESTED_AT, BATCH_ID, RESCUED), batch.files)
    meta = context.meta(
        batch_id=batch.number,
        files=len(batch.files) - len(batch.bad),
        rows_in=batch.records,
        rows_out=batch.good,
        rows_quarantined=batch.refused,
    )
    if batch.number == FULL_BATCH:
        return context.lake.replace(good, table, meta=meta)
    return context.lake.append_once(good, table, app=app_id(context.item), n=batch.number, meta=meta)


def _commit_quarantine(context: StepContext, table: str, batch: _Batch, stamp: Mapping[str, Column]) -> None:
    """Write the refused records, in place of what a killed attempt at this batch may have left."""
    lake = context.lake
    is_settled = is_blank(lake, table) if batch.number == FULL_BATCH else lake.exists(table) and not holds_batch(lake, table, batch.number)
    if batch.frame is None or (batch.refused == 0 and is_settled):
        return
    repeats = any(count.repeated_headers for count in batch.counts.values())
    refused = refused_records(batch.frame, with_repeated_headers=repeats)
    find = batch.locate if batch.refused else None
    refused = find(refused) if find else refused.withColumn(SOURCE_LINE, F.lit(None).cast("bigint"))
    refused = refused.withColumns({**stamp, "run_id": F.lit(context.run_id)})
    refused = _compacted(context, refused, batch.files).select(
        "raw", "rules", SOURCE_FILE, SOURCE_LINE, ROW_HASH, INGESTED_AT, BATCH_ID, "run_id"
    )
    refused = refused if batch.refused else blank(refused)
    meta = context.meta(batch_id=batch.number, rows_quarantined=batch.refused)
    if batch.number == FULL_BATCH:
        version = lake.replace(refused, table, meta=meta)
    else:
        version = lake.replace_where(refused, table, where=f"{BATCH_ID} = {batch.number}", meta=meta)
    written = rows_written(lake, table, version)
    if written not in (None, batch.refused):
        raise StepError(f"{table}: {batch.refused} records were refused, {written} written; run again")


def _compacted(context: StepContext, rows: DataFrame, files: Sequence[SourceFile]) -> DataFrame:
    """Return the rows in no more partitions than they are worth: each becomes a file of the table."""
    cores = int(context.spark.conf.get("spark.sql.shuffle.partitions") or 1)
    return rows.coalesce(max(cores, sum(file.size for file in files) // _BYTES_A_FILE))


def _unchanged(context: StepContext, table: str, notes: tuple[str, ...]) -> StepResult:
    """Return the result of a run that found nothing new to load."""
    version = context.lake.version(table)
    return StepResult({} if version is None else {table: version}, rows_in=0, rows_out=0, notes=notes)


def _told(bad: Mapping[str, str]) -> tuple[str, ...]:
    told = [f"{path}: {why}" for path, why in list(bad.items())[:_TOLD]]
    return (*told, f"and {len(bad) - _TOLD} more files") if len(bad) > _TOLD else tuple(told)
