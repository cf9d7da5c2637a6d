"""One writer at a time: an advisory lock a name, held by the process and freed by the system when it dies."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidemill.lake.names import is_local


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
    folder = Path(root) / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
