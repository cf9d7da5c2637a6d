"""Avro files: columns map by name; a file whose types do not fit, or that is not whole, is bad as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.pandas.types import to_arrow_schema

from tidemill.column_names import SOURCE_FILE
from tidemill.sources.files.avro.container import Damaged, Header, blocks, fastavro, header, records
from tidemill.sources.files.avro.types import Meaning, meaning, without_logical
from tidemill.sources.files.columnar.base import RECORD, Shape, inferred, matched_records
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.options import checked_options
from tidemill.sources.records import Records
from tidemill.spec.models import Source

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
