"""A folder for what a step needs while it runs, where all executors see it; what dead processes left is removed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidemill.lake.lock import locked
from tidemill.lake.names import is_local

_OWNER = "owner"


@contextmanager
def scratch(root: str) -> Iterator[str]:
    """Have a folder below the lake at ``root`` for the length of the block; empty where the lake lies on no file system."""
    if not is_local(root):
        yield ""
        return
    base = Path(root) / ".scratch"
    base.mkdir(parents=True, exist_ok=True)
    for left in base.glob("held-*"):
        # The system frees the lock of a process that died.
        with locked(str(left), _OWNER, wait=False) as is_free:
            if is_free:
                shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix="new-", dir=base))
    with locked(str(made), _OWNER):
        # Only now may others take it for one that somebody left.
        folder = made.rename(base / made.name.replace("new-", "held-", 1))
        try:
            yield str(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
