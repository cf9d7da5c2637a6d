"""Read Avro files: columns map by name; a file whose types do not fit, or that is damaged, is bad as a whole."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from tidemill.sources.files.columnar.avro_types import ConvertedType, resolve_type, without_logical
from tidemill.sources.files.columnar.shapes import RECORD, Shape, TypedFiles
from tidemill.sources.files.listing import SourceFile

MAGIC = b"Obj\x01"
_SYNC = 16
_LONG_BYTES = 10


class DamagedAvro(ValueError):
    """The file is damaged or cannot be read; the message says why."""


@dataclass(frozen=True)
class ContainerHeader:
    """The header of a container file."""

    schema: Any
    codec: str
    sync: bytes


@dataclass(frozen=True)
class Block:
    """A block: the number of its records, and the position and size of its data."""

    count: int
    start: int
    size: int


def import_fastavro() -> Any:
    """Import the library that decodes records.

    Raises:
        SetupError: it is not installed.
    """
    try:
        return import_module("fastavro")
    except ImportError as error:
        raise SetupError("Avro files need the package fastavro; install it: pip install 'tidemill[avro]'") from error


def read_header(stream: BinaryIO) -> ContainerHeader:
    """Read the header; the stream then stands behind it."""
    if stream.read(len(MAGIC)) != MAGIC:
        raise DamagedAvro("it does not begin as Avro files do")
    entries: dict[bytes, bytes] = {}
    while count := _read_long(stream):
        if count < 0:
            count = -count
            _read_long(stream)
        for _ in range(count):
            name = _read_exactly(stream, _read_long(stream))
            entries[name] = _read_exactly(stream, _read_long(stream))
    try:
        schema = json.loads(entries.get(b"avro.schema", b""))
    except ValueError as error:
        raise DamagedAvro("the schema in its header is not JSON") from error
    codec = entries.get(b"avro.codec", b"null").decode("latin-1")
    if codec not in _CODECS:
        raise DamagedAvro(f"its codec is {codec!r}, which is not read; write it with one of {', '.join(_CODECS)}")
    if codec == "snappy" and find_spec("cramjam") is None:
        raise DamagedAvro("it is compressed with snappy; install cramjam (pip install cramjam), or write it with codec deflate")
    return ContainerHeader(schema, codec, _read_exactly(stream, _SYNC))


def read_blocks(stream: BinaryIO, size: int, sync: bytes) -> Iterator[Block]:
    """Yield the blocks from the stream's position to the end of the file, which must be the end of a block."""
    while (at := stream.tell()) < size:
        count, length = _read_long(stream), _read_long(stream)
        block = Block(count, stream.tell(), length)
        if count < 0 or length < 0 or block.start + length + _SYNC > size:
            raise DamagedAvro(f"the block at byte {at} is cut off or damaged")
        stream.seek(length, 1)
        if _read_exactly(stream, _SYNC) != sync:
            raise DamagedAvro(f"the block at byte {at} does not end with the file's sync marker")
        yield block


def read_records(stream: BinaryIO, block: Block, codec: str, schema: Any) -> list[Any]:
    """Read the records of a block, which must take all of its bytes; ``schema`` is the parsed schema of an array of records."""
    position = stream.tell()
    stream.seek(block.start)
    try:
        data = _CODECS[codec](_read_exactly(stream, block.size))
        # With its count before and a zero behind, a block is an array.
        array = BytesIO((_encode_count(block.count) + data if block.count else data) + b"\0")
        rows: list[Any] = import_fastavro().schemaless_reader(array, schema, None)
        if len(rows) != block.count or array.read(1):
            raise DamagedAvro("more bytes than records")
    # For damaged bytes the library raises errors of many types.
    except Exception as error:
        raise DamagedAvro(f"the records of the block at byte {block.start} cannot be read ({error or type(error).__name__})") from error
    stream.seek(position)
    return rows


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size) if size >= 0 else b""
    if size < 0 or len(data) < size:
        raise DamagedAvro("it is cut off or damaged")
    return data


def _read_long(stream: BinaryIO) -> int:
    number = 0
    for place in range(_LONG_BYTES):
        byte = _read_exactly(stream, 1)[0]
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1)
    raise DamagedAvro("a number in it has no end")


def _encode_count(count: int) -> bytes:
    number, data = count << 1, bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def _inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = stream.decompress(data) + stream.flush()
    # Some writers, such as fastavro, leave the first bytes of zlib's checksum behind the data.
    if not stream.eof or not zlib.adler32(inflated).to_bytes(4, "big").startswith(stream.unused_data):
        raise DamagedAvro("compressed data that does not end where it should, or has another checksum")
    return inflated


def _decompress_snappy(data: bytes) -> bytes:
    decompressed = bytes(import_module("cramjam").snappy.decompress_raw(data[:-4]))
    if zlib.crc32(decompressed) != int.from_bytes(data[-4:], "big"):
        raise DamagedAvro("another checksum than the one stored")
    return decompressed


