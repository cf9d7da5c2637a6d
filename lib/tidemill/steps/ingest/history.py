"""What earlier batches of a source have loaded, and the schema that they have."""

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
from tidemill.sources.schema.policies import Change, sql_name
from tidemill.sources.schema.types import checked_schema, is_wider, parsed_schema
from tidemill.spec.models import Source
from tidemill.steps.commit_stats import blank, holds
from tidemill.steps.result import StepContext

FULL_BATCH = 0
"""The batch number of a full load; incremental batches count from 1."""

LOADED, BAD = "loaded", "bad"
REPROCESSED = "reprocessed"
"""The state of a file that was loaded before, and of which records in quarantine were taken through again."""

Row = Mapping[str, object]


@dataclass(frozen=True)
class Past:
    """What the lake holds of a source.

    ``last`` is the number of the last committed batch, 0 before the first. ``rows`` are the rows of ops.files that tell of what is in
    the table, or of files that cannot be read, oldest first. ``schema`` are the columns of the table without those that ingest adds,
    None where there is no table yet. ``lost`` are the rows of batches that the table has lost at its end, ``lost_from`` is the first
    batch of which it has lost records in its midst.
    """

    last: int
    rows: tuple[Row, ...]
    schema: T.StructType | None
    notes: tuple[str, ...] = ()
    lost: tuple[Row, ...] = ()
    lost_from: int | None = None

    @property
    def exists(self) -> bool:
        """True where the source has a table."""
        return self.schema is not None

    @property
    def latest(self) -> dict[str, Row]:
        """The latest row of each file, of those that tell of all its records."""
        return {str(row["path"]): row for row in self.rows if row["state"] != REPROCESSED}

    def whole_from(self, first: int) -> int:
        """Return the batch, ``first`` or an earlier one, from which on no file has records before it."""
        batches: dict[str, list[int]] = {}
        for row in self.rows:
            if row["state"] != BAD:
                batches.setdefault(str(row["path"]), []).append(_number(row))
        while True:
            lower = min((min(held) for held in batches.values() if max(held) >= first), default=first)
            if lower >= first:
                return first
            first = lower

    def position(self, before: int | None = None) -> str | None:
        """Return the position behind the last batch, or behind the last one before batch ``before``; None where there is none."""
        behind = [row for row in self.rows if row["position"] is not None and (before is None or _number(row) < before)]
        return str(max(behind, key=_number)["position"]) if behind else None

    def first_batch(self, since: str) -> int:
        """Return the first batch that ``--replay SINCE`` means: ``all``, a batch's number, or the first one at or behind a time.

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
        behind = [_number(row) for row in self.rows if row["state"] == LOADED and row["recorded_at"] >= moment]  # type: ignore[operator]
        if not behind:
            raise UsageError(f"--replay {since}: nothing was loaded since then, the last batch is {self.last}")
        return min(behind)


def past(context: StepContext) -> Past:
    """Return what the lake has of the step's source; what a killed run left half-told is told now.

    The table is the truth. Rows of ops.files that the table does not bear out are left out, so that their files are read again; batches
    of the table that the ledger lacks are put back into it.
    """
    lake, table = context.lake, f"bronze.{context.item}"
    rows = _since_last_full_load(lake.ledger.rows("ops.files", source=context.item))
    if not lake.exists(table):
        loaded = tuple(row for row in rows if row["state"] != BAD)
        return Past(FULL_BATCH, tuple(row for row in rows if row["state"] == BAD), None, lost=loaded)
    schema = T.StructType([part for part in lake.read(context.spark, table).schema.fields if part.name not in PROVENANCE])
    last = lake.txn_version(table, name_batch_app(context.item)) or FULL_BATCH
    ahead = [row for row in rows if _number(row) > last and row["state"] != BAD]
    notes = []
    if ahead:
        notes.append(f"ops.files tells of batch {_number(ahead[-1])}, but {table} ends with batch {last}: its files are read again")
        rows = [row for row in rows if row not in ahead]
    commits = [meta for meta in lake.metadata(table) if meta.get("node") == context.node and "batch_id" in meta]
    rows += _untold(context, rows, commits, last)
    _drop_replayed(context, commits)
    lost_from = _lost_from(context, rows, commits, last)
    if lost_from is not None:
        notes.append(f"{table} or its quarantine has lost records of batch {lost_from}: it is loaded again from that batch on")
    return Past(last, tuple(rows), schema, tuple(notes), tuple(ahead), lost_from)


def _lost_from(context: StepContext, rows: Sequence[Row], commits: Sequence[Row], last: int) -> int | None:
    """Return the first batch of which records are lost, where commits of the table or of its quarantine were lost since the last batch.

    A merge moves records from batch to batch, and reprocessing takes them out of quarantine: there all batches are taken for lost.
    """
    table = f"bronze.{context.item}"
    since = int(str(commits[0]["version"])) + 1 if commits else 0
    quarantined = [meta for meta in context.lake.metadata(f"{table}_quarantine") if "node" in meta]
    beside = int(str(quarantined[0]["version"])) + 1 if quarantined else 0
    is_lost, is_lost_beside = context.lake.is_lost_since(table, since), context.lake.is_lost_since(f"{table}_quarantine", beside)
    numbers = sorted({_number(row) for row in rows if row["state"] != BAD} - {FULL_BATCH})
    if not (is_lost or is_lost_beside) or not numbers:
        return None
    source = context.spec.pipeline.sources[context.item]
    if source.key or (is_lost_beside and any(row["state"] == REPROCESSED for row in rows)):
        return numbers[0]
    told: dict[tuple[int, str], tuple[int, int]] = {}
    for row in rows:
        if row["state"] != BAD:
            told[_number(row), str(row["path"])] = (int(str(row["rows"] or 0)), int(str(row["quarantined"] or 0)))
    counted = _counted(context, numbers[0], last)
    for (batch, path), (good, refused) in sorted(told.items()):
        has_good, has_refused = counted.get(batch, {}).get(path, (0, 0))
        if int(str(has_good)) < good or (int(str(has_refused)) < refused and is_lost_beside):
            return batch
    return None


def _untold(context: StepContext, rows: Sequence[Row], commits: Sequence[Row], last: int) -> list[Row]:
    """Return the rows of committed batches that the ledger lacks, and write them into it."""
    told = {(row["run_id"], row["batch_id"]) for row in rows if row["state"] == LOADED}
    if commits and commits[0]["batch_id"] == FULL_BATCH and (commits[0]["run_id"], FULL_BATCH) not in told:
        return _rebuilt(context, FULL_BATCH, FULL_BATCH, commits)
    known = {_number(row) for row in rows if row["state"] != BAD}
    if not known:
        return _rebuilt(context, FULL_BATCH, last, commits)
    lacking = [batch for batch in range(min(known), last + 1) if batch not in known]
    return _rebuilt(context, lacking[0], lacking[-1], commits, known) if lacking else []


def _rebuilt(context: StepContext, first: int, last: int, commits: Sequence[Row], known: Collection[int] = ()) -> list[Row]:
    """Make the rows of batches ``first`` to ``last``, but for those that are ``known``, from their commits and from the tables."""
    meta_of = {_number(meta): meta for meta in reversed(commits)}
    counted = _counted(context, first, last)
    rows: list[dict[str, object]] = []
    for batch in (number for number in range(first, last + 1) if number not in known):
        meta = meta_of.get(batch, {})
        counts = {str(meta["place"]): (meta["rows_out"], meta["rows_quarantined"])} if meta.get("place") else counted.get(batch, {})
        unknown = {"size": None, "modified_at": None, "error": None, "recorded_at": datetime.now(UTC)}
        told = {"run_id": meta.get("run_id", context.run_id), "state": LOADED, "position": meta.get("position"), **unknown}
        found = [{**stamp(context, batch), **told, "path": path, "rows": good, "quarantined": bad} for path, (good, bad) in counts.items()]
        record(context, found, batch)
        rows += found
    return list(rows)


def _counted(context: StepContext, first: int, last: int) -> dict[int, dict[str, tuple[object, object]]]:
    """Return the good and the refused records of each file of each batch, by what the tables hold."""
    counts: dict[int, dict[str, tuple[object, object]]] = {}
    for is_bad, table in enumerate((f"bronze.{context.item}", f"bronze.{context.item}_quarantine")):
        if context.lake.exists(table):
            which = F.col(BATCH_ID).between(first, last)
            found = context.lake.read(context.spark, table).where(which).groupBy(BATCH_ID, SOURCE_FILE).count()
            for row in found.orderBy(BATCH_ID, SOURCE_FILE).collect():
                files = counts.setdefault(row[BATCH_ID], {})
                good, _ = files.get(row[SOURCE_FILE], (0, 0))
                files[row[SOURCE_FILE]] = (good, row["count"]) if is_bad else (row["count"], 0)
    return counts


def _drop_replayed(context: StepContext, commits: Sequence[Row]) -> None:
    """Take away from quarantine what a replay has replaced in the table, where it was killed before doing so."""
    if commits and commits[0].get("replaces") is not None:
        drop_replayed(context, int(str(commits[0]["replaces"])), _number(commits[0]))


def drop_replayed(context: StepContext, first: int, batch: int) -> None:
    """Take the batches from ``first`` on away from quarantine, but for ``batch``, which replaced them."""
    quarantine, stale = f"bronze.{context.item}_quarantine", f"{BATCH_ID} >= {first} AND {BATCH_ID} <> {batch}"
    if holds(context.lake, quarantine, stale):
        rows = blank(context.lake.read(context.spark, quarantine))
        context.lake.replace_where(rows, quarantine, where=stale, meta=context.meta(batch_id=batch))


def record(context: StepContext, rows: Sequence[Mapping[str, Any]], batch: int) -> None:
    """Write the rows of one committed batch into ops.files; repeating it changes nothing."""
    if rows:
        where: dict[str, str | int] = {"run_id": str(rows[0]["run_id"]), "source": context.item, "batch_id": batch}
        context.lake.ledger.put(FileRow, [FileRow(**row) for row in rows], where=where)


def stamp(context: StepContext, batch: int) -> dict[str, Any]:
    """Return the columns that tell whose rows these are."""
    return {**context.run_columns, "source": context.item, "batch_id": batch}


def _since_last_full_load(rows: Sequence[Row]) -> list[Row]:
    """Leave out what came before the last full load, which replaced the table."""
    full_runs = [row["run_id"] for row in rows if row["batch_id"] == FULL_BATCH and row["state"] == LOADED]
    if not full_runs:
        return list(rows)
    start = next(place for place, row in enumerate(rows) if row["run_id"] == full_runs[-1] and row["batch_id"] == FULL_BATCH)
    return list(rows[start:])


def _number(row: Mapping[str, object]) -> int:
    return int(row["batch_id"])  # type: ignore[call-overload]


_EXACT_IN_DOUBLE = 2**53


def known_schema(context: StepContext, source: Source, past: Past) -> T.StructType | None:
    """Return the columns that records must have: the declared ones, or those of the table; None where the first batch is yet to tell.

    What policies have added or widened since is in the table, and counts.
    """
    if source.schema_ is None:
        return past.schema
    declared = parsed_schema(context.spark, context.spec.schema_text(source.schema_))
    if past.schema is None:
        return declared
    pinned = {part.name: part for part in past.schema.fields}
    fields = [
        pinned[part.name] if part.name in pinned and is_wider(part.dataType, pinned[part.name].dataType) else part
        for part in declared.fields
    ]
    if source.on_new_column == "add":
        lower = {name.lower() for name in declared.names}
        fields += [part for part in past.schema.fields if part.name.lower() not in lower]
    return checked_schema(fields)


def record_schema(context: StepContext, schema: T.StructType, reason: str, batch: int) -> None:
    """Write a new version into ops.schemas where the columns are not those of the last one."""
    ledger = context.lake.ledger
    rows = ledger.read(SchemaRow, source=context.item)
    text = ", ".join(f"{part.name} {sql_name(part.dataType)}" for part in schema.fields)
    if rows and rows[-1].schema == text:
        return
    version = 1 + max((row.version or 0 for row in rows), default=0)
    ledger.append([SchemaRow(**stamp(context, batch), version=version, schema=text, reason=reason)])


def record_changes(context: StepContext, changes: Sequence[Change], batch: int) -> None:
    """Write what the policies did into ops.schema_changes; repeating it changes nothing."""
    where: dict[str, str | int] = {"run_id": context.run_id, "source": context.item, "batch_id": batch}
    context.lake.ledger.put(SchemaChangeRow, [SchemaChangeRow(**stamp(context, batch), **change.row()) for change in changes], where=where)


def lossy_columns(context: StepContext, table: str, kinds: Mapping[str, T.DataType]) -> list[str]:
    """Return the columns of the table that hold a BIGINT which DOUBLE would change."""
    rows = context.lake.read(context.spark, table)
    longs = [name for name, kind in kinds.items() if isinstance(kind, T.DoubleType) and isinstance(rows.schema[name].dataType, T.LongType)]
    if not longs:
        return []
    found = rows.agg(*[F.max(F.abs(column(name))).alias(f"m{place}") for place, name in enumerate(longs)]).first()
    assert found is not None  # an aggregate without groups always has one row
    return [name for place, name in enumerate(longs) if (found[f"m{place}"] or 0) > _EXACT_IN_DOUBLE]
