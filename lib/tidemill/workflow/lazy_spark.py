"""The SparkSession of a command, started only where something needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class LazySpark:
    """The SparkSession, started by the first node that needs it; a run with nothing to do starts no JVM."""

    def __init__(self, start: Callable[[], SparkSession]) -> None:
        """Remember how to start it."""
        self._start, self._lock = start, threading.Lock()
        self._session: SparkSession | None = None

    def get(self) -> SparkSession:
        """Return the session, starting it at the first call."""
        with self._lock:
            if self._session is None:
                self._session = self._start()
            return self._session
