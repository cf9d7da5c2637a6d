"""Delta tables opened and read without Spark; what delta-rs raises becomes a LakeError that names the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError

from tidemill.errors import LakeError
from tidemill.lake.delta_log import DeltaLog, LogFault
from tidemill.lake.lake_paths import restore_paths
from tidemill.quoting import is_local

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PANIC = "PanicException"  # of pyo3; not an Exception, and not to be imported


def has_table(path: str) -> bool:
    """Return True where there is a table at ``path``, damaged or not."""
    if is_local(path):
        return DeltaLog(path).exists
    with translate_errors(path):
        return bool(DeltaTable.is_deltatable(path))


def open_table(path: str, table: str, version: int | None = None) -> DeltaTable:
    """Open the table at ``path`` at a version, by default the latest.

    Raises:
        LakeError: its log is damaged, or delta-rs cannot read it.
    """
    refuse_damage(path, table)
    with translate_errors(table, path):
        return DeltaTable(path, version=version)


def open_if_present(path: str, table: str) -> DeltaTable | None:
    """Open the latest version of the table at ``path``, None where there is none; lists its log once.

    Raises:
        LakeError: its log is damaged, or delta-rs cannot read it.
    """
    if not is_local(path):
        return open_table(path, table) if has_table(path) else None
    log = DeltaLog(path)
    if not log.exists:
        return None
    _refuse_faults(log.faults(), table)
    with translate_errors(table, path):
        return DeltaTable(path)


def refuse_damage(path: str, table: str) -> None:
    """Check the log at ``path``; a log that is not on this machine is not checked.

    Raises:
        LakeError: a file of the log is damaged or missing.
    """
    if is_local(path):
        _refuse_faults(DeltaLog(path).faults(), table)


def _refuse_faults(faults: Sequence[LogFault], table: str) -> None:
    if faults:
        more = f" (and {len(faults) - 1} more files)" if len(faults) > 1 else ""
        raise LakeError(
            f"{table} is damaged: {restore_paths(str(faults[0]))}{more}; bring the file back from a backup, or run the pipeline that "
            "writes the table: `tidemill run SPEC` recreates what is lost"
        )


@contextmanager
def translate_errors(table: str, path: str = "") -> Iterator[None]:
    """Raise LakeError with the table's name and place for what delta-rs raises inside the block, its panics too."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, DeltaError) and type(error).__name__ != _PANIC:
            raise
        where = f"{table} at {restore_paths(path)}" if path else table
        raise LakeError(f"{where} cannot be read or written by delta-rs: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of a delta-rs error, without its stack trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return restore_paths(lines[0][:300]) if lines else type(error).__name__


def query(table: DeltaTable, sql: str) -> pa.Table:
    """Return what ``sql`` gives over the table, which it calls ``rows``.

    Delta-rs reads the files itself: reader threads of PyArrow's datasets occasionally abort a process that ends soon after.
    """
    with translate_errors(str(table.table_uri)):
        return _read_all(QueryBuilder().register("rows", table).execute(sql).read_all())


def list_data_files(table: DeltaTable) -> pa.Table:
    """Return the data files of the table's version: ``path`` (relative), ``size_bytes``, ``num_records``, and the statistics of columns."""
    return _read_all(table.get_add_actions(flatten=True))


def to_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows as column → value: maps as dicts, instants as UTC datetimes.

    PyArrow's own conversion of instants imports pandas, which takes longer than all else that a command such as `status` does.
    """
    instants = [part.name for part in table.schema if pa.types.is_timestamp(part.type)]
    for name in instants:
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table.column(place).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()))
    rows: list[dict[str, Any]] = table.to_pylist(maps_as_pydicts="strict")
    for row in rows:
        row.update({name: row[name] if row[name] is None else _EPOCH + timedelta(microseconds=row[name]) for name in instants})
    return rows


def _read_all(stream: Any) -> pa.Table:
    """Return an Arrow stream as a table; unlike ``pa.table`` this does not import pandas."""
    return pa.RecordBatchReader.from_stream(stream).read_all()
