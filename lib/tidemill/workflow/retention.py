"""Which runs of a lake are in use, and the removal of the ops rows of the others."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tidemill.lake import Lake, Ledger
from tidemill.lake.ledger import condition
from tidemill.lake.ops import OPS_TABLES, DeploymentRow, OpsRow, RunRow, StepRow
from tidemill.model_registry.deployments import Deployments
from tidemill.workflow.states import DONE, SUCCEEDED

logger = logging.getLogger(__name__)

LIVE = ("CHAMPION", "CHALLENGER", "CANDIDATE")
"""States of a model version in which it is in use."""

Version = tuple[str, int]
RunKey = tuple[str | None, str | None]


@dataclass(frozen=True)
class OpsRetention:
    """Which runs of each pipeline keep their ops rows, besides those in use: those of the last ``days`` and the last ``runs``."""

    days: int = 400
    runs: int = 1000


DEFAULT_RETENTION = OpsRetention()


def prune_runs(lake: Lake, retention: OpsRetention, *, dry_run: bool) -> dict[str, int]:
    """Remove the ops rows of runs that are neither recent nor in use; return how many of each table there were.

    Rows about model versions in use stay, and all rows of tables whose class says ``retention="forever"``. The rows of ops.steps and
    ops.runs go last: where the process dies, the next maintenance removes the rest.
    """
    ledger = lake.ledger
    expired = find_expired_runs(lake, retention)
    classes = [row for row in OPS_TABLES.values() if row.RETENTION != "forever" and "run_id" in row.arrow_schema().names and expired]
    logger.info("%d runs are expired", sum(map(len, expired.values())))
    removed = {}
    for row in sorted(classes, key=lambda each: (each is RunRow, each is StepRow)):
        if lake.exists(row.TABLE):
            conditions = _conditions(ledger, row, expired)
            removed[row.TABLE] = ledger.count(row, conditions) if dry_run else ledger.remove(row, conditions)
    return removed


def _conditions(ledger: Ledger, row: type[OpsRow], expired: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the conditions for the rows of expired runs, one for each pipeline."""
    conditions = []
    for pipeline, run_ids in expired.items():
        rows = condition({"pipeline": pipeline, "run_id": run_ids})
        versions = find_versions_in_use(ledger, pipeline) if row.RETENTION == "model" else set()
        in_use = f" AND model_version NOT IN ({', '.join(map(str, sorted(versions)))})" if versions else ""
        conditions.append(rows + in_use)
    return conditions


def find_expired_runs(lake: Lake, retention: OpsRetention) -> dict[str, tuple[str, ...]]:
    """Return the runs of each pipeline that are neither recent nor in use.

    In use are the runs that made the latest good state of a node, the latest or the greatest version of a table, a model version in use
    or what that was made of, and those that changed the state of such a version.
    """
    steps, runs = lake.ledger.read(StepRow), lake.ledger.read_latest(RunRow, ("pipeline", "run_id"))
    cutoff = datetime.now(UTC) - timedelta(days=retention.days)
    last_change: dict[RunKey, datetime] = {}
    for row in [*runs, *steps]:
        key = row.pipeline, row.run_id
        last_change[key] = max(last_change.get(key, cutoff), row.recorded_at or datetime.now(UTC))
    live = {
        (f"models.{pipeline}", version) for pipeline in list_pipelines(steps) for version in find_versions_in_use(lake.ledger, pipeline)
    }
    in_use = find_recent_runs(steps, retention.runs) | {(row.pipeline, row.run_id) for row in select_latest_good_rows(steps)}
    in_use |= _runs_of_versions(steps, live | _latest_and_greatest_versions(steps))
    in_use |= {
        (row.pipeline, row.run_id) for row in lake.ledger.read(DeploymentRow) if (f"models.{row.pipeline}", row.model_version) in live
    }
    expired: defaultdict[str, list[str]] = defaultdict(list)
    for (pipeline, run_id), changed_at in last_change.items():
        if pipeline and run_id and changed_at <= cutoff and (pipeline, run_id) not in in_use:
            expired[pipeline].append(run_id)
    return {pipeline: tuple(run_ids) for pipeline, run_ids in expired.items()}


def _latest_and_greatest_versions(steps: Iterable[StepRow]) -> set[Version]:
    latest: dict[str, int] = {}
    greatest: dict[str, int] = {}
    for row in steps:
        for table, version in (row.outputs or {}).items():
            greatest[table] = max(version, greatest.get(table, -1))
            if row.state in DONE:
                latest[table] = version
    return {*latest.items(), *greatest.items()}


def _runs_of_versions(steps: Iterable[StepRow], versions: Iterable[Version]) -> set[RunKey]:
    """Return the runs that wrote these versions, and those that wrote what they were made of."""
    writers: dict[Version, StepRow] = {}
    for row in steps:
        for version in (row.outputs or {}).items():
            if row.state == SUCCEEDED or version not in writers:
                writers[version] = row
    reached: set[Version] = set()
    waiting = list(versions)
    while waiting:
        version = waiting.pop()
        if version in writers and version not in reached:
            reached.add(version)
            waiting += (writers[version].inputs or {}).items()
    return {(writers[version].pipeline, writers[version].run_id) for version in reached}


def find_live_versions(ledger: Ledger, pipeline: str) -> set[int]:
    """Return the model versions of a pipeline whose state is one of ``LIVE``."""
    return {version for version, state in Deployments(ledger, pipeline).states().items() if state in LIVE}


def find_versions_in_use(ledger: Ledger, pipeline: str) -> set[int]:
    """Return the live model versions of a pipeline and the one that was champion before, to which a rollback returns."""
    deployments, versions = Deployments(ledger, pipeline), find_live_versions(ledger, pipeline)
    champion = deployments.champion()
    before = None if champion is None else deployments.champion_before(champion)
    return versions if before is None else versions | {before}


def select_latest_good_rows(steps: Iterable[StepRow]) -> list[StepRow]:
    """Return the latest good row of each pipeline and node; ``steps`` come oldest first."""
    return list({(row.pipeline, row.node): row for row in steps if row.state in DONE}.values())


def list_pipelines(steps: Iterable[StepRow]) -> list[str]:
    """Return the pipelines that have steps."""
    return sorted({row.pipeline for row in steps if row.pipeline})


def find_recent_runs(steps: Iterable[StepRow], count: int) -> set[RunKey]:
    """Return the last ``count`` runs of each pipeline, by the order of their last rows."""
    runs: defaultdict[str | None, dict[str | None, None]] = defaultdict(dict)
    for row in steps:
        runs[row.pipeline].pop(row.run_id, None)
        runs[row.pipeline][row.run_id] = None
    return {(pipeline, run_id) for pipeline, ids in runs.items() for run_id in list(ids)[max(0, len(ids) - count) :]}
