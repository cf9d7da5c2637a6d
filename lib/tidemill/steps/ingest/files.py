"""Select the files of a batch, read their records, and report the files that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.lake.ops import FileRow
from tidemill.sources.files.damaged import (
    READ_FAILURES,
    find_changed_files,
    find_empty_files,
    find_lossy_compression,
    format_reason,
    probe_files,
)
from tidemill.sources.files.listing import SourceFile, find_source_files, list_source_files
from tidemill.sources.records import (
    Difference,
    FileCount,
    Records,
    count_rescued_fields,
    disable_codegen_if_wide,
)
from tidemill.sources.schema.policies import SchemaChange, SchemaEvolution, apply_policies, evolve_schema, widen_by_values
from tidemill.spec.models import Source
from tidemill.spec.models.source_kinds import FileKind
from tidemill.steps.ingest.batch import Batch
from tidemill.steps.ingest.history import BAD, FULL_BATCH, LOADED, SourceHistory, batch_of, record_changes, resolve_schema, stamp_columns
from tidemill.steps.ingest.staged_records import BatchJob, StagedRecords, stage_records
from tidemill.steps.result import StepContext

_MAX_SHOWN = 5


@dataclass(frozen=True)
class NothingToLoad:
    """There is nothing to load; ``notes`` may say why."""

    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileSelection:
    """The files to read now, and remarks on the others."""

    files: tuple[SourceFile, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadResult:
    """The records of files with their schema, files that cannot be read, and changes of the schema; ``staged`` is None without records."""

    staged: StagedRecords | None
    schema: T.StructType | None
    records: Records
    bad: Mapping[str, str]
    changes: tuple[SchemaChange, ...] = ()

    @property
    def counts(self) -> Mapping[str, FileCount]:
        """The counts of records by file."""
        return self.staged.counts if self.staged else {}


def read_files(
    stack: ExitStack, context: StepContext, source: Source, kind: FileKind, before: SourceHistory, first: int | None
) -> Batch | NothingToLoad:
    """Read the new files, all files for ``load: full``, or those of batch ``first`` and later ones."""
    is_full = source.load == "full"
    chosen, first = _select_files(context, source, before, first)
    if not chosen.files:
        return NothingToLoad(chosen.notes)
    number = FULL_BATCH if is_full else before.last + 1
    result = read_records(BatchJob(stack, context, source, number), kind, chosen.files, resolve_schema(context, source, before))
    rows = build_file_rows(context, chosen.files, result.counts, result.bad, number)
    changes = apply_policies(source, result.changes, result.staged.rejections if result.staged else {}, result.schema or T.StructType())
    is_hopeless = result.staged is None and (is_full or not before.exists)
    if result.bad and (is_hopeless or source.on_bad_file == "fail"):
        context.lake.ledger.append([row for row in rows if row.error])
        what = "none of the files can be read" if is_hopeless else "a file cannot be read, and `on_bad_file: fail` is set"
        raise SourceError("; ".join((what, *_format_reasons(result.bad))))
    notes = (*chosen.notes, *result.records.notes, *_format_reasons(result.bad), *_note_empty_files(chosen.files, result))
    if result.staged is None or result.schema is None:
        context.lake.ledger.append(rows)
        record_changes(context, changes, number)
        return NothingToLoad(notes)
    return Batch(
        number=number,
        records=result.records,
        staged=result.staged.rows,
        schema=result.schema,
        counts=result.counts,
        ledger=rows,
        size=sum(file.size for file in chosen.files),
        changes=changes,
        replaces=None if is_full else first,
        reason="declared" if source.schema_ else f"inferred from {len(chosen.files) - len(result.bad)} files",
        notes=notes,
    )


def _select_files(context: StepContext, source: Source, before: SourceHistory, first: int | None) -> tuple[FileSelection, int | None]:
    """Return the files to read now, and the first batch of a replay."""
    listed = find_source_files(source, context.spark)
    if source.load == "full":
        return FileSelection(listed.files, listed.notes), first
    if first is None:
        require_lost_files(context, before, listed.files)
        new = select_new_files(before, listed.files, retry_bad=source.on_bad_file == "fail" or not before.exists)
        return replace(new, notes=(*listed.notes, *new.notes)), None
    whole_from = before.whole_from(first)
    notes = listed.notes
    if whole_from < first:
        notes += (f"replayed from batch {whole_from} on, which holds records of the same files as batch {first}",)
    return replace(select_replayed_files(before, listed.files, whole_from), notes=notes), whole_from


def _note_empty_files(files: Sequence[SourceFile], result: ReadResult) -> tuple[str, ...]:
    """Return a remark on files that have bytes but no record."""
    paths = [
        f"{file.name} ({file.size} bytes)"
        for file in files
        if file.size and file.path not in result.bad and not (file.name in result.counts and result.counts[file.name].records)
    ]
    return (f"no record in {_abbreviate(paths)}",) if paths else ()


def read_records(job: BatchJob, kind: FileKind, files: Sequence[SourceFile], known: T.StructType | None) -> ReadResult:
    """Read the files of a batch all at once, and one by one only if that fails; ``known`` is the schema, None to infer it."""
    bad = {} if kind.takes_empty_files else find_empty_files(files)
    if kind.is_text:
        bad |= find_lossy_compression(files)
    tries = 0
    while readable := [file for file in files if file.path not in bad]:
        try:
            result = _read_once(job, kind, readable, known)
        except READ_FAILURES as error:
            tries += 1
            damaged = probe_files(job.context.spark, kind, job.source, readable, known) if tries == 1 else {}
            if not damaged:
                raise SourceError(format_reason(error)) from error
            bad |= damaged
            continue
        changed = find_changed_files(readable, _list_again(job.context, job.source))
        if not changed:
            return replace(result, bad=bad | dict(result.bad))
        bad |= changed
    return ReadResult(None, known, Records(None), bad)


def _list_again(context: StepContext, source: Source) -> tuple[SourceFile, ...]:
    """List the files again; none if all are gone."""
    try:
        return list_source_files(source, context.spark)
    except SourceError:
        return ()


def _read_once(job: BatchJob, kind: FileKind, files: Sequence[SourceFile], known: T.StructType | None) -> ReadResult:
    spark, source = job.context.spark, job.source

    def read(schema: T.StructType) -> Records:
        return _mask_names(kind.read(spark, source, files, schema), files)

    def infer(paths: Sequence[str] | None) -> T.StructType:
        return kind.infer(spark, source, [file for file in files if paths is None or file.path in paths])

    by_record = kind.tells_columns_by_record
    disable_codegen_if_wide(spark, schema := infer(None) if known is None else known)
    evolution = SchemaEvolution(schema, read(schema)) if known is None else evolve_schema(source, known, read, infer, by_record=by_record)
    schema, records, changes = evolution.schema, evolution.records, evolution.changes
    if records.frame is None:
        return ReadResult(None, schema, records, records.bad_files, changes)
    sizes = [file.size for file in files]
    staged = stage_records(job, records, schema, sizes)
    schema, widened = widen_by_values(source, schema, read, staged.rejections)
    if widened:
        records = read(schema)
        staged = stage_records(job, records, schema, sizes)
    if by_record and source.on_new_column == "rescue" and any(count.rescued for count in staged.counts.values()):
        rescued = count_rescued_fields(staged.rows.frame)
        changes += tuple(SchemaChange(Difference("new", name, ()), "rescued", count) for name, count in rescued.items())
    return ReadResult(staged, schema, records, records.bad_files, (*changes, *widened))


def _mask_names(records: Records, files: Sequence[SourceFile]) -> Records:
    """Return the records with the lake's names of files, in which secrets are masked."""
    names = {file.path: file.name for file in files if file.masked is not None}
    if not names or records.frame is None:
        return records

    def rename(frame: DataFrame, names: Mapping[str, str]) -> DataFrame:
        pairs = F.create_map(*[F.lit(part) for pair in names.items() for part in pair])
        return frame.withColumn(SOURCE_FILE, F.coalesce(F.try_element_at(pairs, F.col(SOURCE_FILE)), F.col(SOURCE_FILE)))

    def locate(rejected: DataFrame) -> DataFrame:
        assert records.locate is not None
        return rename(records.locate(rename(rejected, {name: path for path, name in names.items()})), names)

    return replace(records, frame=rename(records.frame, names), locate=locate if records.locate is not None else None, fast_paths=())


