"""Maintenance of a lake's tables: small files are put together, and files that no version in use lists are removed.

Each table is maintained under its lock, in steps that are exact wherever the process dies: the log's retention is set, then one commit puts
small files together, then files that no protected version lists are deleted. Deleting is never needed for a reader to be right.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from deltalake import CommitProperties, DeltaTable

from tidemill.errors import LakeError
from tidemill.lake.delta_tables import list_data_files, translate_errors
from tidemill.lake.staging import LOG_RETENTION, is_plain_table, is_unfinished, remove_dead_stages
from tidemill.quoting import is_local
from tidemill.runtime.locks import hold_lock

if TYPE_CHECKING:
    from tidemill.lake.tables import Lake

logger = logging.getLogger(__name__)

_MOST_SMALL_FILES = 8
_SMALL_BYTES = 32 << 20


@dataclass(frozen=True)
class TableMaintenance:
    """What was done for one table, or would be done: files put together, files and rows removed, and why the rest was not done."""

    table: str
    files_compacted: int = 0
    files_removed: int = 0
    bytes_removed: int = 0
    rows_removed: int = 0
    note: str | None = None

    @property
    def is_idle(self) -> bool:
        """True where there was nothing to do."""
        return not (self.files_compacted or self.files_removed or self.rows_removed or self.note)


def maintain_table(lake: Lake, table: str, protected: Collection[int], *, dry_run: bool = False) -> TableMaintenance:
    """Maintain one table of bronze, silver or gold; its versions in ``protected`` and the latest two stay readable.

    The version that is the latest before small files are put together is protected too, for those who read it just now.
    """
    try:
        if dry_run:
            return _plan(lake, table, {*protected, _latest(lake, table)})
        with hold_lock(lake.root, table), translate_errors(table, lake.path(table)):
            remove_dead_stages(lake.path(table))
            latest, opened = _latest(lake, table), lake.open(table)
            compacted = 0
            if is_plain_table(opened):
                _keep_log(opened)
                compacted = _compact(lake, table)
            removed = _remove_files(lake, table, _unprotected_files(lake, table, {*protected, latest}))
            return TableMaintenance(table, compacted, len(removed), sum(removed.values()))
    except LakeError as error:
        logger.info("%s is not maintained: %s", table, error)
        return TableMaintenance(table, note=str(error))


def maintain_ops_table(lake: Lake, table: str, rows_removed: int = 0, *, dry_run: bool = False) -> TableMaintenance:
    """Put the files of an ops table together and remove those of earlier versions, which nothing is pinned to.

    ``rows_removed`` are the rows that were removed from it before.
    """
    try:
        latest = _latest(lake, table)
        if dry_run:
            return replace(_plan(lake, table, {latest}), rows_removed=rows_removed)
        compacted = lake.ledger.compact(table)
        with hold_lock(lake.root, table), translate_errors(table, lake.path(table)):
            removed = _remove_files(lake, table, _unprotected_files(lake, table, {latest}))
        return TableMaintenance(table, compacted, len(removed), sum(removed.values()), rows_removed)
    except LakeError as error:
        logger.info("%s is not maintained: %s", table, error)
        return TableMaintenance(table, note=str(error))


def _plan(lake: Lake, table: str, versions: Collection[int]) -> TableMaintenance:
    opened = lake.open(table)
    compacted = len(_small_files(opened)) if table.startswith("ops.") or is_plain_table(opened) else 0
    unlisted = _unprotected_files(lake, table, versions)
    return TableMaintenance(table, compacted, len(unlisted), sum(unlisted.values()))


def _latest(lake: Lake, table: str) -> int:
    return int(lake.open(table).version())


def _keep_log(table: DeltaTable) -> None:
    """Set the log retention of the table so that its whole log stays."""
    if not set(LOG_RETENTION.items()) <= set(table.metadata().configuration.items()):
        table.alter.set_table_properties(LOG_RETENTION)


def _small_files(table: DeltaTable) -> list[str]:
    """Return the small files of the table's version where there are more than a few, else none."""
    actions = list_data_files(table).select(["path", "size_bytes"]).to_pylist()
    small = [action["path"] for action in actions if action["size_bytes"] < _SMALL_BYTES]
    return small if len(small) > _MOST_SMALL_FILES else []


def _compact(lake: Lake, table: str) -> int:
    """Put small files together in one commit that changes no row; return how many there were.

    Two at once would add the same rows twice: the caller holds the table's lock, and the table is opened inside of it.

    Raises:
        LakeError: the commit would hold other rows than before.
    """
    opened = lake.open(table)
    small = _small_files(opened)
    if not small:
        return 0
    version = int(opened.version())
    opened.optimize.compact(commit_properties=CommitProperties(max_commit_retries=0))
    before, after = lake.rows(table, version), lake.rows(table, _latest(lake, table))
    if before is not None and before != after:
        raise LakeError(f"{table} holds {after} rows after its files were put together, and {before} before; report this")
    logger.info("%s: %d small files are put together in version %d", table, len(small), _latest(lake, table))
    return len(small)


def _unprotected_files(lake: Lake, table: str, versions: Collection[int]) -> dict[str, int]:
    """Return the data files below the table that neither one of ``versions`` nor the latest one lists, as relative path → size.

    Files of stages that a living process fills are not among them.

    Raises:
        LakeError: a protected version cannot be read, so that it is not known which files it needs.
    """
    latest = _latest(lake, table)
    listed: set[str] = set()
    for version in sorted({*versions, latest}):
        if version <= latest:
            paths = list_data_files(lake.open(table, version))["path"].to_pylist()
            listed.update(paths)
            listed.update(unquote(path) for path in paths)
    relative = table.replace(".", "/", 1)
    return {
        path: size
        for path, size in lake.file_sizes(relative).items()
        if path.endswith(".parquet") and not path.startswith("_") and path not in listed and not is_unfinished(lake.path(table), path)
    }


def _remove_files(lake: Lake, table: str, files: dict[str, int]) -> dict[str, int]:
    """Delete data files, Spark's checksums of them and folders that become empty; return the files."""
    relative = table.replace(".", "/", 1)
    for path in files:
        folder, _, name = path.rpartition("/")
        lake.delete_file(f"{relative}/{path}")
        lake.delete_file(f"{relative}/{folder + '/' if folder else ''}.{name}.crc")
    if is_local(lake.root):
        home = Path(lake.root) / relative
        for parent in sorted({parent for path in files for parent in (home / path).parents if home in parent.parents}, reverse=True):
            if not any(parent.iterdir()):
                parent.rmdir()
    if files:
        logger.info("%s: %d files that no version in use lists are removed, %d bytes", table, len(files), sum(files.values()))
    return files
