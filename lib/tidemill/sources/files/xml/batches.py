"""The work of Spark's Python workers on XML files: read, cut into records, parse, and return Arrow batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any
from xml.parsers import expat

import pyarrow as pa
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from tidemill.column_names import SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.sources.files.lines import MAX_LINE_BYTES
from tidemill.sources.files.xml.bytes import INVALID, read_blocks, recode_to_utf_8, unpack
from tidemill.sources.files.xml.records import RawRecord, RecordScanner
from tidemill.sources.files.xml.types import ElementSummary, RecordFindings, make_record_fitter
from tidemill.sources.files.xml.values import Nested, NestedTooDeep, RecordParser, XmlNames
from tidemill.sources.records import SOURCE_LINE
from tidemill.sources.schema.nested import replace_leaves

# Delta tables cannot have column names with a space, so these intermediate columns never collide with data.
RECORD, TEXT, BYTES, BROKEN, UNKNOWN, SUMMARY = " record", " text", " bytes", " broken", " unknown", " summary"
_ROWS, _BATCH_BYTES = 2000, 1 << 22

Work = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class XmlForm:
    """The options of reading; ``groups`` holds the local files of each Spark task by its number, as pairs (path, path to open)."""

    row_tag: str
    names: XmlNames = field(default_factory=XmlNames)
    encoding: str | None = None
    longest: int = MAX_LINE_BYTES
    groups: tuple[tuple[tuple[str, str], ...], ...] = ()


def records_schema(schema: T.StructType) -> T.StructType:
    """Return the columns of ``make_records_work``: the record as texts, its file, its text in UTF-8, its bytes where they differ."""
    columns: dict[str, T.DataType] = {
        RECORD: replace_leaves(schema, lambda _: T.StringType()),
        SOURCE_FILE: T.StringType(),
        TEXT: T.BinaryType(),
        BYTES: T.BinaryType(),
        BROKEN: T.ArrayType(T.StringType()),
        UNKNOWN: T.StringType(),
    }
    return T.StructType([T.StructField(name, kind) for name, kind in columns.items()])


LINES_SCHEMA = T.StructType(
    [T.StructField(SOURCE_FILE, T.StringType()), T.StructField(BYTES, T.BinaryType()), T.StructField(SOURCE_LINE, T.LongType())]
)
SUMMARY_SCHEMA = T.StructType([T.StructField(SUMMARY, T.StringType())])


def make_records_work(form: XmlForm, schema: T.StructType) -> Work:
    """Return the work that yields every record of the files in the shape of the schema."""
    make_record_fitter(schema, form.names.value_tag)  # raises for types that XML cannot have
    return partial(_records, form, schema)


def make_lines_work(form: XmlForm) -> Work:
    """Return the work that yields the bytes of every record and the line where it begins."""
    return partial(_lines, form)


def make_summary_work(form: XmlForm) -> Work:
    """Return the work that summarizes the well-formed records: one row per Spark task, an ``ElementSummary`` as JSON."""
    return partial(_summarize, form)


def _records(form: XmlForm, schema: T.StructType, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    parser, fit = RecordParser(form.names), make_record_fitter(schema, form.names.value_tag)
    columns = to_arrow_schema(records_schema(schema), timezone="UTC")

    def rows() -> Iterator[tuple[Any, ...]]:
        for path, encoding, raw in _raw_records(form, batches):
            findings = RecordFindings()
            record = _parse_record(parser, raw, findings)
            fields = None if record is None else fit(record, findings)
            rules = list(dict.fromkeys(findings.rules))
            yield fields, path, *_text_and_bytes(raw.text, encoding), rules, findings.rescued

    return _to_batches(rows(), columns, text_at=2)


def _lines(form: XmlForm, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    def rows() -> Iterator[tuple[Any, ...]]:
        for path, encoding, raw in _raw_records(form, batches):
            text, given = _text_and_bytes(raw.text, encoding)
            yield path, text if given is None else given, raw.line

    return _to_batches(rows(), to_arrow_schema(LINES_SCHEMA, timezone="UTC"), text_at=1)


def _summarize(form: XmlForm, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    parser, summary, count = RecordParser(form.names), ElementSummary(), 0
    for _, _, raw in _raw_records(form, batches):
        record = _parse_record(parser, raw, RecordFindings())
        if record is not None:
            count += 1
            summary.add(record)
    if count:
        yield pa.RecordBatch.from_pydict({SUMMARY: [summary.to_json()]}, to_arrow_schema(SUMMARY_SCHEMA, timezone="UTC"))


def _raw_records(form: XmlForm, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, str, RawRecord]]:
    """Yield file, encoding and text of every record.

    Raises:
        SourceError: a file is damaged as a whole.
    """
    for path, blocks in _read_files(form, batches):
        try:
            encoding, text = recode_to_utf_8(blocks, form.encoding)
            for raw in RecordScanner(form.row_tag, with_any_prefix=form.names.drops_prefixes, longest=form.longest).records(text):
                yield path, encoding, raw
        except SourceError as error:
            # The driver finds the message by the condition in brackets, below the worker's stack trace.
            raise SourceError(f"[DAMAGED_XML_FILE] {error}") from error


def _read_files(form: XmlForm, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield path and bytes of each file: local ones by the number of their group, remote ones as Spark has read them."""
    for batch in batches:
        if batch.num_columns == 1:
            for number in batch.column(0).to_pylist():
                for path, readable in form.groups[number]:
                    yield path, read_blocks(readable)
        else:
            for place in range(batch.num_rows):
                path = batch.column(0)[place].as_py()
                yield path, unpack(BytesIO(batch.column(1)[place].as_py()), PurePosixPath(path).suffix)


def _parse_record(parser: RecordParser, raw: RawRecord, findings: RecordFindings) -> Nested | None:
    """Return the parsed record, None where it is rejected; the findings then hold the rules."""
    if not raw.is_broken:
        try:
            return parser.parse(raw.text)
        except NestedTooDeep:
            findings.rules.append("too_deep")
            return None
        except expat.ExpatError:
            pass
    try:
        raw.text.decode()
    except UnicodeDecodeError:
        findings.rules.append("invalid_bytes")
    if b"\0" in raw.text:
        findings.rules.append("nul")
    if raw.is_broken or not findings.rules:
        findings.rules.append("not_xml")
    return None


def _text_and_bytes(text: bytes, encoding: str) -> tuple[bytes, bytes | None]:
    """Return the text in UTF-8, and the bytes in the file's own encoding where that is another; the row hash is that of the bytes."""
    if encoding == "UTF-8":
        return text, None
    if INVALID in text:
        return text.replace(INVALID, "\ufffd".encode()), text
    return text, text.decode().encode(encoding, "replace")


def _to_batches(rows: Iterable[tuple[Any, ...]], columns: pa.Schema, *, text_at: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches that are limited in rows and in bytes of text."""
    pending: list[tuple[Any, ...]] = []
    room = _BATCH_BYTES
    for row in rows:
        pending.append(row)
        room -= len(row[text_at])
        if room <= 0 or len(pending) >= _ROWS:
            yield _to_batch(pending, columns)
            pending, room = [], _BATCH_BYTES
    if pending:
        yield _to_batch(pending, columns)


def _to_batch(rows: Sequence[tuple[Any, ...]], columns: pa.Schema) -> pa.RecordBatch:
    values: Mapping[int, tuple[Any, ...]] = dict(enumerate(zip(*rows, strict=True)))
    return pa.RecordBatch.from_arrays([pa.array(values[place], part.type) for place, part in enumerate(columns)], schema=columns)
