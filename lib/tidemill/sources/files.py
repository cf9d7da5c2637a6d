"""The files of a source: listed before anything is read, so that none can go missing unseen."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.errors import SourceError
from tidemill.patterns import braces_expanded, escaped, is_pattern, python_glob

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")
_FILE_SCHEME = re.compile(r"^file:/*")


@dataclass(frozen=True)
class SourceFile:
    """One file: an absolute path (a URI for other file systems), its size in bytes, and when it last changed (UTC)."""

    path: str
    size: int
    modified_at: datetime

    @property
    def is_local(self) -> bool:
        """True where Python can open the file itself."""
        return not _SCHEME.match(self.path)

    @property
    def uri(self) -> str:
        """What Spark is given: glob characters escaped, local files with their scheme, as the default file system may be another."""
        return ("file://" if self.is_local else "") + escaped(self.path)


def list_files(paths: Sequence[str], spark: SparkSession | None = None) -> tuple[SourceFile, ...]:
    """Return the files of paths, globs and folders (with all folders below them), each file once, sorted by path.

    A path that exists as it is written is taken literally, whatever characters it has. Names that start with ``_`` or ``.`` are
    skipped, as Spark does, unless they are the path itself. This machine's file system is read without Spark.

    Raises:
        SourceError: one of them names no file, or needs Spark and there is no session.
    """
    found = {file.path: file for path in paths for file in _listed(path, spark)}
    return tuple(sorted(found.values(), key=lambda file: file.path))


def _listed(path: str, spark: SparkSession | None) -> list[SourceFile]:
    local = _local_path(path)
    found = _list_with_spark(path, spark) if local is None else _list_local(local)
    if not found:
        where = "" if local is None or Path(local).is_absolute() else f" (looked up from {Path.cwd()})"
        raise SourceError(f"no file at {path!r}{where}; check the path, and that its glob matches at least one file")
    return found


def _local_path(path: str) -> str | None:
    """Return the path on this machine, None for another file system."""
    if path.lower().startswith("file:"):
        return _FILE_SCHEME.sub("/", path, count=1)
    return None if _SCHEME.match(path) else path


def _list_local(path: str) -> list[SourceFile]:
    if Path(path).exists() or not is_pattern(path):
        matches = [path] if Path(path).exists() else []
    else:
        matches = [match for pattern in braces_expanded(path) for match in glob.glob(python_glob(pattern), recursive=True)]  # noqa: PTH207 - Path.glob takes no absolute pattern
        matches = [match for match in matches if not _is_hidden(Path(match).name)]
    return [file for match in matches for file in _files_below(Path(match))]


def _files_below(path: Path) -> list[SourceFile]:
    if path.is_file():
        return [file for file in [_file(path)] if file is not None]
    found: list[SourceFile | None] = []
    seen = set()
    for folder, folders, names in os.walk(path, followlinks=True, onerror=_raise):
        seen.add(Path(folder).resolve())
        # A link that leads back up would be followed for ever.
        folders[:] = [name for name in folders if not _is_hidden(name) and (Path(folder) / name).resolve() not in seen]
        found += [_file(Path(folder) / name) for name in names if not _is_hidden(name)]
    return [file for file in found if file is not None]


def _raise(error: OSError) -> None:
    raise SourceError(f"{error.filename} cannot be listed: {error.strerror}; its files would be missed")


def _is_hidden(name: str) -> bool:
    return name.startswith(("_", "."))


def _file(path: Path) -> SourceFile | None:
    """Return the file, None where it is gone by now."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return SourceFile(str(path.absolute()), status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _list_with_spark(path: str, spark: SparkSession | None) -> list[SourceFile]:
    if spark is None:
        raise SourceError(f"{path!r} is not on this machine's file system, so listing it needs a Spark session")
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as F

    try:
        files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(path)
        rows = files.select("path", "length", F.unix_micros("modificationTime").alias("modified")).collect()
    except AnalysisException:
        return []
    return [SourceFile(row["path"], row["length"], datetime.fromtimestamp(row["modified"] / 1e6, UTC)) for row in rows]
