"""One writer at a time: an advisory lock a name, held by the process and freed by the system when it dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from tidemill.lake.names import is_local


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock: its id, machine and command, and since when (UTC)."""

    pid: int
    host: str
    command: str
    since: str

    def __str__(self) -> str:
        """Return how a message names it."""
        return f"process {self.pid} on {self.host} ({self.command}), since {self.since}"


@contextmanager
def locked(root: str, name: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock ``name`` of the lake at ``root`` inside the block.

    Local file systems do not give Delta an atomic "create if absent", so two writers of one table must take turns.
    Object stores are left to Delta's own protocol. Yields False, without waiting, where ``wait`` is off and another
    process holds the lock.
    """
    if not is_local(root):
        yield True
        return
    path = _path(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        _sign(handle)
        yield True


def holder(root: str, name: str) -> Holder | None:
    """Return who holds the lock, None where nobody does or it cannot be told."""
    path = _path(root, name)
    if not is_local(root) or not path.exists():
        return None
    with path.open("r+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                return Holder(**json.loads(handle.read()))
            except (ValueError, TypeError):  # it is just being signed
                return None
    return None


def _path(root: str, name: str) -> Path:
    return Path(root) / ".locks" / f"{name}.lock"


def _sign(handle: IO[str]) -> None:
    """Write into the lock who holds it, for those who wait."""
    # What stands behind an equals sign may be a secret: `--set vars.PASSWORD=…`.
    command = " ".join([Path(sys.argv[0]).name, *(word.partition("=")[0] for word in sys.argv[1:])])[:200]
    me = Holder(os.getpid(), socket.gethostname(), command, f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
    handle.seek(0)
    handle.truncate()
    handle.write(json.dumps(asdict(me)))
    handle.flush()
