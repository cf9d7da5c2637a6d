"""Whole JSON documents as records: the elements of an array, or objects one after another, each to the letter and with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.column_names import ROW_HASH, SOURCE_FILE
from tidemill.sources.files.lines import HAS_INVALID_BYTES, LINE, legible
from tidemill.sources.options import is_on
from tidemill.sources.records import SOURCE_LINE, row_hash

_BLANK = " \t\r\n"
_LINE_END = re.compile(r"\r\n|\r|\n")
# No text holds a line end, and a comma parts what stands in an array: behind a brace and a line end another brace opens a document.
_BOUNDARY = re.compile(r"(?<=\})[ \t]*+[\r\n][ \t\r\n]*+(?=\{)")
_TEXT, _OTHER_TEXT = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', r"'[^'\\]*+(?:\\.[^'\\]*+)*+'"
_COMMENT = r"//[^\r\n]*+|/\*.*?\*/"
_UNKNOWN = "\ufffd"
_OPENING, _CLOSING, _QUOTES = ("[", "{"), ("]", "}"), "\"'"
_PARTS = "array<struct<text: string, line: bigint>>"

_Parts = list[tuple[str, int]]


def document_records(documents: DataFrame, options: Mapping[str, str], parse: Mapping[str, str]) -> DataFrame:
    """Return the records in documents (as of ``read_lines`` for whole files) as lines, each with ``_source_line``.

    What is no valid array is parted into objects; what is neither is one record. Spark says whether an array is valid and how many
    elements it has; it would give the elements too, but with their numbers rounded to a DOUBLE.
    """
    document = F.col(LINE)
    two = F.from_json(F.concat(F.lit("["), document, F.lit(",1]")), "array<string>", dict(parse))
    is_array = F.startswith(F.ltrim(document, F.lit(_BLANK)), F.lit("[")) & (F.size(two) == 2)
    size = F.when(is_array, F.size(F.from_json(document, "array<string>", dict(parse))))
    # Several objects in a row are told apart by line ends, which here may stand in a text.
    is_one = is_on(options, "allowUnquotedControlChars")
    token = "|".join(
        [
            _TEXT,
            *([_OTHER_TEXT] if is_on(options, "allowSingleQuotes") else []),
            *([_COMMENT] if is_on(options, "allowComments") else []),
            r"[\[\]{},]",
        ]
    )
    parts = _parted(legible(document), size, token, is_one=is_one)
    exploded = documents.select(F.explode(parts).alias("_part"), HAS_INVALID_BYTES, SOURCE_FILE)
    record = F.col("_part.text")
    return exploded.select(
        record.alias(LINE),
        (F.col(HAS_INVALID_BYTES) & F.contains(record, F.lit(_UNKNOWN))).alias(HAS_INVALID_BYTES),
        SOURCE_FILE,
        row_hash(record.cast("binary")).alias(ROW_HASH),
        F.col("_part.line").alias(SOURCE_LINE),
    )


def _parted(document: Column, size: Column, token: str, *, is_one: bool) -> Column:
    @F.udf(returnType=_PARTS, useArrow=False)
    def parts(text: str, count: int | None) -> _Parts:
        elements = None if count is None else array_elements(text, token)
        if elements is not None and len(elements) == count:
            return elements
        return list(objects(text, is_one=is_one))

    return parts(document, size)


def array_elements(document: str, token: str) -> _Parts | None:
    """Return text and line of each element of the array that a document is; None where something follows the array.

    ``token`` matches what may hold brackets and commas (texts, comments), and brackets and commas themselves.
    """
    depth, start, end, place = 0, 0, None, _Place(document)
    found: _Parts = []
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
            # A comment before an element, or behind it.
            start, end = (match.end(), end) if is_blank else (start, end or match.start())
            continue
        if not is_blank:
            found.append(place.trimmed(start, end or match.start()))
        start, end = match.end(), None
        if depth == 0:
            break
    return None if document[start:].strip(_BLANK) else found


def objects(document: str, *, is_one: bool = False) -> Iterator[tuple[str, int]]:
    """Yield text and line of each object of a document that holds several in a row, or of the whole document."""
    start, place = 0, _Place(document)
    for match in () if is_one or not document.lstrip(_BLANK).startswith("{") else _BOUNDARY.finditer(document):
        yield place.trimmed(start, match.start())
        start = match.end()
    yield place.trimmed(start, len(document))


class _Place:
    """Counts the lines of a document, from its beginning on."""

    def __init__(self, document: str) -> None:
        self._document, self._line, self._at = document, 1, 0

    def trimmed(self, start: int, end: int) -> tuple[str, int]:
        """Return what stands between, without blanks around it, and its line; calls go forward."""
        text = self._document[start:end]
        begin = start + len(text) - len(text.lstrip(_BLANK))
        self._line += len(_LINE_END.findall(self._document, self._at, begin))
        self._at = begin
        return text.strip(_BLANK), self._line
