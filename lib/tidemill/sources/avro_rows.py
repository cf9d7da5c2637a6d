"""A Python DataSource of Avro files with one schema: a partition a file, its records as Arrow batches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import types as T
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.pandas.types import to_arrow_schema

from tidemill.sources.avro_container import Damaged, Header, blocks, fastavro, header, records
from tidemill.sources.avro_types import Meaning, meaning, without_logical

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
