"""Who holds a lock."""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


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
    """Return the process that asks."""
    # What stands behind an equals sign may be a secret: `--set vars.PASSWORD=…`.
    command = " ".join([Path(sys.argv[0]).name, *(word.partition("=")[0] for word in sys.argv[1:])])[:200]
    return Holder(os.getpid(), socket.gethostname(), command, f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
