"""Compares tables with the ledger, and makes damaged tables readable again.

Lost commits are marked as lost; damaged files are moved away, never deleted.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deltalake import DeltaTable

from tidemill.errors import LakeError
from tidemill.lake.delta_log import LOST, DeltaLog, LogFault, find_file_faults
from tidemill.lake.delta_tables import list_data_files, translate_errors
from tidemill.lake.ops import StepRow

if TYPE_CHECKING:
    from tidemill.lake.ledger import Ledger
    from tidemill.lake.tables import Lake

logger = logging.getLogger(__name__)


_DONE = ("SUCCEEDED", "SKIPPED")


@dataclass(frozen=True)
class RecordedVersion:
    """A version of a table that a step wrote; ``rows`` are those of the whole table then, None where they are not known."""

    version: int
    rows: int | None = None


def read_recorded_outputs(ledger: Ledger) -> dict[str, RecordedVersion]:
    """Return what the latest step that wrote each table, of whichever pipeline, recorded of it."""
    states = ", ".join(f"'{state}'" for state in _DONE)
    written = f"SELECT seq, unnest(map_keys(outputs)) AS name FROM rows WHERE state IN ({states})"
    latest = f"SELECT max(seq) FROM ({written}) GROUP BY name"
    outputs: dict[str, RecordedVersion] = {}
    for row in ledger.select(StepRow, f"SELECT * FROM rows WHERE seq IN ({latest})"):
        outputs |= list_outputs(row)
    return outputs


def read_greatest_versions(ledger: Ledger) -> dict[str, int]:
    """Return the greatest version of each table that any step of any run has written."""
    written = "SELECT unnest(map_keys(outputs)) AS name, unnest(map_values(outputs)) AS version FROM rows"
    rows = ledger.query(StepRow.TABLE, f"SELECT name, max(version) AS version FROM ({written}) GROUP BY name")
    return {row["name"]: row["version"] for row in rows}


def list_outputs(row: StepRow | None) -> dict[str, RecordedVersion]:
    """Return the tables and models that the step of one row of ops.steps wrote."""
    if row is None:
        return {}
    rows = row.output_rows or {}
    return {name: RecordedVersion(version, rows.get(name)) for name, version in (row.outputs or {}).items()}


def find_table_fault(lake: Lake, table: str, recorded: RecordedVersion) -> str | None:
    """Return how a table differs from what the ledger recorded, None where it does not; starts no JVM."""
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
    """Check tables against the ledger; tables that it does not know, and its own, are not checked.

    Raises:
        LakeError: a table lost a version, rows or files.
    """
    known = read_recorded_outputs(lake.ledger)
    for table in tables:
        fault = find_table_fault(lake, table, known[table]) if table in known else None
        if fault:
            raise LakeError(f"{fault}; run the pipeline that writes it: `tidemill run SPEC` recreates what is lost")


def _rows(lake: Lake, table: str, version: int) -> int | None:
    """Return the number of rows at a version, None where the log no longer contains it."""
    try:
        return lake.rows(table, version)
    except LakeError:
        return None


_HINT = "_last_checkpoint"


def repair_table(home: str, aside: str, floor: int = -1) -> list[LogFault]:
    """Repair the table at ``home`` and return its faults; an undamaged table is not touched.

    A lost commit is replaced by one without files, so that a version number never denotes two states; the table then holds what the
    other commits added. Damaged files move into the folder ``aside``; the whole table does where no version can be read.
    ``floor`` is a version that the table is known to have had.
    """
    log = DeltaLog(home)
    if not log.exists:
        return []
    faults = log.faults(floor)
    try:
        if faults:
            logger.warning("%s is damaged and is repaired: %s", home, faults[0])
            _repair_log(log, faults, Path(aside))
        return faults + _repair_files(home, Path(aside))
    except LakeError:
        # An undamaged log that delta-rs cannot read uses a feature that it lacks: nothing is lost.
        if faults:
            _set_aside(Path(home), Path(aside))
        return faults


def find_damaged_files(home: str) -> list[LogFault]:
    """Return the data files of the latest version that are missing or truncated."""
    with translate_errors(home):
        actions = list_data_files(DeltaTable(home))
    files = zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True)
    return list(find_file_faults(home, files))


def _repair_log(log: DeltaLog, faults: list[LogFault], aside: Path) -> None:
    if any(fault.version is None for fault in faults):
        for file in [file for files in log.checkpoints.values() for file in files if _is_among(file, faults)] + [log.folder / _HINT]:
            _set_aside(file, aside)
    lost = sorted(fault.version for fault in faults if fault.version is not None)
    if lost:
        for version in range(lost[0], max(log.latest, lost[-1], *log.checksums) + 1):
            for name in (f"{version:020d}.crc", f".{version:020d}.crc.crc"):
                (log.folder / name).unlink(missing_ok=True)
    for fault in faults:
        if fault.version is not None:
            _set_aside(fault.file, aside)
            log.add_marker(fault.version, LOST, str(fault))
    if lost:
        _end_with_mark(log.home)
    with translate_errors(str(log.home)):
        DeltaTable(str(log.home))


def _repair_files(home: str, aside: Path) -> list[LogFault]:
    faults = find_damaged_files(home)
    for fault in faults:
        _set_aside(fault.file, aside)
    if faults:
        with translate_errors(home):
            DeltaTable(home).repair()
        _end_with_mark(Path(home))
    return faults


def _end_with_mark(home: Path) -> None:
    """End the log with a marker of the loss, so that versions written before are known to be incomplete."""
    log = DeltaLog(str(home))
    if log.operation(log.latest) != LOST:
        log.add_marker(log.latest + 1, LOST, "earlier commits or files are lost")


def _is_among(file: Path, faults: list[LogFault]) -> bool:
    """Return True where a checkpoint has the version of a damaged one."""
    return any(fault.version is None and fault.file.name[:20] == file.name[:20] for fault in faults)


def _set_aside(path: Path, aside: Path) -> None:
    if path.exists():
        aside.mkdir(parents=True, exist_ok=True)
        shutil.move(str(path), str(aside / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}-{path.name}"))
        if path.parent.name == "_delta_log":
            (path.parent / f".{path.name}.crc").unlink(missing_ok=True)
