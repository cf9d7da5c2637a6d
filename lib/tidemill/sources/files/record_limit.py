"""How long a record of a text file may be: one that is longer would end Spark's Java, and every file beside it would go unread."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import IO

from tidemill.errors import SourceError, UsageError
from tidemill.sources.files.encodings import TextForm, can_open, open_unpacked
from tidemill.sources.files.listing import SourceFile

OPTION = "maxRecordBytes"
LONGEST_LINE, LONGEST_DOCUMENT = 64 << 20, 128 << 20
_BLOCK = 1 << 20
_PACKED = (".gz", ".bz2")


def longest_record(options: Mapping[str, str], default: int) -> int:
    """Return how many bytes a record may have, unpacked.

    Raises:
        UsageError: the option is no number of bytes.
    """
    text = options.get(OPTION, str(default))
    if not text.isdecimal() or int(text) == 0:
        raise UsageError(f"options.{OPTION}: expected a number of bytes, such as {default}; found {text!r}")
    return int(text)


def refuse_long_records(file: SourceFile, form: TextForm, options: Mapping[str, str], *, whole: bool = False) -> None:
    """Look through a file for a line that is too long; with ``whole`` the file itself is the record.

    Files on another file system, and those that Python cannot unpack (.zst, .deflate), are not looked through.

    Raises:
        SourceError: there is one.
    """
    limit = longest_record(options, LONGEST_DOCUMENT if whole else LONGEST_LINE)
    is_packed = file.path.endswith(_PACKED)
    if not can_open(file) or (not is_packed and file.size <= limit):
        return
    line = _long_line(file.readable, file.size, file.modified_at, None if whole else form.end_bytes, limit)
    if line is not None:
        what = "unpacked it has" if is_packed and whole else "it has" if whole else f"line {line} has"
        raise SourceError(f"{what} more than {limit} bytes, which is too long for a record; split it, or raise `options.{OPTION}`")


@lru_cache(maxsize=10_000)
def _long_line(path: str, size: int, modified_at: datetime, end: bytes | None, limit: int) -> int | None:
    """Return the number of the first line that is too long, None without one; size and time tell versions of the file apart."""
    # What is wrong with a damaged file is told where it is read.
    with suppress(OSError, EOFError, zlib.error), open_unpacked(path) as stream:
        return _first_long(stream, end, limit)
    return None


def _first_long(stream: IO[bytes], end: bytes | None, limit: int) -> int | None:
    line, length = 1, 0
    for block in _blocks(stream):
        first, *others = [block] if end is None else block.split(end)
        if length + len(first) > limit:
            return line
        long = next((place for place, part in enumerate(others, 1) if len(part) > limit), None)
        if long is not None:
            return line + long
        line += len(others)
        length = len(others[-1]) if others else length + len(block)
    return None


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: stream.read(_BLOCK), b"")
