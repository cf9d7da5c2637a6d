"""A batch from files: which are to be read, those among them that cannot be, and what the records are like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.lake.ops import FileRow
from tidemill.lake.staging import StagedRows
from tidemill.sources.files.damaged import READ_FAILURES, changed_files, empty_files, packed_unreadably, probe, reason
from tidemill.sources.files.listing import SourceFile, list_source_files, source_listing
from tidemill.sources.records import Difference, FileCount, Records, refused_by_rule, rescued_fields, spared, survey
from tidemill.sources.schema.policies import Change, Evolution, evolved, settled, widened_by_values
from tidemill.spec.models import Source
from tidemill.spec.models.source_kinds import FileKind
from tidemill.steps.ingest.batch import Batch
from tidemill.steps.ingest.history import BAD, FULL_BATCH, LOADED, Past, known_schema, record_changes, stamp
from tidemill.steps.ingest.staged_records import staged_records
from tidemill.steps.result import StepContext

_TOLD = 5


@dataclass(frozen=True)
class Unread:
    """There is nothing to load; ``notes`` say why where that is not plain."""

    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewFiles:
    """The files to read now, and remarks on those that are left."""

    files: tuple[SourceFile, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What reading files gave: their records, judged and counted, and what the policies did; ``kept`` is None where there is none."""

    kept: StagedRows | None
    schema: T.StructType | None
    records: Records
    counts: Mapping[str, FileCount]
    refused: Mapping[str, int]
    bad: Mapping[str, str]
    changes: tuple[Change, ...] = ()


def read_files(stack: ExitStack, context: StepContext, source: Source, kind: FileKind, before: Past, first: int | None) -> Batch | Unread:
    """Read the files that are new, all of them for ``load: full``, or those of batch ``first`` and the ones behind it."""
    is_full = source.load == "full"
    chosen, first = _chosen_files(context, source, before, first)
    if not chosen.files:
        return Unread(chosen.notes)
    number = FULL_BATCH if is_full else before.last + 1
    found = read_records(stack, context, source, kind, chosen.files, known_schema(context, source, before), number)
    rows = file_rows(context, chosen.files, found.counts, found.bad, number)
    changes = settled(source, found.changes, found.refused, found.schema or T.StructType())
    is_hopeless = found.kept is None and (is_full or not before.exists)
    if found.bad and (is_hopeless or source.on_bad_file == "fail"):
        context.lake.ledger.append([FileRow(**row) for row in rows if row["error"]])
        what = "none of the files can be read" if is_hopeless else "a file cannot be read, and `on_bad_file: fail` is set"
        raise SourceError("; ".join((what, *_told(found.bad))))
    notes = (*chosen.notes, *found.records.notes, *_told(found.bad), *_without_records(chosen.files, found))
    if found.kept is None or found.schema is None:
        context.lake.ledger.append([FileRow(**row) for row in rows])
        record_changes(context, changes, number)
        return Unread(notes)
    return Batch(
        number=number,
        records=found.records,
        kept=found.kept,
        schema=found.schema,
        counts=found.counts,
        ledger=rows,
        size=sum(file.size for file in chosen.files),
        changes=changes,
        replaces=None if is_full else first,
        reason="declared" if source.schema_ else f"inferred from {len(chosen.files) - len(found.bad)} files",
        notes=notes,
    )


def _chosen_files(context: StepContext, source: Source, before: Past, first: int | None) -> tuple[NewFiles, int | None]:
    """Return the files to read now, and from which batch on a replay is."""
    listed = source_listing(source, context.spark)
    if source.load == "full":
        return NewFiles(listed.files, listed.notes), first
    if first is None:
        refuse_gone(context, before, listed.files)
        new = new_files(before, listed.files, retry_bad=source.on_bad_file == "fail" or not before.exists)
        return replace(new, notes=(*listed.notes, *new.notes)), None
    whole_from = before.whole_from(first)
    notes = listed.notes
    if whole_from < first:
        notes += (f"replayed from batch {whole_from} on, which holds records of the same files as batch {first}",)
    return replace(replayed_files(before, listed.files, whole_from), notes=notes), whole_from


