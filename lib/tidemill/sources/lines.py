"""Files as physical lines, with what tells a damaged one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.errors import UsageError
from tidemill.sources.files import SourceFile
from tidemill.sources.records import ROW_HASH, SOURCE_FILE, row_hash, source_file

LINE = "_line"
HAS_INVALID_BYTES = "_has_invalid_bytes"
BOM = "\ufeff"
_CHARSET_CONFS = ("spark.sql.legacy.javaCharsets", "spark.sql.legacy.codingErrorAction")


def encoding_of(options: Mapping[str, str]) -> str:
    """Return the encoding of the files, in upper case.

    Raises:
        UsageError: it is UTF-16 or UTF-32 without a byte order, which lines in the middle of a file do not tell.
    """
    name = options.get("encoding", "UTF-8").upper().replace("UTF8", "UTF-8").replace("LATIN1", "ISO-8859-1")
    if name in ("UTF-16", "UTF-32"):
        raise UsageError(f"options.encoding: {name} does not say its byte order; write {name}LE (as Windows does) or {name}BE")
    return name


def read_lines(spark: SparkSession, files: Sequence[SourceFile], options: Mapping[str, str], *, whole: bool = False) -> DataFrame:
    r"""Return a row for every line that is not empty: ``_line``, ``_has_invalid_bytes``, ``_source_file``, ``_source_row_hash``.

    ``\r`` at the end and a byte order mark at the start do not belong to the line. Invalid bytes are judged on the bytes: a U+FFFD
    that was in the data is legal. ``whole`` gives one row per file instead.
    """
    encoding = encoding_of(options)
    # A line separator would win over `wholetext`.
    reader = spark.read if whole else spark.read.option("lineSep", options.get("lineSep", "\n"))
    if encoding.startswith(("UTF-16", "UTF-32")):
        reader = reader.option("encoding", encoding)
    # A session may have been told to skip damaged files; here that would lose records.
    reader = reader.option("ignoreCorruptFiles", "false").option("ignoreMissingFiles", "false")
    raw = reader.text([file.uri for file in files], wholetext=whole)
    with _java_charsets(spark):
        text, is_invalid = _decoded(encoding)
        line = F.rtrim(F.ltrim(text, F.lit(BOM)), F.lit("\r"))
        return raw.select(
            line.alias(LINE),
            is_invalid.alias(HAS_INVALID_BYTES),
            source_file().alias(SOURCE_FILE),
            row_hash(F.col("value").cast("binary")).alias(ROW_HASH),
        ).where(F.col(LINE) != "")


def legible(text: Column) -> Column:
    """Return the text with U+FFFD in place of invalid bytes: a table must hold valid UTF-8, or other readers fail on it."""
    return F.make_valid_utf8(text)


def has_nul(text: Column) -> Column:
    r"""Return true where the text holds ``\0``."""
    return F.contains(text, F.lit("\0"))


def _decoded(encoding: str) -> tuple[Column, Column]:
    """Return the text of ``value`` and whether its bytes are not valid in the encoding."""
    value = F.col("value")
    if encoding == "UTF-8":
        return value, ~F.is_valid_utf8(value)
    text = F.decode(value.cast("binary"), encoding)
    return text, F.encode(text, encoding) != value.cast("binary")


@contextmanager
def _java_charsets(spark: SparkSession) -> Iterator[None]:
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
