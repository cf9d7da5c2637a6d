"""Split whole JSON documents into records: the elements of an array, or several objects, each with its exact text and its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.column_names import ROW_HASH, SOURCE_FILE
from tidemill.sources.files.lines import HAS_INVALID_BYTES, LINE, replace_invalid_bytes
from tidemill.sources.options import is_on
from tidemill.sources.records import SOURCE_LINE, row_hash

_BLANK = " \t\r\n"
_LINE_END = re.compile(r"\r\n|\r|\n")
# JSON texts contain no line ends, and array elements are separated by commas: so "}", a line end and "{" separate two documents.
_BOUNDARY = re.compile(r"(?<=\})[ \t]*+[\r\n][ \t\r\n]*+(?=\{)")
_TEXT, _OTHER_TEXT = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', r"'[^'\\]*+(?:\\.[^'\\]*+)*+'"
_COMMENT = r"//[^\r\n]*+|/\*.*?\*/"
_UNKNOWN = "\ufffd"
_OPENING, _CLOSING, _QUOTES = ("[", "{"), ("]", "}"), "\"'"
_PARTS_TYPE = "array<struct<text: string, line: bigint>>"

_TextsWithLines = list[tuple[str, int]]


def split_documents(documents: DataFrame, options: Mapping[str, str], parse: Mapping[str, str]) -> DataFrame:
    """Split documents (see ``read_lines`` with ``whole``) into records, shaped as lines with ``_source_line``.

    A document that is no valid array is split into objects, or stays one record. Spark decides whether an array is valid and how many
    elements it has. It could return the elements too, but with numbers rounded to DOUBLE.
    """
    document = F.col(LINE)
    two = F.from_json(F.concat(F.lit("["), document, F.lit(",1]")), "array<string>", dict(parse))
    is_array = F.startswith(F.ltrim(document, F.lit(_BLANK)), F.lit("[")) & (F.size(two) == 2)
    size = F.when(is_array, F.size(F.from_json(document, "array<string>", dict(parse))))
    # Objects are separated by line ends, which this option allows inside texts.
    is_one = is_on(options, "allowUnquotedControlChars")
    token = "|".join(
        [
            _TEXT,
            *([_OTHER_TEXT] if is_on(options, "allowSingleQuotes") else []),
            *([_COMMENT] if is_on(options, "allowComments") else []),
            r"[\[\]{},]",
        ]
    )
    parts = _split(replace_invalid_bytes(document), size, token, is_one=is_one)
    exploded = documents.select(F.explode(parts).alias("_part"), HAS_INVALID_BYTES, SOURCE_FILE)
    record = F.col("_part.text")
    return exploded.select(
        record.alias(LINE),
        (F.col(HAS_INVALID_BYTES) & F.contains(record, F.lit(_UNKNOWN))).alias(HAS_INVALID_BYTES),
        SOURCE_FILE,
        row_hash(record.cast("binary")).alias(ROW_HASH),
        F.col("_part.line").alias(SOURCE_LINE),
    )


def _split(document: Column, size: Column, token: str, *, is_one: bool) -> Column:
    @F.udf(returnType=_PARTS_TYPE, useArrow=False)
    def parts(text: str, count: int | None) -> _TextsWithLines:
        elements = None if count is None else split_array(text, token)
        if elements is not None and len(elements) == count:
            return elements
        return list(split_objects(text, is_one=is_one))

    return parts(document, size)


def split_array(document: str, token: str) -> _TextsWithLines | None:
    """Return text and line of each element of an array; None where something follows the array.

    ``token`` matches brackets, commas, and what may contain them (texts, comments).
    """
    depth, start, end, lines = 0, 0, None, _LineCounter(document)
    elements: _TextsWithLines = []
    for match in re.finditer(token, document, re.DOTALL):
        mark = match[0]
        if mark in _OPENING:
            depth += 1
            start = match.end() if depth == 1 else start
            continue
        depth -= mark in _CLOSING
        if depth > 1 or mark[0] in _QUOTES or (depth == 1 and mark in _CLOSING):
            continue
        is_blank = not document[start : match.start()].strip(_BLANK)
        if mark[0] == "/":
            # A comment before or behind an element.
            start, end = (match.end(), end) if is_blank else (start, end or match.start())
            continue
        if not is_blank:
            elements.append(lines.take(start, end or match.start()))
        start, end = match.end(), None
        if depth == 0:
            break
    return None if document[start:].strip(_BLANK) else elements


def split_objects(document: str, *, is_one: bool = False) -> Iterator[tuple[str, int]]:
    """Yield text and line of each object of a document, or of the whole document if it is not several objects."""
    start, lines = 0, _LineCounter(document)
    for match in () if is_one or not document.lstrip(_BLANK).startswith("{") else _BOUNDARY.finditer(document):
        yield lines.take(start, match.start())
        start = match.end()
    yield lines.take(start, len(document))


class _LineCounter:
    """Counts the lines of a document."""

    def __init__(self, document: str) -> None:
        self._document, self._line, self._at = document, 1, 0

    def take(self, start: int, end: int) -> tuple[str, int]:
        """Return the text of a range without blanks around it, and its line; calls must go forward."""
        text = self._document[start:end]
        begin = start + len(text) - len(text.lstrip(_BLANK))
        self._line += len(_LINE_END.findall(self._document, self._at, begin))
        self._at = begin
        return text.strip(_BLANK), self._line