def _without_records(files: Sequence[SourceFile], found: Found) -> tuple[str, ...]:
    """Return a remark on the files that have bytes, and no record among them."""
    paths = [
        f"{file.name} ({file.size} bytes)"
        for file in files
        if file.size and file.path not in found.bad and not (file.name in found.counts and found.counts[file.name].records)
    ]
    return (f"no record in {_shortened(paths)}",) if paths else ()


def read_records(
    stack: ExitStack,
    context: StepContext,
    source: Source,
    kind: FileKind,
    files: Sequence[SourceFile],
    known: T.StructType | None,
    number: int,
) -> Found:
    """Read the files for batch ``number``, all at once; only where that fails are they tried one by one."""
    bad = {} if kind.takes_empty_files else empty_files(files)
    if kind.is_text:
        bad |= packed_unreadably(files)
    tries = 0
    while readable := [file for file in files if file.path not in bad]:
        try:
            found = _counted(stack, context, source, kind, readable, known, number)
        except READ_FAILURES as error:
            tries += 1
            damaged = probe(context.spark, kind, source, readable, known) if tries == 1 else {}
            if not damaged:
                raise SourceError(reason(error)) from error
            bad |= damaged
            continue
        changed = changed_files(readable, _listed(context, source))
        if not changed:
            return replace(found, bad=bad | dict(found.bad))
        bad |= changed
    return Found(None, known, Records(None), {}, {}, bad)


def _listed(context: StepContext, source: Source) -> tuple[SourceFile, ...]:
    """Return the files as they are now; none at all where all of them are gone."""
    try:
        return list_source_files(source, context.spark)
    except SourceError:
        return ()


def _counted(
    stack: ExitStack,
    context: StepContext,
    source: Source,
    kind: FileKind,
    files: Sequence[SourceFile],
    known: T.StructType | None,
    number: int,
) -> Found:
    def read(schema: T.StructType) -> Records:
        return _masked(kind.read(context.spark, source, files, schema), files)

    def infer(paths: Sequence[str] | None) -> T.StructType:
        return kind.infer(context.spark, source, [file for file in files if paths is None or file.path in paths])

    by_record = kind.tells_columns_by_record
    spared(context.spark, schema := infer(None) if known is None else known)
    evolution = Evolution(schema, read(schema)) if known is None else evolved(source, known, read, infer, by_record=by_record)
    schema, records, changes = evolution.schema, evolution.records, evolution.changes
    if records.frame is None:
        return Found(None, schema, records, {}, {}, records.bad_files, changes)
    sizes = [file.size for file in files]

    def surveyed(records: Records, columns: T.StructType) -> tuple[StagedRows, dict[str, FileCount], dict[str, int]]:
        kept = staged_records(stack, context, source, records, columns, number, sizes)
        counts = survey(kept.frame)
        return kept, counts, refused_by_rule(kept.frame) if any(count.refused for count in counts.values()) else {}

    kept, counts, refused = surveyed(records, schema)
    wider, widened = widened_by_values(source, schema, read, refused)
    if widened:
        records = read(wider)
        kept, counts, refused = surveyed(records, wider)
    if by_record and source.on_new_column == "rescue" and any(count.rescued for count in counts.values()):
        changes += tuple(Change(Difference("new", name, ()), "rescued", count) for name, count in rescued_fields(kept.frame).items())
    return Found(kept, wider, records, counts, refused, records.bad_files, (*changes, *widened))


def _masked(records: Records, files: Sequence[SourceFile]) -> Records:
    """Return the records with the names of their files that the lake knows: where paths hold secrets, without these."""
    names = {file.path: file.name for file in files if file.masked is not None}
    if not names or records.frame is None:
        return records

    def renamed(frame: DataFrame, names: Mapping[str, str]) -> DataFrame:
        pairs = F.create_map(*[F.lit(part) for pair in names.items() for part in pair])
        return frame.withColumn(SOURCE_FILE, F.coalesce(F.try_element_at(pairs, F.col(SOURCE_FILE)), F.col(SOURCE_FILE)))

    def locate(refused: DataFrame) -> DataFrame:
        assert records.locate is not None
        return renamed(records.locate(renamed(refused, {name: path for path, name in names.items()})), names)

    return replace(records, frame=renamed(records.frame, names), locate=locate if records.locate is not None else None, quick=())


