"""How a Delta table is opened without Spark: damage is named by table and file, whatever delta-rs says of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from tidemill.errors import LakeError
from tidemill.lake.links import with_own_paths
from tidemill.lake.log import DeltaLog
from tidemill.lake.names import is_local

_PANIC = "PanicException"  # of pyo3; not an Exception, and not to be imported


def has_table(path: str) -> bool:
    """Return True where a table lies at ``path``, damaged or not."""
    if is_local(path):
        return DeltaLog(path).exists
    with naming(path):
        return bool(DeltaTable.is_deltatable(path))


def open_table(path: str, table: str, version: int | None = None) -> DeltaTable:
    """Open the table that lies at ``path`` at a version, by default the latest.

    Raises:
        LakeError: its log is damaged, or delta-rs cannot read it.
    """
    refuse_damage(path, table)
    with naming(table, path):
        return DeltaTable(path, version=version)


def refuse_damage(path: str, table: str) -> None:
    """Do nothing where the log at ``path`` is whole, or is not on this machine.

    Raises:
        LakeError: a file of the log is damaged or missing.
    """
    faults = DeltaLog(path).faults() if is_local(path) else []
    if faults:
        more = f" (and {len(faults) - 1} more files)" if len(faults) > 1 else ""
        raise LakeError(
            f"{table} is damaged: {with_own_paths(str(faults[0]))}{more}; bring the file back from a backup, or run the pipeline that "
            "writes the table: `tidemill run SPEC` makes again what is lost"
        )


@contextmanager
def naming(table: str, path: str = "") -> Iterator[None]:
    """Raise LakeError with the table's name and place for what delta-rs raises inside the block, its panics too."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, DeltaError) and type(error).__name__ != _PANIC:
            raise
        where = f"{table} at {with_own_paths(path)}" if path else table
        raise LakeError(f"{where} cannot be read or written by delta-rs: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return what delta-rs says, without the trace of its own stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return with_own_paths(lines[0][:300]) if lines else type(error).__name__
