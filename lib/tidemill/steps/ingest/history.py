"""The history of a source: its earlier batches, and the schema of its table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import BATCH_ID, PROVENANCE, SOURCE_FILE
from tidemill.columns import column
from tidemill.errors import UsageError
from tidemill.lake.ops import FileRow, SchemaChangeRow, SchemaRow
from tidemill.quoting import name_batch_app
from tidemill.sources.schema.policies import SchemaChange, sql_name
from tidemill.sources.schema.types import is_wider, parse_schema, validate_schema
from tidemill.spec.models import Source
from tidemill.steps.commit_stats import has_matching_rows, make_empty_frame
from tidemill.steps.result import StepContext

FULL_BATCH = 0
"""The batch number of a full load; incremental batches count from 1."""

LOADED, BAD = "loaded", "bad"
REPROCESSED = "reprocessed"
"""The state of a loaded file whose quarantined records were read again."""

CommitMeta = Mapping[str, Any]
"""The metadata of a commit of this step: batch, run, counts, and for sources without files place and position."""


@dataclass(frozen=True)
class SourceHistory:
    """What the lake holds of a source.

    Args:
        last: the number of the last committed batch, 0 before the first.
        rows: the rows of ops.files about records in the table and about bad files, oldest first.
        schema: the columns of the table without those that ingest adds; None without a table.
        notes: remarks for the user.
        lost: the rows of batches that the table has lost at its end.
        lost_from: the first batch of which the table has lost some records.
    """

    last: int
    rows: tuple[FileRow, ...]
    schema: T.StructType | None
    notes: tuple[str, ...] = ()
    lost: tuple[FileRow, ...] = ()
    lost_from: int | None = None

    @property
    def exists(self) -> bool:
        """True if the source has a table."""
        return self.schema is not None

    @property
    def latest(self) -> dict[str, FileRow]:
        """The latest row of each file, without rows of reprocessed records."""
        return {str(row.path): row for row in self.rows if row.state != REPROCESSED}

    def whole_from(self, first: int) -> int:
        """Return the greatest batch up to ``first`` such that no file has records both before it and from it on."""
        batches: dict[str, list[int]] = {}
        for row in self.rows:
            if row.state != BAD:
                batches.setdefault(str(row.path), []).append(batch_of(row))
        while True:
            lower = min((min(annotate_records) for annotate_records in batches.values() if max(annotate_records) >= first), default=first)
            if lower >= first:
                return first
            first = lower

    def position(self, before: int | None = None) -> str | None:
        """Return the position after the last batch, or after the last one before batch ``before``; None without one."""
        behind = [row for row in self.rows if row.position is not None and (before is None or batch_of(row) < before)]
        return max(behind, key=batch_of).position if behind else None

    def first_batch(self, since: str) -> int:
        """Return the first batch of ``--replay SINCE``: ``all``, a batch's number, or a time for the first batch at or after it.

        Raises:
            UsageError: there is no such batch, or ``since`` is none of the three.
        """
        if since == "all":
            return FULL_BATCH
        if since.isdigit():
            if not 0 < int(since) <= self.last:
                raise UsageError(f"--replay {since}: there is no such batch, the last one is {self.last}")
            return int(since)
        try:
            moment = datetime.fromisoformat(since)
        except ValueError:
            raise UsageError(f"--replay {since}: expected `all`, a batch's number, or a time such as 2013-06-01") from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        behind = [batch_of(row) for row in self.rows if row.state == LOADED and row.recorded_at and row.recorded_at >= moment]
        if not behind:
            raise UsageError(f"--replay {since}: nothing was loaded since then, the last batch is {self.last}")
        return min(behind)


def load_history(context: StepContext) -> SourceHistory:
    """Load the history of the step's source, and complete what a killed run left undone.

    The table is the source of truth. Rows of ops.files about batches that the table does not have are ignored, so their files are read
    again; batches of the table that are missing in the ledger are added to it.
    """
    lake, table = context.lake, f"bronze.{context.item}"
    rows = _drop_before_full_load(lake.ledger.read(FileRow, source=context.item))
    if not lake.exists(table):
        loaded = tuple(row for row in rows if row.state != BAD)
        return SourceHistory(FULL_BATCH, tuple(row for row in rows if row.state == BAD), None, lost=loaded)
    schema = T.StructType([part for part in lake.read(context.spark, table).schema.fields if part.name not in PROVENANCE])
    last = lake.txn_version(table, name_batch_app(context.item)) or FULL_BATCH
    ahead = [row for row in rows if batch_of(row) > last and row.state != BAD]
    notes = []
    if ahead:
        notes.append(f"ops.files tells of batch {batch_of(ahead[-1])}, but {table} ends with batch {last}: its files are read again")
        rows = [row for row in rows if row not in ahead]
    commits = [meta for meta in lake.metadata(table) if meta.get("node") == context.node and "batch_id" in meta]
    rows += _restore_missing_rows(context, rows, commits, last)
    _drop_replayed(context, commits)
    lost_from = _find_lost_batch(context, rows, commits, last)
    if lost_from is not None:
        notes.append(f"{table} or its quarantine has lost records of batch {lost_from}: it is loaded again from that batch on")
    return SourceHistory(last, tuple(rows), schema, tuple(notes), tuple(ahead), lost_from)


def _find_lost_batch(context: StepContext, rows: Sequence[FileRow], commits: Sequence[CommitMeta], last: int) -> int | None:
    """Return the first batch with lost records, if commits of the table or of its quarantine were lost since the last batch.

    A merge moves records between batches, and reprocessing takes them out of quarantine: in these cases all batches count as lost.
    """
    table = f"bronze.{context.item}"
    since = int(commits[0]["version"]) + 1 if commits else 0
    quarantined: list[CommitMeta] = [meta for meta in context.lake.metadata(f"{table}_quarantine") if "node" in meta]
    beside = int(quarantined[0]["version"]) + 1 if quarantined else 0
    is_lost, is_lost_beside = context.lake.is_lost_since(table, since), context.lake.is_lost_since(f"{table}_quarantine", beside)
    numbers = sorted({batch_of(row) for row in rows if row.state != BAD} - {FULL_BATCH})
    if not (is_lost or is_lost_beside) or not numbers:
        return None
    source = context.spec.pipeline.sources[context.item]
    if source.key or (is_lost_beside and any(row.state == REPROCESSED for row in rows)):
        return numbers[0]
    recorded = {(batch_of(row), str(row.path)): (row.rows or 0, row.quarantined or 0) for row in rows if row.state != BAD}
    counts = _count_records(context, numbers[0], last)
    for (batch, path), (valid, rejected) in sorted(recorded.items()):
        stored_valid, stored_rejected = counts.get(batch, {}).get(path, (0, 0))
        if stored_valid < valid or (stored_rejected < rejected and is_lost_beside):
            return batch
    return None


def _restore_missing_rows(context: StepContext, rows: Sequence[FileRow], commits: Sequence[CommitMeta], last: int) -> list[FileRow]:
    """Add rows of committed batches that are missing in the ledger, and return them."""
    recorded = {(row.run_id, row.batch_id) for row in rows if row.state == LOADED}
    if commits and commits[0]["batch_id"] == FULL_BATCH and (commits[0]["run_id"], FULL_BATCH) not in recorded:
        return _rebuild_rows(context, FULL_BATCH, FULL_BATCH, commits)
    known = {batch_of(row) for row in rows if row.state != BAD}
    if not known:
        return _rebuild_rows(context, FULL_BATCH, last, commits)
    lacking = [batch for batch in range(min(known), last + 1) if batch not in known]
    return _rebuild_rows(context, lacking[0], lacking[-1], commits, known) if lacking else []


def _rebuild_rows(context: StepContext, first: int, last: int, commits: Sequence[CommitMeta], known: Collection[int] = ()) -> list[FileRow]:
    """Rebuild the rows of batches ``first`` to ``last``, except ``known`` ones, from their commits and from the tables."""
    meta_of = {int(meta["batch_id"]): meta for meta in reversed(commits)}
    counted = _count_records(context, first, last)
    rows: list[FileRow] = []
    for batch in (number for number in range(first, last + 1) if number not in known):
        meta = meta_of.get(batch, {})
        counts = {str(meta["place"]): (meta["rows_out"], meta["rows_quarantined"])} if meta.get("place") else counted.get(batch, {})
        columns = stamp_columns(context, batch) | {"run_id": meta.get("run_id", context.run_id), "position": meta.get("position")}
        file_rows = [
            FileRow(**columns, recorded_at=datetime.now(UTC), state=LOADED, path=path, rows=valid, quarantined=rejected)
            for path, (valid, rejected) in counts.items()
        ]
        record_files(context, file_rows, batch)
        rows += file_rows
    return rows


def _count_records(context: StepContext, first: int, last: int) -> dict[int, dict[str, tuple[int, int]]]:
    """Count the valid and the rejected records of each file of each batch in the tables."""
    counts: dict[int, dict[str, tuple[int, int]]] = {}
    for is_bad, table in enumerate((f"bronze.{context.item}", f"bronze.{context.item}_quarantine")):
        if context.lake.exists(table):
            which = F.col(BATCH_ID).between(first, last)
            groups = context.lake.read(context.spark, table).where(which).groupBy(BATCH_ID, SOURCE_FILE).count()
            for row in groups.orderBy(BATCH_ID, SOURCE_FILE).collect():
                files = counts.setdefault(row[BATCH_ID], {})
                valid, _ = files.get(row[SOURCE_FILE], (0, 0))
                files[row[SOURCE_FILE]] = (valid, row["count"]) if is_bad else (row["count"], 0)
    return counts


def _drop_replayed(context: StepContext, commits: Sequence[CommitMeta]) -> None:
    """Remove from the quarantine what a replay has replaced in the table, if it was killed before that."""
    if commits and commits[0].get("replaces") is not None:
        drop_replayed(context, int(commits[0]["replaces"]), int(commits[0]["batch_id"]))


def drop_replayed(context: StepContext, first: int, batch: int) -> None:
    """Remove the batches from ``first`` on from the quarantine, except ``batch``, which replaced them."""
    quarantine, stale = f"bronze.{context.item}_quarantine", f"{BATCH_ID} >= {first} AND {BATCH_ID} <> {batch}"
    if has_matching_rows(context.lake, quarantine, stale):
        rows = make_empty_frame(context.lake.read(context.spark, quarantine))
        context.lake.replace_where(rows, quarantine, where=stale, meta=context.meta(batch_id=batch))


def record_files(context: StepContext, rows: Sequence[FileRow], batch: int) -> None:
    """Write the rows of a committed batch into ops.files; idempotent."""
    if rows:
        where: dict[str, str | int] = {"run_id": str(rows[0].run_id), "source": context.item, "batch_id": batch}
        context.lake.ledger.put(FileRow, rows, where=where)


def stamp_columns(context: StepContext, batch: int) -> dict[str, Any]:
    """Return the columns that identify run, source and batch."""
    return {**context.run_columns, "source": context.item, "batch_id": batch}


def _drop_before_full_load(rows: list[FileRow]) -> list[FileRow]:
    """Drop the rows before the last full load, which replaced the table."""
    full_runs = [row.run_id for row in rows if row.batch_id == FULL_BATCH and row.state == LOADED]
    if not full_runs:
        return rows
    return rows[next(place for place, row in enumerate(rows) if row.run_id == full_runs[-1] and row.batch_id == FULL_BATCH) :]


def batch_of(row: FileRow) -> int:
    """Return the number of a row's batch."""
    return row.batch_id or FULL_BATCH


