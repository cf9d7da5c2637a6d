"""The header of each CSV file: its names, and what is wrong with it."""

from __future__ import annotations

import bz2
import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tidemill.errors import SourceError, UsageError
from tidemill.sources.files import SourceFile
from tidemill.sources.lines import BOM, HAS_INVALID_BYTES, LINE, encoding_of, read_lines

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
_OTHER_CODECS = (".zst", ".lz4", ".snappy", ".deflate", ".xz")
_LONGEST = 1 << 24
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "a zip archive"}


@dataclass(frozen=True)
class Header:
    """The first line of a file, to the letter, and the names in it."""

    line: str
    names: tuple[str, ...]


def read_header(spark: SparkSession, file: SourceFile, options: Mapping[str, str]) -> Header:
    """Return the header of a file: its first line that is neither empty nor a comment.

    Raises:
        SourceError: there is none, it cannot be read, or it names a column twice.
    """
    if file.is_local and not file.path.endswith(_OTHER_CODECS):
        line = _local_first_line(file, options)
    else:
        line = _first_line(spark, file, options)
    if line is None:
        raise SourceError("it holds no header line, though `header: true` says that each file starts with one")
    names = _split(line, options)
    twice = [name for name, count in Counter(name.lower() for name in names if name).items() if count > 1]
    if twice:
        raise SourceError(f"its header names {', '.join(repr(name) for name in twice)} more than once (case is not told apart)")
    return Header(line, tuple(names))


def is_record(line: str, options: Mapping[str, str]) -> bool:
    """Return True for a line that is neither empty nor a comment."""
    comment = options.get("comment")
    return line != "" and not (comment and line.startswith(comment))


def _local_first_line(file: SourceFile, options: Mapping[str, str]) -> str | None:
    try:
        with _OPENERS.get(Path(file.path).suffix, open)(file.path, "rb") as stream:
            return _scan(stream, options)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"it cannot be read: {error}") from error


def _scan(stream: IO[bytes], options: Mapping[str, str]) -> str | None:
    encoding = encoding_of(options)
    end = options.get("lineSep", "\n").encode(encoding)
    buffer, is_start = b"", True
    while True:
        block = stream.read(1 << 16)
        packed = next((name for magic, name in _PACKED.items() if is_start and block.startswith(magic)), None)
        if packed:
            raise SourceError(f"its bytes are {packed}, which its name does not say; unpack it, or end its name in .gz where that is so")
        is_start = False
        buffer += block
        *lines, buffer = buffer.split(end) if block else [buffer, b""]
        for line in lines:
            text = _text(line, encoding)
            if is_record(text, options):
                return text
        if not block:
            return None
        if len(buffer) > _LONGEST:
            raise SourceError(f"its first line has no end within {_LONGEST} bytes; is it text?")


def _text(line: bytes, encoding: str) -> str:
    try:
        return line.decode(encoding).lstrip(BOM).rstrip("\r")
    except UnicodeDecodeError as error:
        raise SourceError(f"its header is not valid {encoding}: {error.reason} at byte {error.start}; set `options.encoding`") from error
    except LookupError as error:
        raise UsageError(f"options.encoding: {encoding} is not known") from error


def _first_line(spark: SparkSession, file: SourceFile, options: Mapping[str, str]) -> str | None:
    lines = read_lines(spark, [file], options)
    if options.get("comment"):
        lines = lines.where(~F.startswith(F.col(LINE), F.lit(options["comment"])))
    row = lines.select(LINE, HAS_INVALID_BYTES).head()
    if row is None:
        return None
    if row[HAS_INVALID_BYTES]:
        raise SourceError(f"its header is not valid {encoding_of(options)}; set `options.encoding`")
    return str(row[LINE])


def _split(line: str, options: Mapping[str, str]) -> list[str]:
    """Return the fields of the header."""
    separator, quote, escape = options["sep"], options["quote"], options["escape"]
    if len(separator) != 1 or not quote:
        names: Sequence[str] = line.split(separator)
    else:
        names = next(
            csv.reader(
                [line],
                delimiter=separator,
                quotechar=quote,
                doublequote=escape == quote,
                escapechar=None if escape in (quote, "") else escape,
                skipinitialspace=options.get("ignoreLeadingWhiteSpace") == "true",
            )
        )
    return [name.strip() for name in names]
