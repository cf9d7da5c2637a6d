"""Read files as physical lines, find invalid bytes, and locate lines by number."""

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
from tidemill.sources.records import IS_HEADER, REPEATED_HEADER, SOURCE_LINE, format_hash, source_file

MAX_RECORD_OPTION = "maxRecordBytes"
MAX_LINE_BYTES, MAX_DOCUMENT_BYTES = 64 << 20, 128 << 20
_BLOCK = 1 << 20
_PACKED = (".gz", ".bz2")


def max_record_bytes(options: Mapping[str, str], default: int) -> int:
    """Return the maximum number of bytes of a record, decompressed.

    Raises:
        UsageError: the option is no number of bytes.
    """
    text = options.get(MAX_RECORD_OPTION, str(default))
    if not text.isdecimal() or int(text) == 0:
        raise UsageError(f"options.{MAX_RECORD_OPTION}: expected a number of bytes, such as {default}; found {text!r}")
    return int(text)


def reject_long_records(file: SourceFile, form: TextForm, options: Mapping[str, str], *, whole: bool = False) -> None:
    """Check a file for lines that are too long; with ``whole`` the file itself is the record.

    Files on other file systems, and those that Python cannot decompress (.zst, .deflate), are not checked.

    Raises:
        SourceError: a record is too long.
    """
    limit = max_record_bytes(options, MAX_DOCUMENT_BYTES if whole else MAX_LINE_BYTES)
    is_packed = file.path.endswith(_PACKED)
    if not can_open(file) or (not is_packed and file.size <= limit):
        return
    line = _find_long_line(file.readable, file.size, file.modified_at, None if whole else form.end_bytes, limit)
    if line is not None:
        what = "unpacked it has" if is_packed and whole else "it has" if whole else f"line {line} has"
        raise SourceError(
            f"{what} more than {limit} bytes, which is too long for a record; split it, or raise `options.{MAX_RECORD_OPTION}`"
        )


@lru_cache(maxsize=10_000)
def _find_long_line(path: str, size: int, modified_at: datetime, end: bytes | None, limit: int) -> int | None:
    """Return the number of the first line that is too long, None without one; size and time are part of the cache key."""
    # The reader reports damaged files.
    with suppress(OSError, EOFError, zlib.error), open_unpacked(path) as stream:
        return _scan_for_long_line(stream, end, limit)
    return None


def _scan_for_long_line(stream: IO[bytes], end: bytes | None, limit: int) -> int | None:
    line, length = 1, 0
    for block in _read_blocks(stream):
        first, *others = [block] if end is None else block.split(end)
        if length + len(first) > limit:
            return line
        long = next((place for place, part in enumerate(others, 1) if len(part) > limit), None)
        if long is not None:
            return line + long
        line += len(others)
        length = len(others[-1]) if others else length + len(block)
    return None


def _read_blocks(stream: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: stream.read(_BLOCK), b"")


BLOCK = " block"
PLACE = " place"
_BEFORE, _KEY, _NTH = " before", " key", " nth"


def add_line_numbers(raw: DataFrame) -> DataFrame:
    """Add ``_source_line``, from 1, to raw lines with ``BLOCK`` and ``PLACE`` (increasing by one within a block).

    One Spark task reads each block of a file. A line's number is its place in the block plus the number of lines of earlier blocks.
    """
    blocks = raw.groupBy(SOURCE_FILE, BLOCK).agg(F.min(PLACE).alias("first"), F.count(F.lit(1)).alias("lines"))
    earlier = Window.partitionBy(SOURCE_FILE).orderBy(BLOCK).rowsBetween(Window.unboundedPreceding, -1)
    before = F.coalesce(F.sum("lines").over(earlier), F.lit(0)) - F.col("first") + 1
    starts = blocks.select(SOURCE_FILE, BLOCK, before.alias(_BEFORE))
    placed = raw.join(F.broadcast(starts), on=[SOURCE_FILE, BLOCK], how="inner")
    return placed.withColumn(SOURCE_LINE, F.col(PLACE) + F.col(_BEFORE)).drop(BLOCK, PLACE, _BEFORE)