_EXACT_IN_DOUBLE = 2**53


def resolve_schema(context: StepContext, source: Source, history: SourceHistory) -> T.StructType | None:
    """Return the columns that records must have: the declared ones, or those of the table; None if the first batch must be inferred.

    Columns that policies have added or widened in the table count too.
    """
    if source.schema_ is None:
        return history.schema
    declared = parse_schema(context.spark, context.spec.schema_text(source.schema_))
    if history.schema is None:
        return declared
    pinned = {part.name: part for part in history.schema.fields}
    fields = [
        pinned[part.name] if part.name in pinned and is_wider(part.dataType, pinned[part.name].dataType) else part
        for part in declared.fields
    ]
    if source.on_new_column == "add":
        lower = {name.lower() for name in declared.names}
        fields += [part for part in history.schema.fields if part.name.lower() not in lower]
    return validate_schema(fields)


def record_schema(context: StepContext, schema: T.StructType, reason: str, batch: int) -> None:
    """Write a new version into ops.schemas if the columns have changed."""
    ledger = context.lake.ledger
    rows = ledger.read(SchemaRow, source=context.item)
    text = ", ".join(f"{part.name} {sql_name(part.dataType)}" for part in schema.fields)
    if rows and rows[-1].schema == text:
        return
    version = 1 + max((row.version or 0 for row in rows), default=0)
    ledger.append([SchemaRow(**stamp_columns(context, batch), version=version, schema=text, reason=reason)])


def record_changes(context: StepContext, changes: Sequence[SchemaChange], batch: int) -> None:
    """Write the changes of the schema into ops.schema_changes; idempotent."""
    where: dict[str, str | int] = {"run_id": context.run_id, "source": context.item, "batch_id": batch}
    context.lake.ledger.put(
        SchemaChangeRow, [SchemaChangeRow(**stamp_columns(context, batch), **change.row()) for change in changes], where=where
    )


def find_lossy_columns(context: StepContext, table: str, kinds: Mapping[str, T.DataType]) -> list[str]:
    """Return the BIGINT columns of the table with values that DOUBLE would change."""
    rows = context.lake.read(context.spark, table)
    longs = [name for name, kind in kinds.items() if isinstance(kind, T.DoubleType) and isinstance(rows.schema[name].dataType, T.LongType)]
    if not longs:
        return []
    greatest = rows.agg(*[F.max(F.abs(column(name))).alias(f"m{place}") for place, name in enumerate(longs)]).first()
    assert greatest is not None  # an aggregate without groups always has one row
    return [name for place, name in enumerate(longs) if (greatest[f"m{place}"] or 0) > _EXACT_IN_DOUBLE]
