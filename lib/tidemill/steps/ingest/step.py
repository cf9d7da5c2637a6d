"""The step ingest: raw sources → ``bronze.<source>``, every record accounted for, each file and each position exactly once."""

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
from tidemill.quality.expectations.rules import KEY_RULE
from tidemill.runtime.locks import find_holder, hold_lock
from tidemill.sources.files.damaged import READ_FAILURES, reason
from tidemill.sources.records import FATE, GOOD, RULES, Extract, FileCount, Records, refused_by_rule, survey
from tidemill.sources.schema.policies import SchemaRefused, evolved, settled
from tidemill.spec.models import SOURCE_KINDS, Source
from tidemill.spec.models.source_kinds import FileKind, QueryKind
from tidemill.steps.ingest.batch import Batch, commit
from tidemill.steps.ingest.files import Unread, read_files
from tidemill.steps.ingest.history import FULL_BATCH, LOADED, Past, known_schema, past, record_changes, stamp
from tidemill.steps.ingest.staged_records import staged_records
from tidemill.steps.result import StepContext, StepResult

_SAMPLES = 3


def read_extract(
    stack: ExitStack, context: StepContext, source: Source, kind: QueryKind, before: Past, first: int | None
) -> Batch | Unread:
    """Read what is new since the last batch, everything for ``load: full``, or what batch ``first`` and those behind it held."""
    is_full = source.load == "full"
    since = None if is_full else before.position(first)
    try:
        known = known_schema(context, source, before)
        extracts: list[Extract] = []

        def read(columns: T.StructType) -> Records:
            extracts.append(kind.extract(context.spark, source, columns, since))
            return extracts[-1].records

        schema = kind.infer(context.spark, source) if known is None else kind.complete_schema(source, known)
        found = evolved(source, schema, read, lambda paths: kind.infer(context.spark, source), by_record=False)
        schema, extract = found.schema, extracts[-1]
        if not is_full:
            _require_position(context, before, extract, since, first)
        is_merged = extract.is_merged and not is_full
        frame = extract.records.frame
        if frame is None:
            return Unread(extract.records.notes)
        number = FULL_BATCH if is_full else before.last + 1
        if is_merged:
            frame = _keyed(frame, schema, source.key, extract.place)
        kept = staged_records(stack, context, source, replace(extract.records, frame=frame), schema, number)
        frame = kept.frame
        counts = survey(frame)
        refused = refused_by_rule(frame) if any(count.refused for count in counts.values()) else {}
    except READ_FAILURES as error:
        raise SourceError(reason(error)) from error
    if not counts and not is_full and before.exists and extract.position in (since, None):
        return Unread(("nothing new", *extract.records.notes))
    changes = settled(source, found.changes, refused, schema)
    if first is not None and not is_merged and not is_full:
        _require_all(context, extract, first, sum(count.records for count in counts.values()))
    if is_merged:
        _require_unique(frame, source.key)
    total = [sum(part) for part in zip(*((count.good, count.refused) for count in counts.values()), strict=True)] or [0, 0]
    row = {
        **stamp(context, number),
        "path": extract.place,
        "rows": total[0],
        "quarantined": total[1],
        "state": LOADED,
        "position": extract.position,
    }
    return Batch(
        number=number,
        records=extract.records,
        kept=kept,
        schema=schema,
        counts=counts or {extract.place: FileCount(0, 0, 0, 0)},
        ledger=[row],
        changes=changes,
        replaces=None if is_merged or is_full else first,
        merge_by=tuple(source.key) if is_merged else (),
        position=extract.position,
        place=extract.place,
        reason="declared" if source.schema_ else f"told by {extract.place}",
        notes=extract.records.notes,
    )


def _require_position(context: StepContext, before: Past, extract: Extract, since: str | None, first: int | None) -> None:
    """Refuse to append everything again where it is not known what the table holds already; a merge is safe in any case."""
    if since is None and before.exists and before.last > 0 and first is None and not extract.is_merged:
        raise SourceError(
            f"how far bronze.{context.item} has read {extract.place} is neither in ops.files nor in the table's log; "
            f"load it anew with `tidemill run … --only {context.node} --replay all`"
        )


