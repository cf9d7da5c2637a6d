"""A table's Delta log on this machine's file system: its faults, and the marker that replaces a lost commit.

Delta does not notice an entry that was emptied or removed: it then reads an older version, without an error.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.lake.files import write_whole

LOST, PADDED = "TIDEMILL LOST", "TIDEMILL PADDED"
"""Operations of commits without files: the first replaces a lost commit, the second raises the version after the rows are written again."""

_FILE = re.compile(r"(\d{20})\.(json|crc|checkpoint(?:\.\d{10}\.(\d{10})|\.[0-9a-f-]{36})?\.(?:parquet|json))")


@dataclass(frozen=True)
class LogFault:
    """A file of the log that is damaged or missing; ``version`` is that of its commit, None for a checkpoint."""

    file: Path
    what: str
    version: int | None = None

    def __str__(self) -> str:
        """Return file and fault, as a sentence has them."""
        return f"{self.file} {self.what}"


class DeltaLog:
    """The files of one table's log, as they are now."""

    def __init__(self, home: str) -> None:
        """List the log of the table at ``home``; there may be none."""
        self.home = Path(home)
        self.folder = self.home / "_delta_log"
        self.entries: set[int] = set()
        self.checksums: set[int] = set()
        self.checkpoints: dict[int, list[Path]] = {}
        try:
            names = [entry.name for entry in os.scandir(self.folder)]
        except (FileNotFoundError, NotADirectoryError):
            names = []
        for name in names:
            matched = _FILE.fullmatch(name)
            if matched is None:
                continue
            version, kind = int(matched[1]), matched[2]
            if kind == "json":
                self.entries.add(version)
            elif kind == "crc":
                self.checksums.add(version)
            else:
                self.checkpoints.setdefault(version, []).append(self.folder / name)

    @property
    def exists(self) -> bool:
        """True where there is a table, whole or damaged."""
        return bool(self.entries or self.checkpoints or self.checksums)

    @property
    def latest(self) -> int:
        """The greatest version with an entry or a checkpoint, -1 without any."""
        return max((*self.entries, *self.checkpoints), default=-1)

    def entry(self, version: int) -> Path:
        """Return the file of a commit."""
        return self.folder / f"{version:020d}.json"

    def faults(self, floor: int = -1) -> list[LogFault]:
        """Return the faults that keep readers from the latest version; ``floor`` is a version that the table is known to have had.

        Entries that an undamaged checkpoint covers are not needed and not checked.
        """
        damaged, base = [], -1
        for version in sorted(self.checkpoints, reverse=True):
            fault = _checkpoint_fault(self.checkpoints[version])
            if fault is None:
                base = version
                break
            damaged.append(fault)
        damaged += self._hint_fault()
        for version in range(base + 1, max((self.latest, floor, *self.checksums)) + 1):
            what = _entry_fault(self.entry(version)) if version in self.entries else "is missing"
            damaged += [LogFault(self.entry(version), what, version)] if what else []
        return damaged

    def commit_info(self, version: int) -> dict[str, Any]:
        """Return the ``commitInfo`` of a commit; empty where it has none or is damaged."""
        if version not in self.entries or _entry_fault(self.entry(version)):
            return {}
        return next((dict(action["commitInfo"]) for action in _actions(self.entry(version)) if "commitInfo" in action), {})

    def history(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the ``commitInfo`` of the commits, with ``version``, the newest first."""
        versions = sorted(self.entries, reverse=True)[:limit]
        return [{**self.commit_info(version), "version": version} for version in versions]

    def operation(self, version: int) -> str | None:
        """Return the operation that a commit's entry names, None where there is none."""
        return self.commit_info(version).get("operation")

    def is_lost_since(self, version: int) -> bool:
        """Return True where the commit of ``version`` or a later one was lost and its step has not written it again."""
        marks = [mark for other in sorted(self.entries) if other >= version and (mark := self.operation(other)) in (LOST, PADDED)]
        return marks[-1:] == [LOST]

    def add_marker(self, version: int, operation: str, reason: str) -> None:
        """Write a commit without files."""
        info = {
            "timestamp": time.time_ns() // 1_000_000,
            "operation": operation,
            "operationParameters": {},
            "engineInfo": "tidemill",
            "userMetadata": json.dumps({"reason": reason}),
        }
        for name in (f"{version:020d}.crc", f".{version:020d}.crc.crc", f".{version:020d}.json.crc"):
            (self.folder / name).unlink(missing_ok=True)
        write_whole(self.entry(version), (json.dumps({"commitInfo": info}) + "\n").encode())
        self.entries.add(version)

    def _hint_fault(self) -> list[LogFault]:
        """Return a fault where the log's hint names a missing checkpoint; readers ignore an unreadable hint."""
        hint = self.folder / "_last_checkpoint"
        try:
            version = int(json.loads(hint.read_text(encoding="utf-8"))["version"])
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return [] if version in self.checkpoints else [LogFault(hint, f"names checkpoint {version}, which is missing")]


def find_file_faults(home: str, files: Iterable[tuple[str, int]]) -> Iterator[LogFault]:
    """Yield the data files, given as relative path and size, that are missing or have another size."""
    for relative, size in files:
        if "://" in relative:
            continue
        path = Path(home) / relative
        try:
            present = path.stat().st_size
        except OSError:
            yield LogFault(path, "is missing")
            continue
        if present != size:
            yield LogFault(path, f"has {present:,} bytes instead of {size:,}")


def _actions(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def _entry_fault(file: Path) -> str | None:
    state = file.stat()
    return _read_entry(str(file), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _read_entry(path: str, size: int, modified: int) -> str | None:
    """Return what is wrong with an entry; a file of the same size and time is not read twice."""
    if not size:
        return "is empty"
    count = 0
    try:
        for action in _actions(Path(path)):
            count += isinstance(action, dict)
    except (ValueError, UnicodeDecodeError):
        return "is cut off or damaged"
    return None if count else "holds no commit"


def _checkpoint_fault(files: list[Path]) -> LogFault | None:
    parts = {matched[3] for file in files if (matched := _FILE.fullmatch(file.name)) and matched[3]}
    for file in sorted(files):
        state = file.stat()
        if not _is_readable(str(file), state.st_size, state.st_mtime_ns):
            return LogFault(file, "cannot be read")
    if parts and len(files) < int(max(parts)):
        return LogFault(sorted(files)[0], f"is one of {int(max(parts))} parts, of which {len(files)} are there")
    return None


@lru_cache(maxsize=1024)
def _is_readable(path: str, size: int, modified: int) -> bool:
    try:
        if path.endswith(".json"):
            return _read_entry(path, size, modified) is None
        pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return False
    return True
