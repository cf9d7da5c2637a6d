"""Avro files: columns map by name; a file whose types do not fit, or that is not whole, is bad as a whole."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.pandas.types import to_arrow_schema

from tidemill.column_names import SOURCE_FILE
from tidemill.errors import SetupError
from tidemill.sources.files.columnar.avro_types import Meaning, meaning, without_logical
from tidemill.sources.files.columnar.shapes import RECORD, Shape, inferred, matched_records
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.options import checked_options
from tidemill.sources.records import Records
from tidemill.spec.models import Source

MAGIC = b"Obj\x01"
_SYNC = 16
_LONG_BYTES = 10


class Damaged(ValueError):
    """The file is not whole; the message says what is wrong."""


@dataclass(frozen=True)
class Header:
    """What the file says about itself."""

    schema: Any
    codec: str
    sync: bytes


@dataclass(frozen=True)
class Block:
    """Where a block's data lies, and how many records are in it."""

    count: int
    start: int
    size: int


def fastavro() -> Any:
    """Return the library that decodes records.

    Raises:
        SetupError: it is not installed.
    """
    try:
        return import_module("fastavro")
    except ImportError as error:
        raise SetupError("Avro files need the package fastavro; install it: pip install 'tidemill[avro]'") from error


def header(stream: BinaryIO) -> Header:
    """Return the header, and leave the stream behind it."""
    if stream.read(len(MAGIC)) != MAGIC:
        raise Damaged("it does not begin as Avro files do")
    entries: dict[bytes, bytes] = {}
    while count := _long(stream):
        if count < 0:
            count = -count
            _long(stream)
        for _ in range(count):
            name = _exactly(stream, _long(stream))
            entries[name] = _exactly(stream, _long(stream))
    try:
        schema = json.loads(entries.get(b"avro.schema", b""))
    except ValueError as error:
        raise Damaged("the schema in its header is not JSON") from error
    codec = entries.get(b"avro.codec", b"null").decode("latin-1")
    if codec not in _CODECS:
        raise Damaged(f"its codec is {codec!r}, which is not read; write it with one of {', '.join(_CODECS)}")
    if codec == "snappy" and find_spec("cramjam") is None:
        raise Damaged("it is compressed with snappy; install cramjam (pip install cramjam), or write it with codec deflate")
    return Header(schema, codec, _exactly(stream, _SYNC))


def blocks(stream: BinaryIO, size: int, sync: bytes) -> Iterator[Block]:
    """Yield the blocks from where the stream stands to the end of the file, which must be the end of a block."""
    while (at := stream.tell()) < size:
        count, length = _long(stream), _long(stream)
        block = Block(count, stream.tell(), length)
        if count < 0 or length < 0 or block.start + length + _SYNC > size:
            raise Damaged(f"the block at byte {at} is cut off or damaged")
        stream.seek(length, 1)
        if _exactly(stream, _SYNC) != sync:
            raise Damaged(f"the block at byte {at} does not end with the file's sync marker")
        yield block


def records(stream: BinaryIO, block: Block, codec: str, schema: Any) -> list[Any]:
    """Return the records of a block, whose bytes must be theirs to the last one; ``schema`` is a parsed one of an array of them."""
    back = stream.tell()
    stream.seek(block.start)
    try:
        data = _CODECS[codec](_exactly(stream, block.size))
        # A block is stored as an array is, but for the count before it and the zero behind it.
        array = BytesIO((_written(block.count) + data if block.count else data) + b"\0")
        found: list[Any] = fastavro().schemaless_reader(array, schema, None)
        if len(found) != block.count or array.read(1):
            raise Damaged("more bytes than records")
    # What the library raises for damaged bytes is of many types: the bytes decide.
    except Exception as error:
        raise Damaged(f"the records of the block at byte {block.start} cannot be read ({error or type(error).__name__})") from error
    stream.seek(back)
    return found


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size) if size >= 0 else b""
    if size < 0 or len(data) < size:
        raise Damaged("it is cut off or damaged")
    return data


def _long(stream: BinaryIO) -> int:
    number = 0
    for place in range(_LONG_BYTES):
        byte = _exactly(stream, 1)[0]
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1)
    raise Damaged("a number in it has no end")


def _written(count: int) -> bytes:
    number, data = count << 1, bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    found = stream.decompress(data) + stream.flush()
    # Some writers, fastavro among them, leave the first bytes of zlib's checksum behind the data.
    if not stream.eof or not zlib.adler32(found).to_bytes(4, "big").startswith(stream.unused_data):
        raise Damaged("compressed data that does not end where it should, or has another checksum")
    return found


def _unsnapped(data: bytes) -> bytes:
    found = bytes(import_module("cramjam").snappy.decompress_raw(data[:-4]))
    if zlib.crc32(found) != int.from_bytes(data[-4:], "big"):
        raise Damaged("another checksum than the one stored")
    return found


