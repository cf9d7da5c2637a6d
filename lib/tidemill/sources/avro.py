"""Avro files: columns map by name; a file whose types do not fit, or that is not whole, is bad as a whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from tidemill.column_names import SOURCE_FILE
from tidemill.sources.avro_container import Damaged, blocks, fastavro, header
from tidemill.sources.avro_rows import PATHS, AvroRows, meant
from tidemill.sources.columnar import RECORD, Shape, inferred, matched_records
from tidemill.sources.files import SourceFile
from tidemill.sources.options import checked_options
from tidemill.sources.records import Records
from tidemill.spec.models import Source


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
