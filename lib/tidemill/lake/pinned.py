"""A lake that reads tables of another one at pinned versions, and what has become of the files of such a version."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from deltalake.transaction import AddAction, create_table_with_add_actions

from tidemill.errors import LakeError, TableNotFound
from tidemill.lake.delta_tables import list_data_files, translate_errors
from tidemill.lake.tables import Lake, Meta
from tidemill.quoting import is_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

_CHECKSUM_HEADER = b"crc\0"


class PinnedLake(Lake):
    """A lake of its own, some of whose tables are those of other lakes: they are read there, and never written.

    Their versions are those of the other lake; a reader names the one it means, as every step does.
    """

    def __init__(self, root: str, holders: Mapping[str, Lake]) -> None:
        """Open the lake at ``root``; ``holders`` are the lakes that hold the tables, by name."""
        self._holders = dict(holders)
        super().__init__(root)

    def path(self, table: str) -> str:
        """Return the path of ``layer.name``, in the lake that holds it."""
        holder = self._holders.get(table)
        return super().path(table) if holder is None else holder.path(table)

    def _commit_and_find(self, table: str, meta: Meta, write: Callable[[str], None]) -> int:
        if table in self._holders:
            raise LakeError(f"{table} is pinned to {self._holders[table].root} here and is not written")
        return super()._commit_and_find(table, meta, write)


@dataclass(frozen=True)
class FileChange:
    """A data file that is not the one that its commit wrote: its path below the table, and how it differs."""

    path: str
    why: str


def find_changed_files(lake: Lake, table: str, version: int) -> list[FileChange]:
    """Return the data files of a table's version that someone has written again since; starts no JVM.

    A file has changed where its size is not the one of the log. On this machine, a file that is later than the log says is compared with
    the checksums that Spark keeps beside it; without checksums it counts as changed, unless all files are later, as in a copied lake.

    Raises:
        TableNotFound: the version, or one of its files, is gone, such as by a vacuum.
    """
    files = _list_files(lake, table, version)
    sizes = lake.file_sizes(table.replace(".", "/", 1))
    missing = [path for path, _, _ in files if path not in sizes]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise TableNotFound(f"{table} version {version} of {lake.root} is gone: {missing[0]}{more} was removed, as a vacuum does")
    changed = [
        FileChange(path, f"it has {sizes[path]:,} bytes, its commit wrote {size:,}") for path, size, _ in files if size != sizes[path]
    ]
    if not is_local(lake.root):
        return changed
    home = Path(lake.root) / table.replace(".", "/", 1)
    later = [home / path for path, size, written in files if size == sizes[path] and _is_later(home / path, written)]
    is_copy = len(later) == len(files)
    for file in later:
        intact = _matches_checksums(file)
        if intact is False or (intact is None and not is_copy):
            why = "its content does not match its checksums" if intact is False else "it was written again after its commit"
            changed.append(FileChange(str(file.relative_to(home)), why))
    return changed


def clone_with_links(lake: Lake, table: str, version: int, target: Lake) -> int:
    """Make a table of ``target`` from the data files of a version as they are now, by links to them; return its version.

    It can be read where the version itself cannot, as sizes and checksums are no longer those of its files.

    Raises:
        LakeError: a file is no longer a Parquet file.
    """
    import pyarrow.parquet as pq

    opened = lake.open(table, version)
    origin, home = (Path(each.root) / table.replace(".", "/", 1) for each in (lake, target))
    actions = []
    columns = list(opened.metadata().partition_columns)
    listed = list_data_files(opened).select(["path", *[f"partition.{name}" for name in columns]])
    for action in listed.to_pylist():
        path = unquote(action["path"])
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).symlink_to(origin / path)
        try:
            rows = pq.read_metadata(origin / path).num_rows
        except (OSError, ValueError) as error:
            raise LakeError(f"{table} version {version} of {lake.root}: {path} is no Parquet file any more ({error})") from error
        parts = {name: None if action[f"partition.{name}"] is None else str(action[f"partition.{name}"]) for name in columns}
        stats = f'{{"numRecords": {rows}}}'
        size, modified_at = (origin / path).stat().st_size, int((origin / path).stat().st_mtime * 1000)
        actions.append(AddAction(action["path"], size, parts, modified_at, True, stats))
    with translate_errors(table, target.path(table)):
        create_table_with_add_actions(target.path(table), opened.schema(), actions, mode="error", partition_by=columns)
    logger.info("%s version %d is read by links to its %d files", table, version, len(actions))
    return 0


def _list_files(lake: Lake, table: str, version: int) -> list[tuple[str, int, int]]:
    """Return path, size and time (ms) of the data files of a version below the table's folder."""
    latest = lake.version(table)
    if latest is None or version > latest:
        state = "the table does not exist" if latest is None else f"its latest version is {latest}: it was made anew"
        raise TableNotFound(f"{table} version {version} of {lake.root} is gone: {state}")
    try:
        rows = list_data_files(lake.open(table, version)).select(["path", "size_bytes", "modification_time"]).to_pydict()
    except LakeError as error:
        raise TableNotFound(f"{table} version {version} of {lake.root} is gone: {error}") from error
    paths = [unquote(path) for path in rows["path"]]
    return [
        (path, size, int(written.timestamp() * 1000) if hasattr(written, "timestamp") else int(written))
        for path, size, written in zip(paths, rows["size_bytes"], rows["modification_time"], strict=True)
        if "://" not in path and not path.startswith(("/", "file:"))
    ]


def _is_later(file: Path, written_ms: int) -> bool:
    return file.stat().st_mtime * 1000 > written_ms + 2000


def _matches_checksums(file: Path) -> bool | None:
    """Return whether a file has the checksums in ``.<name>.crc`` beside it, None where there are none."""
    beside = file.with_name(f".{file.name}.crc")
    if not beside.is_file():
        return None
    kept = beside.read_bytes()
    if not kept.startswith(_CHECKSUM_HEADER):
        return None
    (block,) = struct.unpack(">i", kept[4:8])
    sums = struct.unpack(f">{(len(kept) - 8) // 4}I", kept[8:])
    count = 0
    for place, content in enumerate(_blocks(file, block)):
        count += 1
        if place >= len(sums) or zlib.crc32(content) != sums[place]:
            return False
    return count == len(sums)


def _blocks(file: Path, size: int) -> Iterator[bytes]:
    with file.open("rb") as handle:
        while content := handle.read(size):
            yield content