_CODECS: dict[str, Callable[[bytes], bytes]] = {"null": bytes, "deflate": _inflated, "snappy": _unsnapped}


PATHS = "paths"
_BATCH = 10_000


def meant(found: Header) -> Meaning:
    """Return what the schema in a header means: always a record."""
    named: dict[str, Any] = {}
    try:
        schema = fastavro().parse_schema(found.schema, named_schemas=named)
        kind = meaning(schema, named)
    except (fastavro().schema.SchemaParseException, fastavro().schema.UnknownType, KeyError, TypeError, ValueError) as error:
        raise Damaged(f"the schema in its header is not one of Avro ({error})") from error
    if not isinstance(kind.type, T.StructType):
        raise Damaged("its schema is not a record, so it has no columns; write records")
    return kind


class AvroRows(DataSource):
    """The records of the files in the option ``paths`` (a JSON list of pairs: a path, and the one to open), and the path of each."""

    @classmethod
    def name(cls) -> str:
        """Return the name under which Spark knows it."""
        return "tidemill_avro"

    def reader(self, schema: T.StructType) -> DataSourceReader:
        """Return the reader of the files."""
        return AvroReader(json.loads(self.options[PATHS]), schema)


class AvroReader(DataSourceReader):
    """Reads a file in each partition; what is wrong with one is raised with its path."""

    def __init__(self, paths: list[tuple[str, str]], schema: T.StructType) -> None:
        """Keep which files there are, and their schema: the record and ``_source_file``."""
        self.paths = paths
        self.schema = schema

    def partitions(self) -> list[InputPartition]:
        """Return a partition for each file."""
        return [InputPartition(path) for path in self.paths]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Yield the records of a file."""
        record, path = to_arrow_schema(self.schema, timezone="UTC")
        try:
            source, readable = partition.value
            for rows in _batches(readable):
                columns = [pa.array(rows, record.type), pa.array([source] * len(rows), path.type)]
                yield pa.RecordBatch.from_arrays(columns, names=[record.name, path.name])
        except (Damaged, pa.ArrowException, OverflowError) as error:
            # The condition in brackets is what the sentence is found by on the other side, below the worker's stack.
            raise Damaged(f"[DAMAGED_AVRO_FILE] {error}") from error


def _batches(path: str) -> Iterator[list[Any]]:
    with Path(path).open("rb") as stream:
        found = header(stream)
        convert = meant(found).convert or (lambda record: record)
        schema = fastavro().parse_schema({"type": "array", "items": without_logical(found.schema)})
        for block in blocks(stream, Path(path).stat().st_size, found.sync):
            rows = [convert(record) for record in records(stream, block, found.codec, schema)]
            for start in range(0, len(rows), _BATCH):
                yield rows[start : start + _BATCH]


class AvroFiles:
    """Avro files: every row is a record, and good; damage shows in the file as a whole.

    Dates, instants, decimals and UUIDs are what their logical types say; times of day stay numbers. A union of several types is JSON.
    Only snappy blocks carry a checksum: a flipped bit in others shows where it breaks their structure, else it is another value.
    """

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the columns of all files; where two disagree on one, the wider type."""
        return inferred(*_shapes(files))

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        checked_options(source, ())
        shapes, bad = _shapes(files)
        spark.dataSource.register(AvroRows)

        def frame_of(shape: Shape) -> DataFrame:
            columns = T.StructType([T.StructField(RECORD, shape.raw), T.StructField(SOURCE_FILE, T.StringType())])
            paths = json.dumps([(file.path, file.readable) for file in shape.files])
            return spark.read.format(AvroRows.name()).schema(columns).option(PATHS, paths).load()

        return matched_records(shapes, bad, schema, frame_of)


def _shapes(files: Sequence[SourceFile]) -> tuple[list[Shape], dict[str, str]]:
    """Return the files grouped by schema, and the reason for each that is not a whole container."""
    fastavro()
    shapes: dict[str, Shape] = {}
    bad = {}
    for file in files:
        try:
            types = _types(file)
            shapes.setdefault(types.json(), Shape(types, types)).files.append(file)
        except (OSError, Damaged) as error:
            bad[file.path] = f"it is not a readable Avro file: {error}"
    return list(shapes.values()), bad


def _types(file: SourceFile) -> T.StructType:
    """Return the columns of a file, all of whose blocks are there."""
    if not file.is_local:
        raise Damaged("Avro is read from this machine's file system alone; copy the file there")
    with Path(file.readable).open("rb") as stream:
        found = header(stream)
        kind = meant(found).type
        for _ in blocks(stream, file.size, found.sync):
            pass
    assert isinstance(kind, T.StructType)
    return kind
