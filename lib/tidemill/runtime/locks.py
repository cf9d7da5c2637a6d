"""One advisory lock per name, held by one process at a time and freed when it dies."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import random
import shutil
import socket
import stat
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

from deltalake import CommitProperties, DeltaTable, Field, Schema
from deltalake.exceptions import DeltaError
from deltalake.schema import PrimitiveType

from tidemill.errors import LakeError
from tidemill.quoting import is_local


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

    @classmethod
    def from_json(cls, text: str) -> Holder | None:
        """Return the holder that the text names, None where it is not, or not yet, whole."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


def this_process() -> Holder:
    """Return the present process."""
    # The text after an equals sign may be a secret: `--set vars.PASSWORD=…`.
    command = " ".join([Path(sys.argv[0]).name, *(word.partition("=")[0] for word in sys.argv[1:])])[:200]
    return Holder(os.getpid(), socket.gethostname(), command, f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")


logger = logging.getLogger(__name__)

RENEW_S = 10.0
LEASE_S = 60.0
_POLL_S = 0.5
_SCHEMA = Schema([Field("nothing", PrimitiveType("string"))])
_SETTINGS = {"delta.logRetentionDuration": "interval 1 days"}


@contextmanager
def hold_lease(root: str, name: str, *, wait: bool) -> Iterator[bool]:
    """Hold the lease ``name`` of the lake at ``root`` inside the block; yield False where ``wait`` is off and a live process holds it.

    Raises:
        LakeError: another process took the lease over inside the block, as it was not renewed for a minute.
    """
    lease = _Lease(_lease_path(root, name))
    if not lease.acquire(wait=wait):
        yield False
        return
    is_over = Event()
    renewal = Thread(target=lease.renew_until, args=(is_over,), name=f"lease {name}", daemon=True)
    renewal.start()
    try:
        yield True
    finally:
        is_over.set()
        renewal.join()
        is_own = lease.release()
    if not is_own:
        by = find_lease_holder(root, name)
        raise LakeError(
            f"{root}: the lock {name} was lost to {by or 'another process'}, as this process did not renew it for {LEASE_S:g} s; "
            "run again to see what is done and to do the rest"
        )


def find_lease_holder(root: str, name: str) -> Holder | None:
    """Return the holder of the lease, None where it is free."""
    path = _lease_path(root, name)
    return _read_mark(DeltaTable(path)).holder if DeltaTable.is_deltatable(path) else None


@dataclass(frozen=True)
class _Mark:
    """The state in the last commit of a lease's table; without a token it is free."""

    token: str | None = None
    holder: Holder | None = None


@dataclass
class _Lease:
    path: str
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def acquire(self, *, wait: bool) -> bool:
        """Take the lease when it is free, or its holder has not renewed it for long."""
        watched, since = -1, time.monotonic()
        while True:
            table = self._open()
            mark, version, now = _read_mark(table), table.version(), time.monotonic()
            if version != watched:
                if mark.token and watched >= 0 and not wait:
                    return False
                watched, since = version, now
            if mark.token and now - since <= LEASE_S:
                time.sleep(random.uniform(_POLL_S / 2, _POLL_S))
            elif _commit_mark(table, self.token, this_process()):
                return True

    def renew_until(self, is_over: Event) -> None:
        """Renew the lease at intervals, until the event or until another process has it."""
        while not is_over.wait(RENEW_S):
            try:
                table = self._open()
                mark = _read_mark(table)
                if mark.token != self.token:
                    return
                _commit_mark(table, self.token, mark.holder)
            except (DeltaError, OSError) as error:
                logger.warning("the lease %s was not renewed, it is tried again: %s", self.path, error)

    def release(self) -> bool:
        """Free the lease; return False where another process has it."""
        while True:
            table = self._open()
            if _read_mark(table).token != self.token:
                return False
            if _commit_mark(table, None, None):
                return True

    def _open(self) -> DeltaTable:
        if not DeltaTable.is_deltatable(self.path):
            try:
                return DeltaTable.create(self.path, _SCHEMA, mode="error", configuration=_SETTINGS)
            except DeltaError:
                if not DeltaTable.is_deltatable(self.path):
                    raise
        return DeltaTable(self.path)


def _lease_path(root: str, name: str) -> str:
    return f"{root}/.locks/{name}"


def _read_mark(table: DeltaTable) -> _Mark:
    text = str(table.history(1)[0].get("userMetadata") or "{}")
    values = json.loads(text)
    return _Mark(values.get("token"), Holder.from_json(json.dumps(values.get("holder"))))


def _commit_mark(table: DeltaTable, token: str | None, holder: Holder | None) -> bool:
    """Commit a mark after the version of ``table``; return False where another commit came first."""
    mark = json.dumps({"token": token, "holder": holder and asdict(holder)})
    properties = CommitProperties(custom_metadata={"userMetadata": mark}, max_commit_retries=0)
    try:
        table.create_write_transaction([], "append", _SCHEMA, commit_properties=properties)
    except DeltaError:
        if DeltaTable(table.table_uri).version() == table.version():
            raise
        return False
    return True


_MOST_BYTES = 10_000
FOLDER_OWNER = "owner"
"""The lock inside of a folder that its owner holds for as long as it needs it."""
SCRATCH = ".scratch"
"""The folder of a lake that holds what a process needs for a while."""


@contextmanager
def hold_lock(root: str, name: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock ``name`` of the lake at ``root`` inside the block.

    Local file systems do not give Delta an atomic "create if absent", so two writers of one table must take turns; there it is a lock of
    the system on a file below ``.locks``. On an object store it is a lease. Yields False where ``wait`` is off and another process holds
    the lock: at once on a file system, when the holder has renewed it on an object store.

    Raises:
        LakeError: the lock cannot be had at all, or a lease was lost inside the block.
    """
    with _hold_file_lock(_lock_path(root, name), wait=wait) if is_local(root) else hold_lease(root, name, wait=wait) as is_held:
        yield is_held


def find_holder(root: str, name: str) -> Holder | None:
    """Return the holder of the lock, None where it is free or the holder is unknown."""
    if not is_local(root):
        return find_lease_holder(root, name)
    try:
        file = os.open(_lock_path(root, name), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Holder.from_json(os.pread(file, _MOST_BYTES, 0).decode(errors="replace"))
    finally:
        os.close(file)
    return None


def remove_dead_locks(root: str, *, dry_run: bool = False) -> list[str]:
    """Remove the lock files that dead processes left in the lake at ``root``; return their paths."""
    removed = []
    for path in sorted((Path(root) / ".locks").glob("*.lock")) if is_local(root) else ():
        name = path.name.removesuffix(".lock")
        if find_holder(root, name) is None:
            removed.append(str(path))
            if not dry_run:
                with hold_lock(root, name, wait=False):  # leaving the block removes the file
                    pass
    return removed


@contextmanager
def scratch(root: str) -> Iterator[str]:
    """Create a folder below the lake at ``root`` for the duration of the block; an empty string where the lake is on no file system."""
    if not is_local(root):
        yield ""
        return
    base = Path(root) / SCRATCH
    base.mkdir(parents=True, exist_ok=True)
    remove_dead_folders(str(base))
    unowned = Path(tempfile.mkdtemp(prefix="new-", dir=base))
    with hold_lock(str(unowned), FOLDER_OWNER):
        # From here on others remove it when its owner is dead.
        folder = unowned.rename(base / unowned.name.replace("new-", "held-", 1))
        try:
            yield str(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_dead_folders(base: str, *, dry_run: bool = False) -> list[str]:
    """Remove the folders ``held-*`` below ``base`` whose owner died: the system frees the lock that it held inside of them."""
    removed = []
    for folder in sorted(Path(base).glob("held-*")):
        if find_holder(str(folder), FOLDER_OWNER) is not None:
            continue
        removed.append(str(folder))
        if not dry_run:
            with hold_lock(str(folder), FOLDER_OWNER, wait=False) as is_free:
                if is_free:
                    shutil.rmtree(folder, ignore_errors=True)
    return removed


@contextmanager
def _hold_file_lock(path: Path, *, wait: bool) -> Iterator[bool]:
    try:
        file = _acquire_file(path, wait=wait)
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


def _acquire_file(path: Path, *, wait: bool) -> int | None:
    """Return the open file of the lock, once it is held; None where another process holds it and is not waited for."""
    while True:
        file = _open_file(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(file)
            return None
        if _is_still_at(path, file):
            _write_holder(file)
            return file
        os.close(file)


def _open_file(path: Path) -> int:
    """Open the file of a lock, created with the permissions of the lake's folder, so that every user who may write there may lock."""
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except PermissionError:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)  # another user's, which can be locked all the same
        except FileNotFoundError:
            with suppress(FileExistsError):
                return _create_file(path)


def _create_file(path: Path) -> int:
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


def _is_still_at(path: Path, file: int) -> bool:
    """Return True where the open file is still the one at the path: its last holder may have taken it away."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _lock_path(root: str, name: str) -> Path:
    return Path(root) / ".locks" / f"{name}.lock"


def _write_holder(file: int) -> None:
    """Write into the lock who holds it, for those who wait."""
    with suppress(OSError):  # it may be read alone
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(asdict(this_process())).encode(), 0)