def make_locator(files: Sequence[SourceFile], number_records: Callable[[list[SourceFile]], DataFrame]) -> Callable[[DataFrame], DataFrame]:
    """Return a function that adds ``_source_line`` to rejected records (see ``Records.locate``).

    ``number_records`` returns ``_source_file``, ``_source_row_hash``, ``_source_line`` and possibly ``IS_HEADER`` of all records in some of
    the files.
    """

    def locate(rejected: DataFrame) -> DataFrame:
        paths = {row[SOURCE_FILE] for row in rejected.select(SOURCE_FILE).distinct().collect()}
        records = number_records([file for file in files if file.path in paths])
        return _match_lines(rejected, records if IS_HEADER in records.columns else records.withColumn(IS_HEADER, F.lit(False)))

    return locate


def _match_lines(rejected: DataFrame, records: DataFrame) -> DataFrame:
    """Add the lines of ``records`` to equal rejected ones.

    Identical records get one line each in any order. The first header line of a file is not a repeated header, and a repeated header gets
    the hash of its own line.
    """
    is_header = F.col("rules") == F.array(F.lit(REPEATED_HEADER))
    wanted = rejected.select("*", _key(is_header)).withColumn(_NTH, _nth(ROW_HASH))
    candidates = records.select(SOURCE_FILE, ROW_HASH, SOURCE_LINE, IS_HEADER, _key(F.col(IS_HEADER)))
    candidates = candidates.join(wanted.select(SOURCE_FILE, _KEY).distinct(), on=[SOURCE_FILE, _KEY], how="left_semi")
    nth = _nth(SOURCE_LINE) - F.col(IS_HEADER).cast("int")
    places = candidates.select(SOURCE_FILE, _KEY, F.col(ROW_HASH).alias(" hash"), F.col(SOURCE_LINE).cast("bigint"), nth.alias(_NTH))
    located = wanted.join(places, on=[SOURCE_FILE, _KEY, _NTH], how="left")
    columns = [F.coalesce(F.col(" hash"), F.col(name)).alias(name) if name == ROW_HASH else F.col(name) for name in rejected.columns]
    return located.select(*columns, SOURCE_LINE)


def _key(is_header: Column) -> Column:
    """Return the key of a record in its file: the hash, or one key for all headers, which may differ in a byte order mark."""
    return F.when(is_header, F.lit("header")).otherwise(F.col(ROW_HASH)).alias(_KEY)


def _nth(order: str) -> Column:
    return F.row_number().over(Window.partitionBy(SOURCE_FILE, _KEY).orderBy(order))


