"""Maintenance of a whole lake: which versions of its tables are in use, and what can go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from tidemill.errors import UsageError
from tidemill.lake import Lake
from tidemill.lake.catalog import list_tables
from tidemill.lake.maintenance import TableMaintenance, maintain_ops_table, maintain_table
from tidemill.lake.ops import OPS_TABLES, StepRow
from tidemill.runtime.locks import SCRATCH, find_holder, hold_lock, remove_dead_folders, remove_dead_locks
from tidemill.workflow.retention import (
    DEFAULT_RETENTION,
    OpsRetention,
    find_recent_runs,
    find_versions_in_use,
    list_pipelines,
    prune_runs,
    select_latest_good_rows,
)
from tidemill.workflow.states import DONE

KEPT_RUNS = 10


@dataclass(frozen=True)
class Maintenance:
    """What was maintained, or would be: tables with something to do, and what dead processes left."""

    tables: tuple[TableMaintenance, ...]
    scratch: tuple[str, ...]
    locks: tuple[str, ...]
    dry_run: bool

    def to_json(self) -> dict[str, object]:
        """Return what ``maintain --json`` prints."""
        return asdict(self)


def maintain(lake: Lake, *, keep_runs: int = KEPT_RUNS, retention: OpsRetention = DEFAULT_RETENTION, dry_run: bool = False) -> Maintenance:
    """Maintain the ops tables and every table that the ledger knows; with ``dry_run`` only report what would be done.

    Ops rows of runs that are neither in use nor covered by ``retention`` are removed. Versions that ``find_protected_versions`` returns
    stay readable. Tables that no step of a run has written are not touched.

    Raises:
        UsageError: a run is going on in this lake.
    """
    lake.ledger.refuse_earlier_layout()
    present = set(list_tables(lake))
    with ExitStack() as held:
        if not dry_run:
            _hold_runs(held, lake)
        protected = find_protected_versions(lake, keep_runs)
        known = sorted(present & {name for row in lake.ledger.read(StepRow) for name in row.outputs or {}})
        removed = prune_runs(lake, retention, dry_run=dry_run)
        tables = [maintain_ops_table(lake, table, removed.get(table, 0), dry_run=dry_run) for table in OPS_TABLES if table in present]
        tables += [maintain_table(lake, table, protected[table], dry_run=dry_run) for table in known]
        scratch = remove_dead_folders(f"{lake.root}/{SCRATCH}", dry_run=dry_run)
    locks = remove_dead_locks(lake.root, dry_run=dry_run)
    return Maintenance(tuple(table for table in tables if not table.is_idle), tuple(scratch), tuple(locks), dry_run)


def find_protected_versions(lake: Lake, keep_runs: int) -> defaultdict[str, set[int]]:
    """Return the versions of each table that are in use.

    They are the inputs and outputs of the steps of the last ``keep_runs`` runs of each pipeline, of the latest good run of each node, and
    of all steps that made or used a model version in use: live, or champion before, to which a rollback returns; and, of all these
    inputs, the tables that they were made of.
    """
    rows = lake.ledger.read(StepRow)
    in_use = {
        (f"models.{pipeline}", version) for pipeline in list_pipelines(rows) for version in find_versions_in_use(lake.ledger, pipeline)
    }
    recent, latest_good = find_recent_runs(rows, keep_runs), {row.seq for row in select_latest_good_rows(rows)}
    used = [
        row
        for row in rows
        if (row.pipeline, row.run_id) in recent or row.seq in latest_good or any(version in in_use for version in _versions(row))
    ]
    return _with_origins(used, rows)


def _with_origins(used: Iterable[StepRow], rows: Iterable[StepRow]) -> defaultdict[str, set[int]]:
    """Return the versions that the rows read or wrote, and those that these were made of."""
    writers = {version: row for row in rows if row.state in DONE for version in (row.outputs or {}).items()}
    protected: defaultdict[str, set[int]] = defaultdict(set)
    waiting = [version for row in used for version in _versions(row)]
    while waiting:
        table, version = waiting.pop()
        if version in protected[table]:
            continue
        protected[table].add(version)
        writer = writers.get((table, version))
        waiting += list((writer.inputs or {}).items()) if writer else []
    return protected


def _versions(row: StepRow) -> Iterator[tuple[str, int]]:
    yield from (row.inputs or {}).items()
    yield from (row.outputs or {}).items()


def _hold_runs(held: ExitStack, lake: Lake) -> None:
    """Let no run of a pipeline begin until ``held`` is closed.

    Raises:
        UsageError: one is going on.
    """
    for pipeline in list_pipelines(lake.ledger.read(StepRow)):
        if not held.enter_context(hold_lock(lake.root, f"run.{pipeline}", wait=False)):
            holder = find_holder(lake.root, f"run.{pipeline}")
            raise UsageError(f"a run of {pipeline} is going on in {lake.root}{f', by {holder}' if holder else ''}; wait for it to end")
