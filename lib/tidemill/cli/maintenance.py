"""The command ``maintain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidemill.cli.options import AsJson, Debug, Env, LakeRoot, Set, load_spec_option, open_lake
from tidemill.cli.printing import print_json, print_table, write
from tidemill.lake import Lake
from tidemill.workflow.maintenance import KEPT_RUNS
from tidemill.workflow.maintenance import maintain as maintain_lake
from tidemill.workflow.retention import DEFAULT_RETENTION, OpsRetention


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(maintain)


def maintain(
    spec: Annotated[Path | None, typer.Argument(metavar="[SPEC]", help="Maintain the lake of this spec.", show_default=False)] = None,
    keep_runs: Annotated[int, typer.Option("--keep-runs", min=0, help="Keep table versions of the last N runs.")] = KEPT_RUNS,
    ops_days: Annotated[int, typer.Option("--ops-days", min=0, help="Keep ops rows of runs for N days.")] = DEFAULT_RETENTION.days,
    ops_runs: Annotated[int, typer.Option("--ops-runs", min=1, help="Keep ops rows of the last N runs.")] = DEFAULT_RETENTION.runs,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")] = False,
    lake: LakeRoot = None,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Compact small files; remove files that no version in use needs, ops rows of old runs, and folders and locks of dead processes.

    In use are the versions that live models, the champion before and the last runs read or wrote, and what these were made of. Starts no
    Spark.
    """
    where = Lake(load_spec_option(spec, env, set_).pipeline.lake) if spec and lake is None else open_lake(lake)
    result = maintain_lake(where, keep_runs=keep_runs, retention=OpsRetention(ops_days, ops_runs), dry_run=dry_run)
    if json_:
        print_json(result.to_json())
        return 0
    rows = [{**vars(table), "note": table.note or ""} for table in result.tables]
    if rows:
        print_table(rows, ["table", "files_compacted", "files_removed", "bytes_removed", "rows_removed", "note"])
    removed = len(result.scratch) + len(result.locks)
    write(f"{'would maintain' if dry_run else 'maintained'} {len(rows)} tables; {removed} folders and locks of dead processes\n")
    return 0
