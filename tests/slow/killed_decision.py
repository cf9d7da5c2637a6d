"""A decision about a model version whose process is killed at a named phase, or after some seconds: ``python -m … SPEC COMMAND PHASE``."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import deltalake

from tidemill.lake import ledger
from tidemill.lake.ops import DeploymentRow
from tidemill.runtime.session import LazySpark
from tidemill.spec import load_spec
from tidemill.workflow import Runner, lifecycle


def die() -> None:
    """End this process at once, as the kernel or an operator would."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _dying(*_: object, **__: object) -> None:
    die()


def _die_between_file_and_commit() -> None:
    """Write the rows' data file as delta-rs does, and die before its commit."""

    def write(table: deltalake.DeltaTable, data: object, **_: object) -> None:
        import pyarrow.parquet as pq

        pq.write_table(data, f"{table.table_uri.removeprefix('file://')}/part-00000-killed.parquet")
        die()

    _patch_for_deployments(write)


def _die_after_commit() -> None:
    write = ledger.write_deltalake

    def write_and_die(*args: object, **options: object) -> None:
        write(*args, **options)  # type: ignore[arg-type]
        die()

    _patch_for_deployments(write_and_die)


def _patch_for_deployments(instead: Callable[..., None]) -> None:
    write = ledger.write_deltalake

    def choose(table: deltalake.DeltaTable, *args: object, **options: object) -> None:
        is_meant = str(getattr(table, "table_uri", table)).rstrip("/").endswith(DeploymentRow.TABLE.replace(".", "/"))
        (instead if is_meant else write)(table, *args, **options)  # type: ignore[operator]

    ledger.write_deltalake = choose  # type: ignore[assignment]


PHASES: dict[str, Callable[[], None]] = {
    "while the sample is compared": lambda: setattr(lifecycle, "_reproduce_sample", _dying),
    "before the commit": lambda: _patch_for_deployments(_dying),
    "after the data file, before the commit": _die_between_file_and_commit,
    "after the commit": _die_after_commit,
    "before the folders": lambda: setattr(lifecycle, "record_states", _dying),
    "before the cards": lambda: setattr(lifecycle, "write_cards", _dying),
    "before MLflow": lambda: setattr(lifecycle, "show_in_mlflow", _dying),
}


def main() -> None:
    """Decide, and die on the way."""
    file, command, phase = sys.argv[1:]
    spec = load_spec(file)
    lifecycle._reproduce_sample = lambda *_: 100
    lifecycle.show_in_mlflow = lambda *_, **__: None  # type: ignore[assignment]
    spark = LazySpark(lambda: sys.exit("Spark was asked for"))
    lake, wish = Runner(spec, spark).lake, lifecycle.Wish(None, "killed", "ada")
    if phase in PHASES:
        PHASES[phase]()
    else:
        threading.Timer(float(phase), die).start()
    getattr(lifecycle, command)(spec, lake, spark, wish)


if __name__ == "__main__":
    main()
