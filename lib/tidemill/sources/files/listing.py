"""The files of a source: listed before anything is read, so that none can go missing unseen."""

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
from tidemill.spec.loading.paths import braces_expanded, escaped, is_pattern, python_glob
from tidemill.spec.models import Source

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


_PLAIN_SUFFIX = re.compile(r"\.[A-Za-z0-9]+")
_BEING_COPIED = "._COPYING_"


def is_hidden(name: str) -> bool:
    """Return True for a name that Spark's and Hadoop's readers pass over: one that begins with ``_`` or ``.``, or is being copied."""
    return name.startswith(("_", ".")) or name.endswith(_BEING_COPIED)


def text_of(place: str) -> str:
    r"""Return a path, as Python gives it, as text that any table can hold: UTF-8 whatever the locale, ``\xe9`` for bytes that are none."""
    return os.fsencode(place).decode("utf-8", "backslashreplace")


def place_of(path: str) -> str:
    """Return a path as Python opens it in this locale."""
    return os.fsdecode(path.encode("utf-8", "surrogateescape"))


def needs_link(place: str, *, is_ascii_only: bool) -> bool:
    """Return True where Spark would not find the file by its own path; ``is_ascii_only`` says that its Java spells ASCII names alone."""
    name = Path(place).name
    # Hadoop takes what stands before a colon in a name for the scheme of a URI.
    return is_hidden(name) or ":" in name or text_of(place) != place or (is_ascii_only and not place.isascii())


def link_to(place: str) -> str:
    """Return a link to the file that lasts as long as this process; its name ends as the file's does, as that tells how it is packed."""
    digest = hashlib.sha256(os.fsencode(place)).hexdigest()[:24]
    suffix = Path(place).suffix
    link = Path(_folder()) / f"{digest}{suffix if _PLAIN_SUFFIX.fullmatch(suffix) else ''}"
    with suppress(FileExistsError):  # made before, to the same file
        link.symlink_to(place)
    return str(link)


@cache
def _folder() -> str:
    folder = tempfile.mkdtemp(prefix="tidemill-links-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")
_FILE_SCHEME = re.compile(r"^file:/*")
_DELTA_LOG = "_delta_log"
_TOLD = 3
_MOST_FILES = 500
PACKED = (".gz", ".bz2", ".zst", ".deflate")
"""The suffixes of packed files that Spark unpacks."""


@dataclass(frozen=True)
class SourceFile:
    """One file: an absolute path (a URI for other file systems), its size in bytes, and when it last changed (UTC).

    ``link`` is another path to the same file, for one that Spark would not find by its own.
    ``masked`` is the path without the secrets in it, None where there are none.
    """

    path: str
    size: int
    modified_at: datetime
    link: str | None = field(default=None, compare=False)
    masked: str | None = None

    @property
    def name(self) -> str:
        """What the lake knows the file by: its path, without secrets."""
        return self.path if self.masked is None else self.masked

    @property
    def is_local(self) -> bool:
        """True where Python can open the file itself."""
        return not _SCHEME.match(self.path)

    @property
    def readable(self) -> str:
        """The path by which the file is opened."""
        return self.link or self.path

    @property
    def uri(self) -> str:
        """What Spark is given: glob characters escaped, local files with their scheme, as the default file system may be another."""
        return ("file://" if self.is_local else "") + escaped(self.readable)


@dataclass(frozen=True)
class Listing:
    """The files of a source, each once, sorted by path, and what was passed over: files that are not empty, and folders (``…/``)."""

    files: tuple[SourceFile, ...]
    hidden: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """A remark on what was passed over."""
        return (f"passed over, {_why_hidden(self.hidden)}",) if self.hidden else ()


def source_listing(source: Source, spark: SparkSession | None = None) -> Listing:
    """Return the files of a source as ``listing`` does; those whose paths hold secrets are known by masked names.

    Raises:
        SourceError: one of its paths names no file, or needs Spark and there is no session.
        UsageError: a secret is not known.
    """
    found = listing([reveal_path(path) for path in source.paths], spark)
    if not has_secret_path(source):
        return found
    files = tuple(replace(file, masked=mask_path(file.path, source)) for file in found.files)
    return Listing(files, tuple(mask_path(path, source) for path in found.hidden))


def list_source_files(source: Source, spark: SparkSession | None = None) -> tuple[SourceFile, ...]:
    """Return the files of a source, as ``source_listing`` does."""
    return source_listing(source, spark).files


def few_local_files(source: Source) -> tuple[SourceFile, ...]:
    """Return the files of a source that are not empty; none where some are on another file system, or there are very many."""
    if any("://" in path or "${secret:" in path for path in source.paths):
        return ()
    files = tuple(file for file in list_source_files(source) if file.size)
    return files if len(files) <= _MOST_FILES else ()


def names_of_all(files: Sequence[SourceFile], names_of: Callable[[SourceFile], Sequence[str] | None]) -> dict[str, None] | None:
    """Return the column names of all files, in order; None where those of one are not known, or there is none."""
    names: dict[str, None] = {}
    for file in files:
        names_of_file = names_of(file)
        if names_of_file is None:
            return None
        names |= dict.fromkeys(names_of_file)
    return names or None


