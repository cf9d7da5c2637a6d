"""What the ledger says a table is, against what the table is: version, rows and files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidemill.errors import LakeError

if TYPE_CHECKING:
    from tidemill.lake.tables import Lake


_DONE = ("SUCCEEDED", "SKIPPED")


@dataclass(frozen=True)
class Recorded:
    """A version of a table that a step wrote; ``rows`` are those of the whole table then, None where they are not known."""

    version: int
    rows: int | None = None


def recorded_outputs(steps: Iterable[Mapping[str, object]]) -> dict[str, Recorded]:
    """Return what the rows of ops.steps, which come oldest first, say of each table: its latest version, by whichever pipeline."""
    found: dict[str, Recorded] = {}
    for row in steps:
        if row["state"] in _DONE:
            found |= outputs_of(row)
    return found


def outputs_of(row: Mapping[str, object]) -> dict[str, Recorded]:
    """Return what one row of ops.steps says of the tables and models that its step wrote."""
    outputs: dict[str, int] = dict(row["outputs"] or {})  # type: ignore[call-overload]
    rows: dict[str, int] = dict(row.get("output_rows") or {})  # type: ignore[call-overload]
    return {name: Recorded(version, rows.get(name)) for name, version in outputs.items()}


def table_fault(lake: Lake, table: str, recorded: Recorded) -> str | None:
    """Return in what way a table is not what the ledger says, None where it is; starts no JVM."""
    try:
        latest = lake.version(table)
        if latest is None:
            return f"{table} is no longer in the lake"
        if latest < recorded.version:
            return f"{table} at version {recorded.version} is no longer in the lake: its log ends with version {latest}"
        if lake.is_lost_since(table, recorded.version):
            return f"{table} has lost what was committed as version {recorded.version} or later"
        damaged = lake.damaged_files(table)
    except LakeError as error:
        return str(error)
    if damaged:
        return f"{table} is damaged: {damaged[0]}" + (f" (and {len(damaged) - 1} more files)" if len(damaged) > 1 else "")
    rows = None if recorded.rows is None else _rows(lake, table, recorded.version)
    if rows is not None and rows != recorded.rows:
        return f"{table} holds {rows:,} rows at version {recorded.version}, where {recorded.rows:,} were written"
    return None


def refuse_faults(lake: Lake, tables: Iterable[str]) -> None:
    """Do nothing where the tables are what the ledger says; those that it does not know, and its own, are not looked at.

    Raises:
        LakeError: a table lost a version, rows or files.
    """
    known = recorded_outputs(lake.ledger.rows("ops.steps"))
    for table in tables:
        fault = table_fault(lake, table, known[table]) if table in known else None
        if fault:
            raise LakeError(f"{fault}; run the pipeline that writes it: `tidemill run SPEC` makes again what is lost")


def _rows(lake: Lake, table: str, version: int) -> int | None:
    """Return the rows at a version, None where the log does not reach back to it any more."""
    try:
        return lake.rows(table, version)
    except LakeError:
        return None
