"""Makes a damaged table readable again: what is lost is marked as lost, and what is damaged is set aside, never deleted."""

from __future__ import annotations

import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from tidemill.errors import LakeError
from tidemill.lake.delta_log import LOST, DeltaLog, LogFault, file_faults, naming

_HINT = "_last_checkpoint"


def mend(home: str, aside: str, floor: int = -1) -> list[LogFault]:
    """Make the table that lies at ``home`` whole again, and return what was wrong; nothing happens where it is whole.

    A commit that is lost is replaced by one without files, so that a version never means two things; the table then holds what the
    other commits say. Damaged files move into the folder ``aside``, the whole table where no version of it can be read any more.
    ``floor`` is a version that the table is known to have had.
    """
    log = DeltaLog(home)
    if not log.exists:
        return []
    found = log.faults(floor)
    try:
        if found:
            _mend_log(log, found, Path(aside))
        return found + _mend_files(home, Path(aside))
    except LakeError:
        # A whole log that delta-rs does not read has a feature which it lacks: that is nobody's loss.
        if found:
            _set_aside(Path(home), Path(aside))
        return found


def damaged_files(home: str) -> list[LogFault]:
    """Return the data files of the latest version that are gone or cut."""
    with naming(home):
        actions = pa.table(DeltaTable(home).get_add_actions(flatten=True))
    files = zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True)
    return list(file_faults(home, files))


def _mend_log(log: DeltaLog, found: list[LogFault], aside: Path) -> None:
    if any(fault.version is None for fault in found):
        for file in [file for files in log.checkpoints.values() for file in files if _is_among(file, found)] + [log.folder / _HINT]:
            _set_aside(file, aside)
    lost = sorted(fault.version for fault in found if fault.version is not None)
    if lost:
        for version in range(lost[0], max(log.latest, lost[-1], *log.checksums) + 1):
            for name in (f"{version:020d}.crc", f".{version:020d}.crc.crc"):
                (log.folder / name).unlink(missing_ok=True)
    for fault in found:
        if fault.version is not None:
            _set_aside(fault.file, aside)
            log.add_marker(fault.version, LOST, str(fault))
    if lost:
        _end_with_mark(log.home)
    with naming(str(log.home)):
        DeltaTable(str(log.home))


def _mend_files(home: str, aside: Path) -> list[LogFault]:
    faults = damaged_files(home)
    for fault in faults:
        _set_aside(fault.file, aside)
    if faults:
        with naming(home):
            DeltaTable(home).repair()
        _end_with_mark(Path(home))
    return faults


def _end_with_mark(home: Path) -> None:
    """Let the log end with a mark of the loss, so that whatever was written before is known to be no longer what it was."""
    log = DeltaLog(str(home))
    if log.operation(log.latest) != LOST:
        log.add_marker(log.latest + 1, LOST, "earlier commits or files are lost")


def _is_among(file: Path, found: list[LogFault]) -> bool:
    """Return True where a checkpoint is of the same version as one that is damaged."""
    return any(fault.version is None and fault.file.name[:20] == file.name[:20] for fault in found)


def _set_aside(path: Path, aside: Path) -> None:
    if path.exists():
        aside.mkdir(parents=True, exist_ok=True)
        shutil.move(str(path), str(aside / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}-{path.name}"))
        if path.parent.name == "_delta_log":
            (path.parent / f".{path.name}.crc").unlink(missing_ok=True)
