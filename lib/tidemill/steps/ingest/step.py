"""The step ingest: raw sources → ``bronze.<source>``, with every record accounted for, and each file and position loaded exactly once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import reduce
from operator import or_

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import BATCH_ID
from tidemill.columns import column
from tidemill.errors import SourceError, UsageError, did_you_mean
from tidemill.lake import Lake
from tidemill.lake.ops import FileRow
from tidemill.quality.expectations.rules import KEY_RULE
from tidemill.runtime.locks import find_holder, hold_lock
from tidemill.sources.files.damaged import READ_FAILURES, format_reason
from tidemill.sources.records import RULES, STATUS, VALID, Extract, FileCount, Records
from tidemill.sources.schema.policies import SchemaRejected, apply_policies, evolve_schema
from tidemill.spec.models import SOURCE_KINDS, Source
from tidemill.spec.models.source_kinds import FileKind, QueryKind
from tidemill.steps.ingest.batch import Batch, commit
from tidemill.steps.ingest.files import NothingToLoad, read_files
from tidemill.steps.ingest.history import FULL_BATCH, LOADED, SourceHistory, load_history, record_changes, resolve_schema, stamp_columns
from tidemill.steps.ingest.staged_records import BatchJob, stage_records
from tidemill.steps.result import StepContext, StepResult

_SAMPLES = 3


def read_extract(
    stack: ExitStack, context: StepContext, source: Source, kind: QueryKind, before: SourceHistory, first: int | None
) -> Batch | NothingToLoad:
    """Read what is new since the last batch, everything for ``load: full``, or the records of batch ``first`` and later ones."""
    is_full = source.load == "full"
    since = None if is_full else before.position(first)
    try:
        known = resolve_schema(context, source, before)
        extracts: list[Extract] = []

        def read(columns: T.StructType) -> Records:
            extracts.append(kind.extract(context.spark, source, columns, since))
            return extracts[-1].records

        schema = kind.infer(context.spark, source) if known is None else kind.complete_schema(source, known)
        evolution = evolve_schema(source, schema, read, lambda paths: kind.infer(context.spark, source), by_record=False)
        schema, extract = evolution.schema, extracts[-1]
        if not is_full:
            _require_known_position(context, before, extract, since, first)
        is_merged = extract.is_merged and not is_full
        frame = extract.records.frame
        if frame is None:
            return NothingToLoad(extract.records.notes)
        number = FULL_BATCH if is_full else before.last + 1
        if is_merged:
            frame = _add_key_rule(frame, schema, source.key, extract.place)
        staged = stage_records(BatchJob(stack, context, source, number), replace(extract.records, frame=frame), schema)
    except READ_FAILURES as error:
        raise SourceError(format_reason(error)) from error
    counts = staged.counts
    if not counts and not is_full and before.exists and extract.position in (since, None):
        return NothingToLoad(("nothing new", *extract.records.notes))
    changes = apply_policies(source, evolution.changes, staged.rejections, schema)
    if first is not None and not is_merged and not is_full:
        _require_all_records(context, extract, first, sum(count.records for count in counts.values()))
    if is_merged:
        _require_unique_keys(staged.rows.frame, source.key)
    row = FileRow(
        **stamp_columns(context, number),
        path=extract.place,
        rows=sum(count.valid for count in counts.values()),
        quarantined=sum(count.rejected for count in counts.values()),
        state=LOADED,
        position=extract.position,
    )
    return Batch(
        number=number,
        records=extract.records,
        staged=staged.rows,
        schema=schema,
        counts=counts or {extract.place: FileCount(0, 0, 0, 0)},
        ledger=[row],
        changes=changes,
        replaces=None if is_merged or is_full else first,
        merge_by=tuple(source.key) if is_merged else (),
        position=extract.position,
        place=extract.place,
        reason="declared" if source.schema_ else f"inferred from {extract.place}",
        notes=extract.records.notes,
    )


def _require_known_position(context: StepContext, before: SourceHistory, extract: Extract, since: str | None, first: int | None) -> None:
    """Raise a SourceError instead of appending all records again if the table's position is unknown; a merge is always safe."""
    if since is None and before.exists and before.last > 0 and first is None and not extract.is_merged:
        raise SourceError(
            f"how far bronze.{context.item} has read {extract.place} is neither in ops.files nor in the table's log; "
            f"load it anew with `tidemill run … --only {context.node} --replay all`"
        )


