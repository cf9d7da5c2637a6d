"""List the files of a source before anything is read, so that no file goes missing unnoticed."""

from __future__ import annotations

import atexit
import glob
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.errors import SourceError
from tidemill.runtime.session import opens_all_names
from tidemill.sources.options import has_secret_path, mask_path, reveal_path
from tidemill.spec.loading.paths import escape_glob, expand_braces, is_pattern, python_glob
from tidemill.spec.models import Source

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


_PLAIN_SUFFIX = re.compile(r"\.[A-Za-z0-9]+")
_BEING_COPIED = "._COPYING_"


def is_hidden(name: str) -> bool:
    """Return True for a name that Spark and Hadoop skip: one that begins with ``_`` or ``.``, or is being copied."""
    return name.startswith(("_", ".")) or name.endswith(_BEING_COPIED)


def to_utf8_text(place: str) -> str:
    r"""Return one of Python's paths as valid UTF-8 in any locale, with ``\xe9`` for bytes that are invalid."""
    return os.fsencode(place).decode("utf-8", "backslashreplace")


def to_local_path(path: str) -> str:
    """Return a path as Python opens it in this locale."""
    return os.fsdecode(path.encode("utf-8", "surrogateescape"))


def is_unreadable_by_spark(place: str, *, is_ascii_only: bool) -> bool:
    """Return True where Spark cannot open the file by its own path; with ``is_ascii_only`` its Java opens ASCII names only."""
    name = Path(place).name
    # Hadoop takes the text before a colon for the scheme of a URI.
    return is_hidden(name) or ":" in name or to_utf8_text(place) != place or (is_ascii_only and not place.isascii())


def create_link(place: str) -> str:
    """Create a link to the file for the life of this process, with the file's suffix, which says how it is compressed."""
    digest = hashlib.sha256(os.fsencode(place)).hexdigest()[:24]
    suffix = Path(place).suffix
    link = Path(_link_folder()) / f"{digest}{suffix if _PLAIN_SUFFIX.fullmatch(suffix) else ''}"
    with suppress(FileExistsError):  # an earlier link to the same file
        link.symlink_to(place)
    return str(link)


@cache
def _link_folder() -> str:
    folder = tempfile.mkdtemp(prefix="tidemill-links-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")
_FILE_SCHEME = re.compile(r"^file:/*")
_DELTA_LOG = "_delta_log"
_MAX_SHOWN = 3
_MAX_FILES = 500
PACKED = (".gz", ".bz2", ".zst", ".deflate")
"""The suffixes of compressed files that Spark reads."""


@dataclass(frozen=True)
class SourceFile:
    """A file: its absolute path (a URI for other file systems), size in bytes, and time of last change (UTC).

    ``link`` is another path to the file, if Spark cannot open it by its own. ``masked`` is the path with secrets masked, None without any.
    """

    path: str
    size: int
    modified_at: datetime
    link: str | None = field(default=None, compare=False)
    masked: str | None = None

    @property
    def name(self) -> str:
        """The name of the file in the lake: its path with secrets masked."""
        return self.path if self.masked is None else self.masked

    @property
    def is_local(self) -> bool:
        """True where Python can open the file itself."""
        return not _SCHEME.match(self.path)

    @property
    def readable(self) -> str:
        """The path to open the file by."""
        return self.link or self.path

    @property
    def uri(self) -> str:
        """The path for Spark: with glob characters escaped, and a scheme, because the default file system may be another."""
        return ("file://" if self.is_local else "") + escape_glob(self.readable)


@dataclass(frozen=True)
class Listing:
    """The files of a source, each once, sorted by path, and the ``hidden`` files and folders (``…/``) that were skipped."""

    files: tuple[SourceFile, ...]
    hidden: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """A remark on hidden files."""
        return (f"passed over, {_format_hidden(self.hidden)}",) if self.hidden else ()


def find_source_files(source: Source, spark: SparkSession | None = None) -> Listing:
    """Find the files of a source as ``find_files`` does; paths with secrets get masked names.

    Raises:
        SourceError: one of its paths names no file, or needs Spark and there is no session.
        UsageError: a secret is not known.
    """
    listing = find_files([reveal_path(path) for path in source.paths], spark)
    if not has_secret_path(source):
        return listing
    files = tuple(replace(file, masked=mask_path(file.path, source)) for file in listing.files)
    return Listing(files, tuple(mask_path(path, source) for path in listing.hidden))


def list_source_files(source: Source, spark: SparkSession | None = None) -> tuple[SourceFile, ...]:
    """Return the files of a source, as ``find_source_files`` does."""
    return find_source_files(source, spark).files


def list_few_local_files(source: Source) -> tuple[SourceFile, ...]:
    """List the non-empty files of a source; none if some are on another file system, or there are more than ``_MAX_FILES``."""
    if any("://" in path or "${secret:" in path for path in source.paths):
        return ()
    files = tuple(file for file in list_source_files(source) if file.size)
    return files if len(files) <= _MAX_FILES else ()


def merge_column_names(files: Sequence[SourceFile], names_of: Callable[[SourceFile], Sequence[str] | None]) -> dict[str, None] | None:
    """Return the column names of all files in order; None if those of one are unknown, or there are none."""
    names: dict[str, None] = {}
    for file in files:
        names_of_file = names_of(file)
        if names_of_file is None:
            return None
        names |= dict.fromkeys(names_of_file)
    return names or None