def select_new_files(history: SourceHistory, files: Sequence[SourceFile], *, retry_bad: bool) -> FileSelection:
    """Return the files that are not in a committed batch.

    A bad file is tried again if its size or time has changed, and always with ``retry_bad``. A loaded file is never read again, but a
    change gives a remark.
    """
    latest = history.latest
    new, changed, still_bad = [], [], []
    for file in files:
        row = latest.get(file.name)
        is_same = row is not None and (row.size, row.modified_at) in ((file.size, file.modified_at), (None, None))
        if row is None or (row.state == BAD and (retry_bad or not is_same)):
            new.append(file)
        elif row.state == BAD:
            still_bad.append(file.name)
        elif not is_same:
            changed.append(file.name)
    notes = []
    if changed:
        notes.append(f"changed since loaded, not read again: {_abbreviate(changed)}; `--replay` or `load: full` would read them")
    if still_bad:
        notes.append(f"could not be read before and has not changed since: {_abbreviate(still_bad)}")
    return FileSelection(tuple(new), tuple(notes))


def require_lost_files(context: StepContext, history: SourceHistory, files: Sequence[SourceFile]) -> None:
    """Check that the files of batches that the table has lost still exist.

    Raises:
        SourceError: one is gone, so its records cannot be loaded again.
    """
    listed, latest = {file.path for file in files}, set(history.latest)
    gone = sorted({str(row.path) for row in history.lost} - listed - latest)
    if gone:
        raise SourceError(
            f"bronze.{context.item} has lost the records of {_abbreviate(gone)}, and these files are gone from the source; "
            f"bring them back, or go on without them: `tidemill run SPEC --only {context.node} --replay all`"
        )


