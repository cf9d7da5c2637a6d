"""One writer at a time: an advisory lock a name, held by the process and freed when it dies."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from tidemill.errors import LakeError
from tidemill.lake.holder import Holder, this_process
from tidemill.lake.lease import lease_holder, leased
from tidemill.lake.names import is_local

_MOST_BYTES = 10_000


@contextmanager
def locked(root: str, name: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock ``name`` of the lake at ``root`` inside the block.

    Local file systems do not give Delta an atomic "create if absent", so two writers of one table must take turns; there it is a lock of
    the system on a file below ``.locks``. On an object store it is a lease. Yields False where ``wait`` is off and another process holds
    the lock: at once on a file system, when the holder has renewed it on an object store.

    Raises:
        LakeError: the lock cannot be had at all, or a lease was lost inside the block.
    """
    with _locked_file(_path(root, name), wait=wait) if is_local(root) else leased(root, name, wait=wait) as is_held:
        yield is_held


def holder(root: str, name: str) -> Holder | None:
    """Return who holds the lock, None where nobody does or it cannot be told."""
    if not is_local(root):
        return lease_holder(root, name)
    try:
        file = os.open(_path(root, name), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Holder.from_json(os.pread(file, _MOST_BYTES, 0).decode(errors="replace"))
    finally:
        os.close(file)
    return None


@contextmanager
def _locked_file(path: Path, *, wait: bool) -> Iterator[bool]:
    try:
        file = _acquired(path, wait=wait)
    except OSError as error:
        raise LakeError(
            f"{path} cannot be locked: {error.strerror}; who writes to a lake must be allowed to write to its folders"
        ) from error
    if file is None:
        yield False
        return
    try:
        yield True
    finally:
        # Gone before it is free: who waited for it sees that it is not the one at this path any more. In a folder with the sticky bit it
        # stays where another user's process had died with it.
        with suppress(FileNotFoundError, PermissionError):
            path.unlink()
        os.close(file)


def _acquired(path: Path, *, wait: bool) -> int | None:
    """Return the open file of the lock, once it is held; None where another process holds it and is not waited for."""
    while True:
        file = _opened(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(file)
            return None
        if _is_at(path, file):
            _sign(file)
            return file
        os.close(file)


def _opened(path: Path) -> int:
    """Open the file of a lock, made with the permissions of the lake's folder: all who may write there may lock, whoever came first."""
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except PermissionError:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)  # another user's, which can be locked all the same
        except FileNotFoundError:
            with suppress(FileExistsError):
                return _created(path)


def _created(path: Path) -> int:
    root, folder = path.parent.parent, path.parent
    root.mkdir(parents=True, exist_ok=True)
    mode = stat.S_IMODE(root.stat().st_mode)
    with suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(mode)
    own = 0o600 | mode & 0o666
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, own)
    os.fchmod(file, own)  # whatever the umask says
    return file


def _is_at(path: Path, file: int) -> bool:
    """Return True where the open file is still the one at the path: its last holder may have taken it away."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _path(root: str, name: str) -> Path:
    return Path(root) / ".locks" / f"{name}.lock"


def _sign(file: int) -> None:
    """Write into the lock who holds it, for those who wait."""
    with suppress(OSError):  # it may be read alone
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(asdict(this_process())).encode(), 0)