def list_files(paths: Sequence[str], spark: SparkSession | None = None) -> tuple[SourceFile, ...]:
    """Return the files of paths, globs and folders (with all folders below them), each file once, sorted by path.

    A path that exists as it is written is taken literally, whatever characters it has. Folders and globs pass over names that begin with
    ``_`` or ``.``, as Spark does, unless the path or the last part of the glob begins so itself; ``listing`` tells which. This machine's
    file system is read without Spark.

    Raises:
        SourceError: one of them names no file, or needs Spark and there is no session.
    """
    return listing(paths, spark).files


def listing(paths: Sequence[str], spark: SparkSession | None = None) -> Listing:
    """Return the files as ``list_files`` does, and what was passed over.

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
            others = f"; passed over, {_why_hidden(listed.hidden)}" if listed.hidden else ""
            raise SourceError(f"no file at {path!r}{where}; check the path, and that its glob matches at least one file{others}")
        files |= {file.path: file for file in listed.files}
        hidden |= set(listed.hidden)
    return Listing(tuple(sorted(files.values(), key=lambda file: file.path)), tuple(sorted(hidden - files.keys())))


def _why_hidden(hidden: Sequence[str]) -> str:
    names = ", ".join(sorted(hidden)[:_TOLD]) + (f" and {len(hidden) - _TOLD} more" if len(hidden) > _TOLD else "")
    return f"as names that begin with _ or . are in folders and globs: {names}; to read one, write it out in `path`"


def _local_path(path: str) -> str | None:
    """Return the path on this machine, None for another file system."""
    if path.lower().startswith("file:"):
        return _FILE_SCHEME.sub("/", path, count=1)
    return None if _SCHEME.match(path) else path


def _list_local(path: str, spark: SparkSession | None) -> Listing:
    place = place_of(path)
    hidden: list[str] = []
    if Path(place).exists() or not is_pattern(path):
        matches = {place} if Path(place).exists() else set()
    else:
        matches, hidden = _matches(place)
    found = [_files_below(Path(match)) for match in matches]
    below = [name for _, hidden_below in found for name in hidden_below]
    names = [name for names_below, _ in found for name in names_below]
    has_odd_names = not all(str(name).isascii() for name in names)
    is_ascii_only = has_odd_names and spark is not None and not opens_all_names(spark)
    files = [file for name in names if (file := _file(name, is_ascii_only=is_ascii_only)) is not None]
    return Listing(tuple(files), tuple(text_of(name) for name in (*hidden, *below)))


def _matches(pattern: str) -> tuple[set[str], list[str]]:
    """Return what a pattern matches, and what it would match if it did not pass over hidden names."""
    matches, every = set(), set()
    for each in braces_expanded(pattern):
        found = glob.glob(python_glob(each), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        asks_for_hidden = is_hidden(Path(each).name)
        matches |= {match for match in found if asks_for_hidden or not is_hidden(Path(match).name)}
        every |= {*found, *glob.glob(python_glob(each), recursive=True, include_hidden=True)}  # noqa: PTH207
    return matches, _that_hold_something(Path(match) for match in every - matches)


def _files_below(path: Path) -> tuple[list[Path], list[str]]:
    """Return the files below a folder (or the file itself), and what is hidden there."""
    if path.is_file():
        return [path], []
    found, hidden, seen = [], [], set()
    for folder, folders, names in os.walk(path, followlinks=True, onerror=_raise):
        seen.add(Path(folder).resolve())
        hidden += [Path(folder) / name for name in (*folders, *names) if is_hidden(name)]
        # A link that leads back up would be followed for ever.
        folders[:] = [name for name in folders if not is_hidden(name) and (Path(folder) / name).resolve() not in seen]
        found += [Path(folder) / name for name in names if not is_hidden(name)]
    return found, _that_hold_something(hidden)


def _that_hold_something(places: Iterable[Path]) -> list[str]:
    """Return those that may hold records: no empty file or folder, no checksum of a file beside it, no log of a Delta table."""
    held = []
    for place in places:
        is_checksum = place.suffix == ".crc" and place.with_name(place.stem.removeprefix(".")).exists()
        if place.is_dir() and place.name != _DELTA_LOG and any(place.iterdir()):
            held.append(f"{place}/")
        elif place.is_file() and not is_checksum and place.stat().st_size:
            held.append(str(place))
    return held


def _raise(error: OSError) -> None:
    raise SourceError(f"{error.filename} cannot be listed: {error.strerror}; its files would be missed")


def _file(path: Path, *, is_ascii_only: bool) -> SourceFile | None:
    """Return the file, None where it is gone by now."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    place = str(path.absolute())
    link = link_to(place) if needs_link(place, is_ascii_only=is_ascii_only) else None
    return SourceFile(text_of(place), status.st_size, datetime.fromtimestamp(status.st_mtime, UTC), link)


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
