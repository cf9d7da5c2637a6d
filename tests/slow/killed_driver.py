"""A driver that ingests one source and is killed, JVM and all, at a named phase: ``python -m … SPEC PHASE``."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from tidemill.lake import Lake, Ledger
from tidemill.lake.ops import FileRow
from tidemill.lake.ops_row import OpsRow
from tidemill.runtime.session import get_spark
from tidemill.spec import load_spec
from tidemill.steps.ingest.step import ingest
from tidemill.steps.result import StepContext

NODE = "ingest.x"


def die() -> None:
    """End this process group at once, as the kernel or an operator would: nothing is flushed, closed or told."""
    os.killpg(os.getpgid(0), signal.SIGKILL)
    time.sleep(60)


def before(owner: type, name: str, table: str | type[OpsRow]) -> None:
    """Die when a method is about to work on ``table``: its name, or the class of its rows."""
    method = getattr(owner, name)

    def mortal(self, *args, **options):  # type: ignore[no-untyped-def]
        if table in args:
            die()
        return method(self, *args, **options)

    setattr(owner, name, mortal)


def when_files_appear(folder: Path) -> None:
    """Die as soon as a data file is being written that was not there at the start."""
    known = set(folder.rglob("*.parquet"))

    def watch() -> None:
        while not set(folder.rglob("*.parquet")) - known:
            time.sleep(0.001)
        die()

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Ingest, and die on the way."""
    spec = load_spec(sys.argv[1])
    lake = Lake(spec.pipeline.lake)
    arrange = {
        "before the quarantine's files": lambda: before(Lake, "replace_where", "bronze.x_quarantine"),
        "between two tables": lambda: before(Lake, "append_once", "bronze.x"),
        "after data files, before their commit": lambda: when_files_appear(Path(lake.path("bronze.x"))),
        "after the commit, before the ledger": lambda: before(Ledger, "put", FileRow),
    }
    arrange[sys.argv[2]]()
    ingest(StepContext(get_spark(), spec, lake, {}, f"killed {sys.argv[2]}", NODE))


if __name__ == "__main__":
    main()