def new_files(past: Past, files: Sequence[SourceFile], *, retry_bad: bool) -> NewFiles:
    """Return the files that no committed batch holds.

    A file that could not be read is tried again when its size or time has changed (always with ``retry_bad``); one that was loaded
    never is, but a change is remarked on.
    """
    taken = past.latest
    new, changed, still_bad = [], [], []
    for file in files:
        row = taken.get(file.name)
        is_same = row is not None and (row["size"], row["modified_at"]) in ((file.size, file.modified_at), (None, None))
        if row is None or (row["state"] == BAD and (retry_bad or not is_same)):
            new.append(file)
        elif row["state"] == BAD:
            still_bad.append(file.name)
        elif not is_same:
            changed.append(file.name)
    notes = []
    if changed:
        notes.append(f"changed since loaded, not read again: {_shortened(changed)}; `--replay` or `load: full` would read them")
    if still_bad:
        notes.append(f"could not be read before and has not changed since: {_shortened(still_bad)}")
    return NewFiles(tuple(new), tuple(notes))


def refuse_gone(context: StepContext, past: Past, files: Sequence[SourceFile]) -> None:
    """Do nothing where the files are there of all batches that the table has lost.

    Raises:
        SourceError: one is not, so that its records could not be loaded again.
    """
    listed, held = {file.path for file in files}, set(past.latest)
    gone = sorted({str(row["path"]) for row in past.lost} - listed - held)
    if gone:
        raise SourceError(
            f"bronze.{context.item} has lost the records of {_shortened(gone)}, and these files are gone from the source; bring them back, "
            f"or go on without them: `tidemill run SPEC --only {context.node} --replay all`"
        )


def replayed_files(past: Past, files: Sequence[SourceFile], first: int) -> NewFiles:
    """Return the files of the batches from ``first`` on, and those that were never taken.

    Raises:
        SourceError: a file of these batches is no longer there, so that its records would be lost.
    """
    listed = {file.name for file in files}
    lost = [path for path, row in past.latest.items() if row["state"] == LOADED and path not in listed and _is_behind(row, first)]
    if lost:
        raise SourceError(
            f"{_shortened(lost)} of the batches to replay cannot be found; bring the files back, or replay from a later batch than "
            f"{max(int(str(past.latest[path]['batch_id'])) for path in lost)}"
        )
    taken = past.latest
    return NewFiles(
        tuple(file for file in files if file.name not in taken or taken[file.name]["state"] == BAD or _is_behind(taken[file.name], first))
    )


def file_rows(
    context: StepContext, files: Sequence[SourceFile], counts: Mapping[str, FileCount], bad: Mapping[str, str], batch: int
) -> list[dict[str, Any]]:
    """Return the rows of ops.files for these files: ``rows`` went into the table, ``quarantined`` beside it."""
    rows = []
    for file in files:
        count = counts.get(file.name, FileCount(0, 0, 0, 0))
        rows.append(
            {
                **stamp(context, batch),
                "path": file.name,
                "size": file.size,
                "modified_at": file.modified_at,
                "rows": None if file.path in bad else count.good,
                "quarantined": None if file.path in bad else count.refused,
                "state": BAD if file.path in bad else LOADED,
                "error": bad.get(file.path),
            }
        )
    return rows


def _is_behind(row: Mapping[str, object], first: int) -> bool:
    return int(str(row["batch_id"])) >= first


def _shortened(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _told(bad: Mapping[str, str]) -> tuple[str, ...]:
    told = [f"{path}: {why}" for path, why in list(bad.items())[:_TOLD]]
    return (*told, f"and {len(bad) - _TOLD} more files") if len(bad) > _TOLD else tuple(told)