def _require_all_records(context: StepContext, extract: Extract, first: int, records: int) -> None:
    """Raise a SourceError if a replay has fewer records than it would replace: the table may be their only archive."""
    tables = [name for name in (f"bronze.{context.item}", f"bronze.{context.item}_quarantine") if context.lake.exists(name)]
    stored = sum(context.lake.read(context.spark, name).where(f"{BATCH_ID} >= {first}").count() for name in tables)
    if records < stored:
        raise SourceError(
            f"{extract.place} holds {records} of the {stored} records that a replay from batch {first} on would replace; "
            "replay from a later batch"
        )


def _add_key_rule(frame: DataFrame, schema: T.StructType, key: Sequence[str], place: str) -> DataFrame:
    """Add the rule ``key`` to records with a null in the key, which cannot be merged."""
    for name in key:
        if name not in schema.names:
            raise UsageError(f"key: {place} has no column {name!r}{did_you_mean(name, schema.names)}; rows are merged by it")
    is_null = reduce(or_, [column(name).isNull() for name in key])
    return frame.withColumn(RULES, F.when(is_null, F.array_append(F.col(RULES), F.lit(KEY_RULE))).otherwise(F.col(RULES)))


def _require_unique_keys(frame: DataFrame, key: Sequence[str]) -> None:
    groups = frame.where(F.col(STATUS) == VALID).groupBy(*[column(name) for name in key]).count().where("count > 1")
    duplicates = groups.select(F.to_json(F.struct(*[column(name) for name in key])).alias("key")).limit(_SAMPLES).collect()
    if duplicates:
        such_as = ", ".join(row["key"] for row in duplicates)
        raise SourceError(
            f"`key: [{', '.join(key)}]` stands in more than one record, such as {such_as}; name the columns that tell records apart"
        )


def ingest(context: StepContext) -> StepResult:
    """Load one source into ``bronze.<source>`` and ``bronze.<source>_quarantine``.

    Grain: one row per physical record. Columns: the source's own, ``_source_file``, ``_source_row_hash``, ``_ingested_at``,
    ``_batch_id`` (0 for a full load), ``_rescued``. ``load: incremental`` loads each file, and the records after each position, once. A
    batch counts from the commit of the main table on: a repeat replaces what was written before it, and what comes after it is rebuilt
    from it. Processes that ingest the same source take turns.

    Raises:
        UsageError: an option or the schema is wrong.
        SourceError: there is no file, none can be read, or one cannot and ``on_bad_file: fail`` is set; or a schema policy is ``fail``.
        StepError: records were lost.
    """
    source = context.spec.pipeline.sources[context.item]
    table = f"bronze.{context.item}"
    try:
        with _hold_source(context.lake, table) as waited, ExitStack() as stack:
            before = load_history(context)
            batch = _read_batch(stack, context, source, before)
            if isinstance(batch, NothingToLoad):
                return _skip(context, table, (*waited, *before.notes, *batch.notes))
            result = commit(context, batch)
            return StepResult(
                result.outputs, result.rows_in, result.rows_out, result.rows_quarantined, notes=(*waited, *before.notes, *result.notes)
            )
    except SchemaRejected as error:
        record_changes(context, error.changes, -1)
        raise SourceError(f"sources.{context.item}: {error}; {table} stays as it was") from error
    except (SourceError, UsageError) as error:
        raise type(error)(f"sources.{context.item}: {error}") from error


def _read_batch(stack: ExitStack, context: StepContext, source: Source, before: SourceHistory) -> Batch | NothingToLoad:
    kind = SOURCE_KINDS.get(source.format, context.spec.folder)
    first = before.lost_from if context.replay is None else before.first_batch(context.replay)
    if isinstance(kind, FileKind):
        return read_files(stack, context, source, kind, before, first)
    assert isinstance(kind, QueryKind)  # every kind derives from one of the two
    return read_extract(stack, context, source, kind, before, first)


@contextmanager
def _hold_source(lake: Lake, table: str) -> Iterator[tuple[str, ...]]:
    """Lock the source against other processes, which then see what this one has committed; yield remarks."""
    name = f"ingest.{table}"
    with hold_lock(lake.root, name, wait=False) as is_free:
        if is_free:
            yield ()
            return
    by = find_holder(lake.root, name)
    with hold_lock(lake.root, name):
        yield (f"waited for {by or 'another process'}, which was writing {table}",)


def _skip(context: StepContext, table: str, notes: tuple[str, ...]) -> StepResult:
    """Return the result of a run with nothing to load."""
    version = context.lake.version(table)
    outputs: Mapping[str, int] = {} if version is None else {table: version}
    return StepResult(outputs, rows_in=0, rows_out=0, notes=notes)
