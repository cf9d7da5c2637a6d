"""Files as physical lines, with what tells a damaged one."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import lru_cache
from typing import IO

from pyspark.sql import Column, DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F

from tidemill.column_names import ROW_HASH, SOURCE_FILE
from tidemill.errors import SourceError, UsageError
from tidemill.sources.files.encodings import TextForm, can_open, open_unpacked
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.records import IS_HEADER, REPEATED_HEADER, SOURCE_LINE, hash_digits, source_file

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


BLOCK = " block"
PLACE = " place"
_BEFORE, _KEY, _NTH = " before", " key", " nth"


def numbered(raw: DataFrame) -> DataFrame:
    """Return raw lines with ``_source_line``, from 1, where they have ``BLOCK`` and ``PLACE`` (rising by one within a block).

    A file is read in blocks, each by one task; a line's number is its place in the block behind the lines of the blocks before.
    """
    blocks = raw.groupBy(SOURCE_FILE, BLOCK).agg(F.min(PLACE).alias("first"), F.count(F.lit(1)).alias("lines"))
    earlier = Window.partitionBy(SOURCE_FILE).orderBy(BLOCK).rowsBetween(Window.unboundedPreceding, -1)
    before = F.coalesce(F.sum("lines").over(earlier), F.lit(0)) - F.col("first") + 1
    starts = blocks.select(SOURCE_FILE, BLOCK, before.alias(_BEFORE))
    placed = raw.join(F.broadcast(starts), on=[SOURCE_FILE, BLOCK], how="inner")
    return placed.withColumn(SOURCE_LINE, F.col(PLACE) + F.col(_BEFORE)).drop(BLOCK, PLACE, _BEFORE)


def locate(refused: DataFrame, records: Callable[[Sequence[str]], DataFrame]) -> DataFrame:
    """Return refused records with ``_source_line``.

    ``records`` gives those of the named files: ``_source_file``, ``_source_row_hash``, ``IS_HEADER``, ``_source_line``. Records that
    are the same to the letter get a line each, in no order, as nothing tells them apart. The first line that is a file's header is
    none of the repeated ones, whose hash is that of the line that is named.
    """
    paths = sorted(row[SOURCE_FILE] for row in refused.select(SOURCE_FILE).distinct().collect())
    is_header = F.col("rules") == F.array(F.lit(REPEATED_HEADER))
    wanted = refused.select("*", _key(is_header)).withColumn(_NTH, _nth(ROW_HASH))
    found = records(paths).select(SOURCE_FILE, ROW_HASH, SOURCE_LINE, IS_HEADER, _key(F.col(IS_HEADER)))
    found = found.join(wanted.select(SOURCE_FILE, _KEY).distinct(), on=[SOURCE_FILE, _KEY], how="left_semi")
    nth = _nth(SOURCE_LINE) - F.col(IS_HEADER).cast("int")
    places = found.select(SOURCE_FILE, _KEY, F.col(ROW_HASH).alias(" hash"), F.col(SOURCE_LINE).cast("bigint"), nth.alias(_NTH))
    located = wanted.join(places, on=[SOURCE_FILE, _KEY, _NTH], how="left")
    columns = [F.coalesce(F.col(" hash"), F.col(name)).alias(name) if name == ROW_HASH else F.col(name) for name in refused.columns]
    return located.select(*columns, SOURCE_LINE)


def _key(is_header: Column) -> Column:
    """Return what tells records of a file apart: the hash; repeated headers may differ in a byte order mark, and are all one."""
    return F.when(is_header, F.lit("header")).otherwise(F.col(ROW_HASH)).alias(_KEY)


def _nth(order: str) -> Column:
    return F.row_number().over(Window.partitionBy(SOURCE_FILE, _KEY).orderBy(order))


# A space keeps the names of what is only on the way apart from any column that a Delta table can have.
LINE = " line"
VALUE = " value"
HAS_INVALID_BYTES = " has_invalid_bytes"
ROWS = "rows"
_HASH = " hash"
BOM = "\ufeff"
_SHORT = 8
_CHARSET_CONFS = ("spark.sql.legacy.javaCharsets", "spark.sql.legacy.codingErrorAction")


def read_lines(
    spark: SparkSession,
    files: Sequence[SourceFile],
    form: TextForm,
    *,
    whole: bool = False,
    with_numbers: bool = False,
    counted: Observation | None = None,
) -> DataFrame:
    r"""Return a row for every line that is not empty: ``LINE``, ``HAS_INVALID_BYTES``, ``_source_file``, ``_source_row_hash``.

    ``\r`` at the end and a byte order mark at the start do not belong to the line. Invalid bytes are judged on the bytes: a U+FFFD
    that was in the data is legal. ``whole`` gives one row per file instead. ``with_numbers`` adds ``_source_line``, at the price of
    a second look at the files. ``counted`` is told how many rows there are, as ``ROWS``.
    """
    raw = raw_lines(spark, files, form, whole=whole, with_places=with_numbers)
    if with_numbers:
        return as_text(spark, numbered(raw), form, SOURCE_LINE)
    return as_text(spark, raw, form, counted=counted)


def raw_lines(
    spark: SparkSession, files: Sequence[SourceFile], form: TextForm, *, whole: bool = False, with_places: bool = False
) -> DataFrame:
    """Return a row for every line: its bytes in ``VALUE`` (it may not be valid), ``_source_file``, and where asked its place.

    In UTF-16 a character that ends in the first byte of a line end and one that starts with its second look like a line end; such a
    line is cut, and its parts are refused for invalid bytes or their number of fields.
    """
    # A line separator would win over `wholetext`.
    reader = spark.read if whole else spark.read.options(encoding="ISO-8859-1", lineSep=form.end_bytes.decode("latin-1"))
    # A session may have been told to skip damaged files; here that would lose records.
    reader = reader.option("ignoreCorruptFiles", "false").option("ignoreMissingFiles", "false")
    raw = reader.text([file.uri for file in files], wholetext=whole)
    columns = [F.col("value").alias(VALUE), source_file(files).alias(SOURCE_FILE)]
    if with_places:
        columns += [F.col("_metadata.file_block_start").alias(BLOCK), F.monotonically_increasing_id().alias(PLACE)]
    return raw.select(*columns)


def as_text(
    spark: SparkSession, raw: DataFrame, form: TextForm, *kept: str, keep_empty: bool = False, counted: Observation | None = None
) -> DataFrame:
    """Return the lines (or longer records) decoded, without those that are empty unless these are kept, and the hash of their bytes."""
    value = F.col(VALUE)
    with java_charsets(spark):
        text, is_invalid = _decoded(form)
        ends = "\r" if form.line_end == "\n" else "\r\n"
        trimmed = F.rtrim(F.ltrim(text, F.lit(BOM)), F.lit(ends))
        is_ragged = F.endswith(text, F.lit("\r")) | F.startswith(text, F.lit(BOM))
        if form.line_end != "\n":
            # Where lines end with CR, one that ends with CR LF leaves its LF to the next line.
            trimmed = F.ltrim(trimmed, F.lit("\n"))
            is_ragged = is_ragged | F.startswith(text, F.lit("\n")) | F.endswith(text, F.lit("\n"))
        # Only a short line can be empty but for what is trimmed.
        is_row = F.lit(True) if keep_empty else F.when(F.octet_length(value) > _SHORT, F.lit(True)).otherwise(trimmed != "")
        # Counted before they are parsed: behind that it would take a copy of every row.
        seen = raw if counted is None else raw.observe(counted, F.count_if(is_row).alias(ROWS))
        lines = seen.where(is_row).select(
            F.when(is_ragged, trimmed).otherwise(text).alias(LINE),
            is_invalid.alias(HAS_INVALID_BYTES),
            SOURCE_FILE,
            F.xxhash64(value.cast("binary")).alias(_HASH),
            *kept,
        )
        return lines.select(LINE, HAS_INVALID_BYTES, SOURCE_FILE, hash_digits(F.col(_HASH)).alias(ROW_HASH), *kept)


def line_text(form: TextForm) -> Column:
    """Return the text of ``VALUE``, for looking at it only: what is invalid in it is U+FFFD.

    It holds where it is selected inside ``java_charsets``.
    """
    return F.make_valid_utf8(_decoded(form)[0])


def legible(text: Column) -> Column:
    """Return the text with U+FFFD in place of invalid bytes: a table must hold valid UTF-8, or other readers fail on it."""
    return F.make_valid_utf8(text)


def has_nul(text: Column) -> Column:
    r"""Return true where the text holds ``\0``."""
    return F.contains(text, F.lit("\0"))


def _decoded(form: TextForm) -> tuple[Column, Column]:
    """Return the text of ``VALUE`` and whether its bytes are not valid in the encoding."""
    value = F.col(VALUE)
    if form.encoding == "UTF-8":
        return value, ~F.is_valid_utf8(value)
    text = F.decode(value.cast("binary"), form.encoding)
    # Some encodings have several bytes for one character, so that only what was replaced is compared.
    return text, F.contains(text, F.lit("\ufffd")) & (F.encode(text, form.encoding) != value.cast("binary"))


def written_text(form: TextForm, text: str) -> Column:
    """Return a text that Python has read from a file as ``LINE`` has it: Java may have another character for the same bytes.

    It holds where it is selected inside ``java_charsets``.
    """
    is_plain = text.isascii() or form.encoding.startswith("UTF")
    return F.lit(text) if is_plain else F.decode(F.lit(text.encode(form.codec)), form.encoding)


@contextmanager
def java_charsets(spark: SparkSession) -> Iterator[None]:
    """Let expressions that are made inside decode any charset that Java knows, U+FFFD for what is invalid in it.

    ``decode`` takes seven charsets, and raises on the first bad byte, unless these settings are on when it is made.
    """
    before = {name: spark.conf.get(name) for name in _CHARSET_CONFS}
    for name in _CHARSET_CONFS:
        spark.conf.set(name, "true")
    try:
        yield
    finally:
        for name, value in before.items():
            spark.conf.set(name, str(value))