def select_replayed_files(history: SourceHistory, files: Sequence[SourceFile], first: int) -> FileSelection:
    """Return the files of the batches from ``first`` on, and those that were never loaded.

    Raises:
        SourceError: a file of these batches is gone, so its records would be lost.
    """
    listed = {file.name for file in files}
    lost = [path for path, row in history.latest.items() if row.state == LOADED and path not in listed and batch_of(row) >= first]
    if lost:
        raise SourceError(
            f"{_abbreviate(lost)} of the batches to replay cannot be found; bring the files back, or replay from a later batch than "
            f"{max(batch_of(history.latest[path]) for path in lost)}"
        )
    taken = history.latest
    return FileSelection(
        tuple(file for file in files if file.name not in taken or taken[file.name].state == BAD or batch_of(taken[file.name]) >= first)
    )


def build_file_rows(
    context: StepContext, files: Sequence[SourceFile], counts: Mapping[str, FileCount], bad: Mapping[str, str], batch: int
) -> list[FileRow]:
    """Return the rows of ops.files for these files."""
    rows = []
    for file in files:
        columns = {**stamp_columns(context, batch), "path": file.name, "size": file.size, "modified_at": file.modified_at}
        if file.path in bad:
            rows.append(FileRow(**columns, state=BAD, error=bad[file.path]))
        else:
            count = counts.get(file.name, FileCount(0, 0, 0, 0))
            rows.append(FileRow(**columns, state=LOADED, rows=count.valid, quarantined=count.rejected))
    return rows


def _abbreviate(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _format_reasons(bad: Mapping[str, str]) -> tuple[str, ...]:
    reasons = [f"{path}: {why}" for path, why in list(bad.items())[:_MAX_SHOWN]]
    return (*reasons, f"and {len(bad) - _MAX_SHOWN} more files") if len(bad) > _MAX_SHOWN else tuple(reasons)
