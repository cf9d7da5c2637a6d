"""A lock on an object store: a lease in the log of a Delta table without rows, one table a lock.

Object stores put an object only if it is absent, and Delta commits by that: of two who would take the lock at the same version, one
wins. The last commit says who holds it. A holder renews it by commits; who waits takes over a lease that was not renewed for long,
by its own clock that only goes forward, so that the clocks of two machines are never compared.
"""

from __future__ import annotations

import json
import logging
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from threading import Event, Thread

from deltalake import CommitProperties, DeltaTable, Field, Schema
from deltalake.exceptions import DeltaError
from deltalake.schema import PrimitiveType

from tidemill.errors import LakeError
from tidemill.lake.holder import Holder, this_process

logger = logging.getLogger(__name__)

RENEW_S = 10.0
LEASE_S = 60.0
_POLL_S = 0.5
_SCHEMA = Schema([Field("nothing", PrimitiveType("string"))])
_SETTINGS = {"delta.logRetentionDuration": "interval 1 days"}


@contextmanager
def leased(root: str, name: str, *, wait: bool) -> Iterator[bool]:
    """Hold the lease ``name`` of the lake at ``root`` inside the block; yield False where ``wait`` is off and a live process holds it.

    Raises:
        LakeError: another process took the lease over inside the block, as it was not renewed for a minute.
    """
    lease = _Lease(_path(root, name))
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
        by = lease_holder(root, name)
        raise LakeError(
            f"{root}: the lock {name} was lost to {by or 'another process'}, as this process did not renew it for {LEASE_S:g} s; "
            "run again to see what is done and to do the rest"
        )


def lease_holder(root: str, name: str) -> Holder | None:
    """Return who holds the lease, None where nobody does."""
    path = _path(root, name)
    return _mark(DeltaTable(path)).holder if DeltaTable.is_deltatable(path) else None


@dataclass(frozen=True)
class _Mark:
    """What the last commit of a lease's table says; without a token nobody holds it."""

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
            mark, version, now = _mark(table), table.version(), time.monotonic()
            if version != watched:
                if mark.token and watched >= 0 and not wait:
                    return False
                watched, since = version, now
            if mark.token and now - since <= LEASE_S:
                time.sleep(random.uniform(_POLL_S / 2, _POLL_S))
            elif _commit(table, self.token, this_process()):
                return True

    def renew_until(self, is_over: Event) -> None:
        """Renew the lease at intervals, until the event or until another process has it."""
        while not is_over.wait(RENEW_S):
            try:
                table = self._open()
                mark = _mark(table)
                if mark.token != self.token:
                    return
                _commit(table, self.token, mark.holder)
            except (DeltaError, OSError) as error:
                logger.warning("the lease %s was not renewed, it is tried again: %s", self.path, error)

    def release(self) -> bool:
        """Free the lease; return False where another process has it."""
        while True:
            table = self._open()
            if _mark(table).token != self.token:
                return False
            if _commit(table, None, None):
                return True

    def _open(self) -> DeltaTable:
        if not DeltaTable.is_deltatable(self.path):
            try:
                return DeltaTable.create(self.path, _SCHEMA, mode="error", configuration=_SETTINGS)
            except DeltaError:
                if not DeltaTable.is_deltatable(self.path):
                    raise
        return DeltaTable(self.path)


def _path(root: str, name: str) -> str:
    return f"{root}/.locks/{name}"


def _mark(table: DeltaTable) -> _Mark:
    text = str(table.history(1)[0].get("userMetadata") or "{}")
    values = json.loads(text)
    return _Mark(values.get("token"), Holder.from_json(json.dumps(values.get("holder"))))


def _commit(table: DeltaTable, token: str | None, holder: Holder | None) -> bool:
    """Write a mark behind the version that ``table`` is at; return False where another commit is there."""
    mark = json.dumps({"token": token, "holder": holder and asdict(holder)})
    properties = CommitProperties(custom_metadata={"userMetadata": mark}, max_commit_retries=0)
    try:
        table.create_write_transaction([], "append", _SCHEMA, commit_properties=properties)
    except DeltaError:
        if DeltaTable(table.table_uri).version() == table.version():
            raise
        return False
    return True
