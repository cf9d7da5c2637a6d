"""The header of each CSV file: its names, and what is wrong with it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tidemill.errors import SourceError
from tidemill.sources.files.csv.quotes import Quoting
from tidemill.sources.files.encodings import TextForm, can_open, first_bytes, opened, physical_lines, separator_line, text_form
from tidemill.sources.files.lines import BOM, HAS_INVALID_BYTES, LINE, read_lines
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.options import is_on


@dataclass(frozen=True)
class Header:
    """The first record of a file, to the letter, the names in it, and how the file's bytes are text.

    ``separator_line`` is the line before it that names the separator ``sep``, as Excel writes it; None where there is none.
    """

    line: str
    names: tuple[str, ...]
    form: TextForm
    sep: str
    separator_line: str | None = None


def read_header(spark: SparkSession, file: SourceFile, options: Mapping[str, str]) -> Header:
    """Return the header of a file: its first line that is neither empty nor a comment.

    Raises:
        SourceError: there is none, it cannot be read, or it names a column twice.
    """
    with opened(spark, file) as stream:
        start = first_bytes(stream)
        form = text_form(start, options)
        separator = separator_line(start, form)
        if separator is not None:
            options = {**options, "sep": separator[1]}
        line = _scan(stream, start, form, options, separator and separator[0])
    if line is None and not can_open(file):
        line = _first_line(spark, file, form, options)
    if line is None:
        raise SourceError("it holds no header line, though `header: true` says that each file starts with one")
    names = _split(line, options)
    twice = [name for name, count in Counter(name.lower() for name in names if name).items() if count > 1]
    if twice:
        raise SourceError(f"its header names {', '.join(repr(name) for name in twice)} more than once (case is not told apart)")
    return Header(line, tuple(names), form, options["sep"], separator and separator[0])


def read_form(spark: SparkSession, file: SourceFile, options: Mapping[str, str]) -> Header:
    """Return the header of a file that has none: how its bytes are text, and a line that names the separator.

    A file on another file system is taken as declared: looking at each would cost a Spark job.

    Raises:
        SourceError: it cannot be read.
    """
    with opened(spark, file) if file.is_local else io.BytesIO() as stream:
        start = first_bytes(stream)
    form = text_form(start, options)
    line, sep = separator_line(start, form) or (None, options["sep"])
    return Header("", (), form, sep, line)


def is_record(line: str, options: Mapping[str, str]) -> bool:
    """Return True for a line that is neither empty nor a comment."""
    comment = options.get("comment")
    return line != "" and not (comment and line.startswith(comment))


def _scan(stream: IO[bytes], start: bytes, form: TextForm, options: Mapping[str, str], skipped: str | None) -> str | None:
    """Return the first record that is not ``skipped``, None where there is none."""
    quoting = Quoting.of(options) if is_on(options, "multiLine") else None
    pending = ""
    for line in physical_lines(stream, start, form):
        text = pending + line
        if not pending and (not is_record(_trimmed(text), options) or _trimmed(text) == skipped):
            continue
        if quoting is None or not quoting.is_open(_trimmed(text)):
            return _trimmed(text)
        pending = text + form.line_end
    return _trimmed(pending) or None


def _trimmed(line: str) -> str:
    return line.lstrip(BOM).rstrip("\r\n")


def _first_line(spark: SparkSession, file: SourceFile, form: TextForm, options: Mapping[str, str]) -> str | None:
    lines = read_lines(spark, [file], form)
    if options.get("comment"):
        lines = lines.where(~F.startswith(F.col(LINE), F.lit(options["comment"])))
    row = lines.select(LINE, HAS_INVALID_BYTES).head()
    if row is None:
        return None
    if row[HAS_INVALID_BYTES]:
        raise SourceError(f"its header is not valid {form.encoding}; set `options.encoding`")
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
