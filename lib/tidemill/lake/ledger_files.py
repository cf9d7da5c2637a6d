"""The files of the ops tables: small ones are put together, and files that no reader needs any more are removed."""

from __future__ import annotations

import logging
import re
import time

from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError

from tidemill.lake.delta_tables import list_data_files, query
from tidemill.lake.files import delete_file, list_files
from tidemill.lake.lake_paths import engine_root
from tidemill.lake.ops_row import SEQUENCE

logger = logging.getLogger(__name__)

# Under this app id Delta's log keeps the last ``seq`` of an ops table, in the same commit as the rows that have it.
_SEQUENCE_APP = "tidemill/seq"

# Each append leaves a small file and an entry in the log, and every reader reads all of them.
_MOST_SMALL_FILES = 16
_FULL_FILE_BYTES = 2 << 20

RETENTION_S = 3600.0
"""Seconds for which the files of an ops table stay after a commit has replaced them; nothing is pinned to its earlier versions."""

CONFIGURATION = {"delta.deletedFileRetentionDuration": f"interval {RETENTION_S:.0f} seconds"}
"""Properties of a new ops table: checkpoints drop the names of files that were replaced before that time."""

_DATA_FILE = re.compile(r"[^/_][^/]*\.parquet")
_LOG_FILE = re.compile(r"_delta_log/(\d{20})\.(json|checkpoint\.parquet)")


def last_sequence(table: DeltaTable | None) -> int:
    """Return the last ``seq`` that was assigned, also where its row is gone."""
    if table is None:
        return 0
    last = table.transaction_version(_SEQUENCE_APP)
    if last is None:  # another tool rewrote the log
        last = query(table, f"SELECT max({SEQUENCE}) AS last FROM rows")["last"][0].as_py()
    return int(last or 0)


def commit_properties(last: int) -> CommitProperties:
    """Return what makes a commit fail where the table's version has moved; ``last`` is the last ``seq`` that it assigns."""
    return CommitProperties(max_commit_retries=0, app_transactions=[Transaction(_SEQUENCE_APP, last)])


def compact_files(table: DeltaTable, most: int | None = None) -> int:
    """Put small files together and write a checkpoint, where there are more than ``most``; return how many there were.

    The old files stay for current readers.

    Delta-rs' own `optimize` is not used: of two at once, the second adds the same rows again. This is a commit like any other, which fails
    when the table's version has moved.
    """
    files = list_data_files(table).select(["size_bytes", f"max.{SEQUENCE}"]).to_pylist()
    small = sum(file["size_bytes"] < _FULL_FILE_BYTES for file in files)
    if small <= (_MOST_SMALL_FILES if most is None else most):
        return 0
    last_full = max((file[f"max.{SEQUENCE}"] for file in files if file["size_bytes"] >= _FULL_FILE_BYTES), default=0)
    recent = f"{SEQUENCE} > {last_full}"
    rows = query(table, f"SELECT * FROM rows WHERE {recent} ORDER BY {SEQUENCE}")
    try:
        write_deltalake(table, rows, mode="overwrite", predicate=recent, commit_properties=commit_properties(last_sequence(table)))
        table.create_checkpoint()
    except DeltaError as error:  # another writer was faster; the rows are there, and the next append tries again
        logger.info("%s was not compacted: %s", table.table_uri, error)
        return 0
    logger.info("%s: version %d is committed: %d small files put together", table.table_uri, table.version(), small)
    return small


def remove_expired_files(root: str, table: str, opened: DeltaTable) -> int:
    """Remove the files of an ops table that only versions older than ``RETENTION_S`` need; return how many there were.

    These are data files that neither the latest version lists nor the one that was the latest then, and entries and checkpoints of the log
    before the last checkpoint of that time: at least two checkpoints stay, each with the entries after it. If the process dies halfway, the
    versions since then remain readable.
    """
    try:
        removed = _remove_expired(root, table, opened)
    except (DeltaError, OSError) as error:  # readers do not depend on it, and the next compaction tries again
        logger.warning("%s: replaced files are not removed: %s", table, error)
        return 0
    logger.info("%s: %d replaced files are removed", table, removed)
    return removed


def _remove_expired(root: str, table: str, opened: DeltaTable) -> int:
    relative, cutoff = table.replace(".", "/", 1), time.time() - RETENTION_S
    expired = [path for path, state in list_files(root, relative).items() if state.modified_at < cutoff]
    log = [(path, int(matched[1]), matched[2]) for path in expired if (matched := _LOG_FILE.fullmatch(path))]
    oldest = max((version for _, version, kind in log if kind == "json"), default=-1)
    checkpoint = max((version for _, version, kind in log if kind != "json" and version <= oldest), default=-1)
    if checkpoint < 0:
        return 0
    earlier = DeltaTable(f"{engine_root(root)}/{relative}", version=oldest)
    listed = {path for each in (opened, earlier) for path in list_data_files(each)["path"].to_pylist()}
    removable = [path for path in expired if _DATA_FILE.fullmatch(path) and path not in listed]
    removable += [path for path, version, _ in log if version < checkpoint]
    for path in removable:
        delete_file(root, f"{relative}/{path}")
    return len(removable)