def list_files(paths: Sequence[str], spark: SparkSession | None = None) -> tuple[SourceFile, ...]:
    """List the files of paths, globs and folders (recursively), each file once, sorted by path.

    A path that exists is taken literally, whatever characters it has. Folders and globs skip names that begin with ``_`` or ``.``, as
    Spark does, unless the path or the last part of the glob begins so itself; ``find_files`` returns the skipped ones. Local files are
    listed without Spark.

    Raises:
        SourceError: one of them names no file, or needs Spark and there is no session.
    """
    return find_files(paths, spark).files


def find_files(paths: Sequence[str], spark: SparkSession | None = None) -> Listing:
    """Find the files as ``list_files`` does, and the hidden ones.

    Raises:
        SourceError: one of them names no file, or needs Spark and there is no session.
    """
    files: dict[str, SourceFile] = {}
    hidden: set[str] = set()
    for path in paths:
        local = _local_path(path)
        listed = Listing(tuple(_list_with_spark(path, spark))) if local is None else _list_local(local, spark)
        if not listed.files:
            where = "" if local is None or Path(local).is_absolute() else f" (looked up from {Path.cwd()})"
            others = f"; passed over, {_format_hidden(listed.hidden)}" if listed.hidden else ""
            raise SourceError(f"no file at {path!r}{where}; check the path, and that its glob matches at least one file{others}")
        files |= {file.path: file for file in listed.files}
        hidden |= set(listed.hidden)
    return Listing(tuple(sorted(files.values(), key=lambda file: file.path)), tuple(sorted(hidden - files.keys())))


def _format_hidden(hidden: Sequence[str]) -> str:
    names = ", ".join(sorted(hidden)[:_MAX_SHOWN]) + (f" and {len(hidden) - _MAX_SHOWN} more" if len(hidden) > _MAX_SHOWN else "")
    return f"as names that begin with _ or . are in folders and globs: {names}; to read one, write it out in `path`"


def _local_path(path: str) -> str | None:
    """Return the path on this machine, None on another file system."""
    if path.lower().startswith("file:"):
        return _FILE_SCHEME.sub("/", path, count=1)
    return None if _SCHEME.match(path) else path


def _list_local(path: str, spark: SparkSession | None) -> Listing:
    place = to_local_path(path)
    hidden: list[str] = []
    if Path(place).exists() or not is_pattern(path):
        matches = {place} if Path(place).exists() else set()
    else:
        matches, hidden = _match_pattern(place)
    walked = [_walk_files(Path(match)) for match in matches]
    below = [name for _, hidden_below in walked for name in hidden_below]
    names = [name for names_below, _ in walked for name in names_below]
    has_odd_names = not all(str(name).isascii() for name in names)
    is_ascii_only = has_odd_names and spark is not None and not opens_all_names(spark)
    files = [file for name in names if (file := _stat_file(name, is_ascii_only=is_ascii_only)) is not None]
    return Listing(tuple(files), tuple(to_utf8_text(name) for name in (*hidden, *below)))


def _match_pattern(pattern: str) -> tuple[set[str], list[str]]:
    """Return the matches of a pattern, and the hidden ones that it skips."""
    matches, every = set(), set()
    for each in expand_braces(pattern):
        matched = glob.glob(python_glob(each), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        asks_for_hidden = is_hidden(Path(each).name)
        matches |= {match for match in matched if asks_for_hidden or not is_hidden(Path(match).name)}
        every |= {*matched, *glob.glob(python_glob(each), recursive=True, include_hidden=True)}  # noqa: PTH207
    return matches, _drop_empty(Path(match) for match in every - matches)


def _walk_files(path: Path) -> tuple[list[Path], list[str]]:
    """Return the files below a folder (or the file itself), and the hidden files and folders there."""
    if path.is_file():
        return [path], []
    files, hidden, visited = [], [], set()
    for folder, folders, names in os.walk(path, followlinks=True, onerror=_raise):
        visited.add(Path(folder).resolve())
        hidden += [Path(folder) / name for name in (*folders, *names) if is_hidden(name)]
        # A link to a parent folder would be followed forever.
        folders[:] = [name for name in folders if not is_hidden(name) and (Path(folder) / name).resolve() not in visited]
        files += [Path(folder) / name for name in names if not is_hidden(name)]
    return files, _drop_empty(hidden)


def _drop_empty(places: Iterable[Path]) -> list[str]:
    """Return the places that may hold records: no empty files or folders, checksum files, or Delta logs."""
    filled = []
    for place in places:
        is_checksum = place.suffix == ".crc" and place.with_name(place.stem.removeprefix(".")).exists()
        if place.is_dir() and place.name != _DELTA_LOG and any(place.iterdir()):
            filled.append(f"{place}/")
        elif place.is_file() and not is_checksum and place.stat().st_size:
            filled.append(str(place))
    return filled


def _raise(error: OSError) -> None:
    raise SourceError(f"{error.filename} cannot be listed: {error.strerror}; its files would be missed")


def _stat_file(path: Path, *, is_ascii_only: bool) -> SourceFile | None:
    """Return the file, None if it is gone by now."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    place = str(path.absolute())
    link = create_link(place) if is_unreadable_by_spark(place, is_ascii_only=is_ascii_only) else None
    return SourceFile(to_utf8_text(place), status.st_size, datetime.fromtimestamp(status.st_mtime, UTC), link)


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