_CODECS: dict[str, Callable[[bytes], bytes]] = {"null": bytes, "deflate": _inflate, "snappy": _decompress_snappy}


PATHS = "paths"
_BATCH = 10_000


def resolve_schema(container: ContainerHeader) -> ConvertedType:
    """Return the Spark type of the schema in a header, which must be a record."""
    named: dict[str, Any] = {}
    try:
        schema = import_fastavro().parse_schema(container.schema, named_schemas=named)
        kind = resolve_type(schema, named)
    except (import_fastavro().schema.SchemaParseException, import_fastavro().schema.UnknownType, KeyError, TypeError, ValueError) as error:
        raise DamagedAvro(f"the schema in its header is not one of Avro ({error})") from error
    if not isinstance(kind.type, T.StructType):
        raise DamagedAvro("its schema is not a record, so it has no columns; write records")
    return kind


class AvroRows(DataSource):
    """The records of files with their paths; the option ``paths`` is a JSON list of pairs (path, path to open)."""

    @classmethod
    def name(cls) -> str:
        """Return the name of the source in Spark."""
        return "tidemill_avro"

    def reader(self, schema: T.StructType) -> DataSourceReader:
        """Return the reader of the files."""
        return AvroReader(json.loads(self.options[PATHS]), schema)


class AvroReader(DataSourceReader):
    """Reads one file per partition."""

    def __init__(self, paths: list[tuple[str, str]], schema: T.StructType) -> None:
        """Take the files, and the schema: the record and ``_source_file``."""
        self.paths = paths
        self.schema = schema

    def partitions(self) -> list[InputPartition]:
        """Return one partition per file."""
        return [InputPartition(path) for path in self.paths]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Yield the records of a file."""
        record, path = to_arrow_schema(self.schema, timezone="UTC")
        try:
            source, readable = partition.value
            for rows in _read_batches(readable):
                columns = [pa.array(rows, record.type), pa.array([source] * len(rows), path.type)]
                yield pa.RecordBatch.from_arrays(columns, names=[record.name, path.name])
        except (DamagedAvro, pa.ArrowException, OverflowError) as error:
            # The driver finds the message by the condition in brackets, below the worker's stack trace.
            raise DamagedAvro(f"[DAMAGED_AVRO_FILE] {error}") from error


def _read_batches(path: str) -> Iterator[list[Any]]:
    with Path(path).open("rb") as stream:
        container = read_header(stream)
        convert = resolve_schema(container).convert or (lambda record: record)
        schema = import_fastavro().parse_schema({"type": "array", "items": without_logical(container.schema)})
        for block in read_blocks(stream, Path(path).stat().st_size, container.sync):
            rows = [convert(record) for record in read_records(stream, block, container.codec, schema)]
            for start in range(0, len(rows), _BATCH):
                yield rows[start : start + _BATCH]


class AvroFiles(TypedFiles):
    """Avro files: every row is a valid record; damage makes the whole file bad.

    Logical types of dates, timestamps, decimals and UUIDs are applied; times of day stay numbers. A union of several types is JSON. Only
    snappy blocks have a checksum: in others a flipped bit is detected if it breaks the structure, else it is another value.
    """

    def find_shapes(self, spark: SparkSession, files: Sequence[SourceFile]) -> tuple[list[Shape], dict[str, str]]:
        """Group the files by schema, after a check that all are complete."""
        import_fastavro()
        shapes: dict[str, Shape] = {}
        bad = {}
        for file in files:
            try:
                types = _read_types(file)
                shapes.setdefault(types.json(), Shape(types, types)).files.append(file)
            except (OSError, DamagedAvro) as error:
                bad[file.path] = f"it is not a readable Avro file: {error}"
        return list(shapes.values()), bad

    def read_shape(self, spark: SparkSession, shape: Shape, options: Mapping[str, str]) -> DataFrame:
        """Return the records of a shape."""
        spark.dataSource.register(AvroRows)
        columns = T.StructType([T.StructField(RECORD, shape.raw), T.StructField(SOURCE_FILE, T.StringType())])
        paths = json.dumps([(file.path, file.readable) for file in shape.files])
        return spark.read.format(AvroRows.name()).schema(columns).option(PATHS, paths).load()


def _read_types(file: SourceFile) -> T.StructType:
    """Return the columns of a file, after a check that all of its blocks are complete."""
    if not file.is_local:
        raise DamagedAvro("Avro is read from this machine's file system alone; copy the file there")
    with Path(file.readable).open("rb") as stream:
        container = read_header(stream)
        kind = resolve_schema(container).type
        for _ in read_blocks(stream, file.size, container.sync):
            pass
    assert isinstance(kind, T.StructType)
    return kind
