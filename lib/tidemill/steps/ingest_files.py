"""Which files a source has taken already, by the ledger; and the ledger mended where a run was killed before writing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import functions as F

from tidemill.sources.files import SourceFile
from tidemill.sources.records import BATCH_ID, SOURCE_FILE, FileCount
from tidemill.steps.result import StepContext

FULL_BATCH = 0
"""The batch number of a full load; incremental batches count from 1."""

LOADED, BAD = "loaded", "bad"
_Row = Mapping[str, object]


@dataclass(frozen=True)
class NewFiles:
    """The files to read now, and remarks on those that are left."""

    files: tuple[SourceFile, ...]
    notes: tuple[str, ...]


def app_id(source: str) -> str:
    """Return the id under which Delta counts the batches of a source."""
    return f"tidemill/ingest/{source}"


def new_files(context: StepContext, files: Sequence[SourceFile], *, retry_bad: bool) -> NewFiles:
    """Return the files that no committed batch holds.

    A file that could not be read is tried again when its size or time has changed (always with ``retry_bad``); one that was loaded
    never is, but a change is remarked on.
    """
    taken = _taken(context, files)
    new, changed, still_bad = [], [], []
    for file in files:
        row = taken.get(file.path)
        is_same = row is not None and (row["size"], row["modified_at"]) in ((file.size, file.modified_at), (None, None))
        if row is None or (row["state"] == BAD and (retry_bad or not is_same)):
            new.append(file)
        elif row["state"] == BAD:
            still_bad.append(file.path)
        elif not is_same:
            changed.append(file.path)
    notes = []
    if changed:
        notes.append(f"changed since loaded, not read again: {_shortened(changed)}; `load: full` would read them")
    if still_bad:
        notes.append(f"could not be read before and has not changed since: {_shortened(still_bad)}")
    return NewFiles(tuple(new), tuple(notes))


def file_rows(
    context: StepContext, files: Sequence[SourceFile], counts: Mapping[str, FileCount], bad: Mapping[str, str], batch: int
) -> list[dict[str, object]]:
    """Return the rows of ops.files for these files: ``rows`` went into the table, ``quarantined`` beside it."""
    rows = []
    for file in files:
        count = counts.get(file.path, FileCount(0, 0, 0, 0))
        rows.append(
            {
                **_stamp(context, batch),
                "path": file.path,
                "size": file.size,
                "modified_at": file.modified_at,
                "rows": None if file.path in bad else count.good,
                "quarantined": None if file.path in bad else count.refused,
                "state": BAD if file.path in bad else LOADED,
                "error": bad.get(file.path),
            }
        )
    return rows


def record_files(context: StepContext, rows: Sequence[dict[str, object]], batch: int) -> None:
    """Write the rows of one committed batch into ops.files; repeating it changes nothing."""
    where: dict[str, str | int] = {"run_id": context.run_id, "source": context.item, "batch_id": batch}
    context.lake.ledger.put("ops.files", rows, where=where)


def _taken(context: StepContext, files: Sequence[SourceFile]) -> dict[str, _Row]:
    """Return the latest row of each file, with the rows put back that a killed run did not write."""
    table = f"bronze.{context.item}"
    rows = _since_last_full_load(context.lake.ledger.rows("ops.files", source=context.item))
    if not context.lake.exists(table):
        rows = [row for row in rows if row["state"] == BAD]
    else:
        last = context.lake.txn_version(table, app_id(context.item))
        batch = FULL_BATCH if last is None else last
        if not any(row["state"] == LOADED and row["batch_id"] == batch for row in rows):
            rows = rows + _rebuilt(context, files, batch)
    return {str(row["path"]): row for row in rows}


def _since_last_full_load(rows: Sequence[_Row]) -> list[_Row]:
    """Leave out what came before the last full load, which replaced the table."""
    full_runs = [row["run_id"] for row in rows if row["batch_id"] == FULL_BATCH and row["state"] == LOADED]
    if not full_runs:
        return list(rows)
    start = next(place for place, row in enumerate(rows) if row["run_id"] == full_runs[-1] and row["batch_id"] == FULL_BATCH)
    return list(rows[start:])


def _rebuilt(context: StepContext, files: Sequence[SourceFile], batch: int) -> list[_Row]:
    """Write the rows of a committed batch again, from the tables: its run was killed between its commit and the ledger."""
    counts: dict[str, dict[str, int]] = {}
    for table in (f"bronze.{context.item}", f"bronze.{context.item}_quarantine"):
        if context.lake.exists(table):
            found = context.lake.read(context.spark, table).where(F.col(BATCH_ID) == batch).groupBy(SOURCE_FILE).count()
            for row in found.collect():
                counts.setdefault(row[SOURCE_FILE], {})[table.removeprefix(f"bronze.{context.item}")] = row["count"]
    listed = {file.path: file for file in files}
    rows: list[dict[str, object]] = [
        {
            **_stamp(context, batch),
            "path": path,
            "size": listed[path].size if path in listed else None,
            "modified_at": listed[path].modified_at if path in listed else None,
            "rows": count.get("", 0),
            "quarantined": count.get("_quarantine", 0),
            "state": LOADED,
        }
        for path, count in sorted(counts.items())
    ]
    record_files(context, rows, batch)
    return list(rows)


def _stamp(context: StepContext, batch: int) -> dict[str, object]:
    return {"pipeline": context.pipeline, "run_id": context.run_id, "source": context.item, "batch_id": batch}


def _shortened(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
