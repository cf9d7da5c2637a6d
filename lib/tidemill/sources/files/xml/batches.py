"""What Spark's Python workers do with XML files: read them, cut them into records, parse these, and hand on Arrow batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from xml.parsers import expat

import pyarrow as pa
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from tidemill.column_names import SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.sources.files.lines import LONGEST_LINE
from tidemill.sources.files.xml.bytes import INVALID, file_blocks, unpacked, utf_8
from tidemill.sources.files.xml.records import Cut, RecordScanner
from tidemill.sources.files.xml.types import Findings, Seen, record_fit, shape
from tidemill.sources.files.xml.values import Nested, RecordParser, TooDeep, XmlNames
from tidemill.sources.records import SOURCE_LINE

# A space keeps the names of what is only on the way apart from any column that a Delta table can have.
RECORD, TEXT, BYTES, BROKEN, UNKNOWN, SEEN = " record", " text", " bytes", " broken", " unknown", " seen"
_ROWS, _ROOM = 2000, 1 << 22

Work = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class XmlForm:
    """How the files are to be read; ``groups`` are the local ones that each task takes, by its number: path, and the one to open."""

    row_tag: str
    names: XmlNames = field(default_factory=XmlNames)
    encoding: str | None = None
    longest: int = LONGEST_LINE
    groups: tuple[tuple[tuple[str, str], ...], ...] = ()


def records_schema(schema: T.StructType) -> T.StructType:
    """Return the columns of ``records_work``: the record as texts, its file, its text in UTF-8, its bytes where these are others."""
    columns: dict[str, T.DataType] = {
        RECORD: shape(schema),
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
SEEN_SCHEMA = T.StructType([T.StructField(SEEN, T.StringType())])


def records_work(form: XmlForm, schema: T.StructType) -> Work:
    """Return the work that gives every record of the files in the shape of the schema."""
    record_fit(schema, form.names.value_tag)  # what no XML can have is told now
    return partial(_records, form, schema)


def lines_work(form: XmlForm) -> Work:
    """Return the work that tells the bytes of every record, and the line where it begins."""
    return partial(_lines, form)


def seen_work(form: XmlForm) -> Work:
    """Return the work that tells what was seen in the records that are well-formed: a row a task, ``Seen`` as JSON."""
    return partial(_seen, form)


def _records(form: XmlForm, schema: T.StructType, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    parser, fit = RecordParser(form.names), record_fit(schema, form.names.value_tag)
    columns = to_arrow_schema(records_schema(schema), timezone="UTC")

    def rows() -> Iterator[tuple[Any, ...]]:
        for path, encoding, cut in _cuts(form, batches):
            findings = Findings()
            record = _parsed(parser, cut, findings)
            fields = None if record is None else fit(record, findings)
            rules = list(dict.fromkeys(findings.rules))
            yield fields, path, *_text_and_bytes(cut.text, encoding), rules, findings.rescued

    return _batched(rows(), columns, text_at=2)


def _lines(form: XmlForm, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    def rows() -> Iterator[tuple[Any, ...]]:
        for path, encoding, cut in _cuts(form, batches):
            text, given = _text_and_bytes(cut.text, encoding)
            yield path, text if given is None else given, cut.line

    return _batched(rows(), to_arrow_schema(LINES_SCHEMA, timezone="UTC"), text_at=1)


def _seen(form: XmlForm, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    parser, seen, found = RecordParser(form.names), Seen(), 0
    for _, _, cut in _cuts(form, batches):
        record = _parsed(parser, cut, Findings())
        if record is not None:
            found += 1
            seen.add(record)
    if found:
        yield pa.RecordBatch.from_pydict({SEEN: [seen.to_json()]}, to_arrow_schema(SEEN_SCHEMA, timezone="UTC"))


def _cuts(form: XmlForm, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, str, Cut]]:
    """Yield file, encoding and text of every record; what is wrong with a file as a whole is raised."""
    for path, blocks in _files(form, batches):
        try:
            encoding, text = utf_8(blocks, form.encoding)
            for cut in RecordScanner(form.row_tag, with_any_prefix=form.names.drops_prefixes, longest=form.longest).records(text):
                yield path, encoding, cut
        except SourceError as error:
            # The condition in brackets is what the sentence is found by on the other side, below the worker's stack.
            raise SourceError(f"[DAMAGED_XML_FILE] {error}") from error


def _files(form: XmlForm, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield path and bytes of each file: local ones by the number of their group, others as Spark has read them."""
    for batch in batches:
        if batch.num_columns == 1:
            for number in batch.column(0).to_pylist():
                for path, readable in form.groups[number]:
                    yield path, file_blocks(readable)
        else:
            for place in range(batch.num_rows):
                path = batch.column(0)[place].as_py()
                yield path, unpacked([batch.column(1)[place].as_py()], PurePosixPath(path).suffix)


def _parsed(parser: RecordParser, cut: Cut, findings: Findings) -> Nested | None:
    """Return what the record holds, None where it is refused: the rules are in the findings then."""
    if not cut.is_broken:
        try:
            return parser.parse(cut.text)
        except TooDeep:
            findings.rules.append("too_deep")
            return None
        except expat.ExpatError:
            pass
    try:
        cut.text.decode()
    except UnicodeDecodeError:
        findings.rules.append("invalid_bytes")
    if b"\0" in cut.text:
        findings.rules.append("nul")
    if cut.is_broken or not findings.rules:
        findings.rules.append("not_xml")
    return None


def _text_and_bytes(text: bytes, encoding: str) -> tuple[bytes, bytes | None]:
    """Return the text in UTF-8, and the bytes of the file where it is in another encoding: those tell the record, as in other formats."""
    if encoding == "UTF-8":
        return text, None
    if INVALID in text:
        return text.replace(INVALID, "\ufffd".encode()), text
    return text, text.decode().encode(encoding, "replace")


def _batched(rows: Iterable[tuple[Any, ...]], columns: pa.Schema, *, text_at: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches of as many, and of texts as long, as a worker holds easily."""
    taken: list[tuple[Any, ...]] = []
    room = _ROOM
    for row in rows:
        taken.append(row)
        room -= len(row[text_at])
        if room <= 0 or len(taken) >= _ROWS:
            yield _batch(taken, columns)
            taken, room = [], _ROOM
    if taken:
        yield _batch(taken, columns)


def _batch(rows: Sequence[tuple[Any, ...]], columns: pa.Schema) -> pa.RecordBatch:
    values: Mapping[int, tuple[Any, ...]] = dict(enumerate(zip(*rows, strict=True)))
    return pa.RecordBatch.from_arrays([pa.array(values[place], part.type) for place, part in enumerate(columns)], schema=columns)