def _require_all(context: StepContext, extract: Extract, first: int, found: int) -> None:
    """Refuse a replay that finds fewer records than it would replace: the table is their only archive by now."""
    tables = [name for name in (f"bronze.{context.item}", f"bronze.{context.item}_quarantine") if context.lake.exists(name)]
    held = sum(context.lake.read(context.spark, name).where(f"{BATCH_ID} >= {first}").count() for name in tables)
    if found < held:
        raise SourceError(
            f"{extract.place} holds {found} of the {held} records that a replay from batch {first} on would replace; "
            "replay from a later batch"
        )


def _keyed(frame: DataFrame, schema: T.StructType, key: Sequence[str], place: str) -> DataFrame:
    """Return the records with the rule ``key`` added to those that cannot be merged, as a null in the key is not the same as another."""
    for name in key:
        if name not in schema.names:
            raise UsageError(f"key: {place} has no column {name!r}{did_you_mean(name, schema.names)}; rows are merged by it")
    is_null = reduce(or_, [column(name).isNull() for name in key])
    return frame.withColumn(RULES, F.when(is_null, F.array_append(F.col(RULES), F.lit(KEY_RULE))).otherwise(F.col(RULES)))


def _require_unique(frame: DataFrame, key: Sequence[str]) -> None:
    groups = frame.where(F.col(FATE) == GOOD).groupBy(*[column(name) for name in key]).count().where("count > 1")
    found = groups.select(F.to_json(F.struct(*[column(name) for name in key])).alias("key")).limit(_SAMPLES).collect()
    if found:
        such_as = ", ".join(row["key"] for row in found)
        raise SourceError(
            f"`key: [{', '.join(key)}]` stands in more than one record, such as {such_as}; name the columns that tell records apart"
        )


def ingest(context: StepContext) -> StepResult:
    """Load one source into ``bronze.<source>`` and ``bronze.<source>_quarantine``.

    Grain: one row per physical record. Columns: the source's own, ``_source_file``, ``_source_row_hash``, ``_ingested_at``,
    ``_batch_id`` (0 for a full load), ``_rescued``. ``load: incremental`` takes each file, and what lies behind each position, once:
    the commit of the main table is the one point at which a batch counts; what was written before it is replaced by a repeat, what
    comes after it is rebuilt from it. Processes that ingest the same source take turns.

    Raises:
        UsageError: an option or the schema is wrong.
        SourceError: there is no file, none can be read, or one cannot and ``on_bad_file: fail`` says that this is not to be; or a
            schema policy says ``fail``.
        StepError: records were lost on the way.
    """
    source = context.spec.pipeline.sources[context.item]
    table = f"bronze.{context.item}"
    try:
        with _alone(context.lake, table) as waited, ExitStack() as stack:
            before = past(context)
            batch = _batch(stack, context, source, before)
            if isinstance(batch, Unread):
                return _unchanged(context, table, (*waited, *before.notes, *batch.notes))
            result = commit(context, batch)
            return StepResult(
                result.outputs, result.rows_in, result.rows_out, result.rows_quarantined, notes=(*waited, *before.notes, *result.notes)
            )
    except SchemaRefused as error:
        record_changes(context, error.changes, -1)
        raise SourceError(f"sources.{context.item}: {error}; {table} stays as it was") from error
    except (SourceError, UsageError) as error:
        raise type(error)(f"sources.{context.item}: {error}") from error


def _batch(stack: ExitStack, context: StepContext, source: Source, before: Past) -> Batch | Unread:
    kind = SOURCE_KINDS.get(source.format, context.spec.folder)
    first = before.lost_from if context.replay is None else before.first_batch(context.replay)
    if isinstance(kind, FileKind):
        return read_files(stack, context, source, kind, before, first)
    assert isinstance(kind, QueryKind)  # a kind derives from one of the two
    return read_extract(stack, context, source, kind, before, first)


@contextmanager
def _alone(lake: Lake, table: str) -> Iterator[tuple[str, ...]]:
    """Hold the source against other processes: who comes second sees what the first has committed. Yields remarks."""
    name = f"ingest.{table}"
    with hold_lock(lake.root, name, wait=False) as is_free:
        if is_free:
            yield ()
            return
    by = find_holder(lake.root, name)
    with hold_lock(lake.root, name):
        yield (f"waited for {by or 'another process'}, which was writing {table}",)


def _unchanged(context: StepContext, table: str, notes: tuple[str, ...]) -> StepResult:
    """Return the result of a run that found nothing new to load."""
    version = context.lake.version(table)
    outputs: Mapping[str, int] = {} if version is None else {table: version}
    return StepResult(outputs, rows_in=0, rows_out=0, notes=notes)