# Delta tables cannot have column names with a space, so these intermediate columns never collide with data.
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

    ``\r`` at the end and a byte order mark at the start do not belong to the line. A U+FFFD in the data is valid. ``whole`` gives one row
    per file instead. ``with_numbers`` adds ``_source_line``, which reads the files twice. ``counted`` observes the number of rows as
    ``ROWS``.
    """
    raw = read_raw_lines(spark, files, form, whole=whole, with_places=with_numbers)
    if with_numbers:
        return decode_lines(spark, add_line_numbers(raw), form, SOURCE_LINE)
    return decode_lines(spark, raw, form, counted=counted)


def read_raw_lines(
    spark: SparkSession, files: Sequence[SourceFile], form: TextForm, *, whole: bool = False, with_places: bool = False
) -> DataFrame:
    """Return a row for every line: its bytes in ``VALUE`` (possibly invalid text), ``_source_file``, and optionally block and place.

    In UTF-16, the last byte of one character and the first of the next can look like a line end. Such a line is split, and its parts are
    rejected for invalid bytes or their number of fields.
    """
    # A line separator would take precedence over `wholetext`.
    reader = spark.read if whole else spark.read.options(encoding="ISO-8859-1", lineSep=form.end_bytes.decode("latin-1"))
    # The session may be set to skip damaged files, which would lose records.
    reader = reader.option("ignoreCorruptFiles", "false").option("ignoreMissingFiles", "false")
    raw = reader.text([file.uri for file in files], wholetext=whole)
    columns = [F.col("value").alias(VALUE), source_file(files).alias(SOURCE_FILE)]
    if with_places:
        columns += [F.col("_metadata.file_block_start").alias(BLOCK), F.monotonically_increasing_id().alias(PLACE)]
    return raw.select(*columns)


def decode_lines(
    spark: SparkSession, raw: DataFrame, form: TextForm, *extra_columns: str, keep_empty: bool = False, counted: Observation | None = None
) -> DataFrame:
    """Decode lines (or longer records) and add the hash of their bytes; empty ones are dropped unless ``keep_empty``."""
    value = F.col(VALUE)
    with allow_java_charsets(spark):
        text, is_invalid = _decode(form)
        ends = "\r" if form.line_end == "\n" else "\r\n"
        trimmed = F.rtrim(F.ltrim(text, F.lit(BOM)), F.lit(ends))
        is_ragged = F.endswith(text, F.lit("\r")) | F.startswith(text, F.lit(BOM))
        if form.line_end != "\n":
            # Where lines end with CR, the LF of a CR LF begins the next line.
            trimmed = F.ltrim(trimmed, F.lit("\n"))
            is_ragged = is_ragged | F.startswith(text, F.lit("\n")) | F.endswith(text, F.lit("\n"))
        # Only a short line can be empty after trimming.
        is_row = F.lit(True) if keep_empty else F.when(F.octet_length(value) > _SHORT, F.lit(True)).otherwise(trimmed != "")
        # Observed before parsing, because Spark would copy every row of an observed parsed frame.
        counted_rows = raw if counted is None else raw.observe(counted, F.count_if(is_row).alias(ROWS))
        lines = counted_rows.where(is_row).select(
            F.when(is_ragged, trimmed).otherwise(text).alias(LINE),
            is_invalid.alias(HAS_INVALID_BYTES),
            SOURCE_FILE,
            F.xxhash64(value.cast("binary")).alias(_HASH),
            *extra_columns,
        )
        return lines.select(LINE, HAS_INVALID_BYTES, SOURCE_FILE, format_hash(F.col(_HASH)).alias(ROW_HASH), *extra_columns)


def valid_text(form: TextForm) -> Column:
    """Return the text of ``VALUE`` with U+FFFD for invalid bytes; to be selected inside ``allow_java_charsets``."""
    return F.make_valid_utf8(_decode(form)[0])


def replace_invalid_bytes(text: Column) -> Column:
    """Return the text with U+FFFD in place of invalid bytes; other readers fail on tables with invalid UTF-8."""
    return F.make_valid_utf8(text)


def has_nul(text: Column) -> Column:
    r"""Return true where the text holds ``\0``."""
    return F.contains(text, F.lit("\0"))


def _decode(form: TextForm) -> tuple[Column, Column]:
    """Return the text of ``VALUE``, and whether its bytes are invalid in the encoding."""
    value = F.col(VALUE)
    if form.encoding == "UTF-8":
        return value, ~F.is_valid_utf8(value)
    text = F.decode(value.cast("binary"), form.encoding)
    # Some encodings have several byte sequences for one character, so only texts with a replacement are compared.
    return text, F.contains(text, F.lit("\ufffd")) & (F.encode(text, form.encoding) != value.cast("binary"))


def java_text(form: TextForm, text: str) -> Column:
    """Return a text that Python has decoded as Java decodes the same bytes; to be selected inside ``allow_java_charsets``."""
    is_plain = text.isascii() or form.encoding.startswith("UTF")
    return F.lit(text) if is_plain else F.decode(F.lit(text.encode(form.codec)), form.encoding)


@contextmanager
def allow_java_charsets(spark: SparkSession) -> Iterator[None]:
    """Let expressions that are created inside decode any charset of Java's, with U+FFFD for invalid bytes.

    Without these settings ``decode`` takes seven charsets, and raises on the first invalid byte.
    """
    before = {name: spark.conf.get(name) for name in _CHARSET_CONFS}
    for name in _CHARSET_CONFS:
        spark.conf.set(name, "true")
    try:
        yield
    finally:
        for name, value in before.items():
            spark.conf.set(name, str(value))
