"""ORC files: columns map by name; a file whose types do not fit is bad as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyarrow import orc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import SOURCE_FILE
from tidemill.columns import column
from tidemill.sources.files.columnar.base import RECORD, Shape, grouped, inferred, matched_records
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.options import checked_options
from tidemill.sources.records import Records, source_file
from tidemill.spec.models import Source

_READING = {"ignoreCorruptFiles": "false", "ignoreMissingFiles": "false"}


class OrcFiles:
    """ORC files: every row is a record, and good; damage shows in the file as a whole.

    Spark reads a ``timestamp`` without a zone as local time of the Java process; instants (``timestamp with local time zone``) are
    what they are. ORC has no checksums: most flipped bits inside a stripe give another value and no error, whatever the compression.
    """

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the columns of all files; where two disagree on one, the wider type."""
        return inferred(*_shapes(spark, files))

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        checked_options(source, ())
        shapes, bad = _shapes(spark, files)

        def frame_of(shape: Shape) -> DataFrame:
            reader = spark.read.schema(shape.raw).options(**_READING)
            origin = source_file(shape.files).alias(SOURCE_FILE)
            record = F.struct(*[column(name) for name in shape.raw.names])
            return reader.orc([file.uri for file in shape.files]).select(record.alias(RECORD), origin)

        return matched_records(shapes, bad, schema, frame_of)


def _shapes(spark: SparkSession, files: Sequence[SourceFile]) -> tuple[list[Shape], dict[str, str]]:
    def look(file: SourceFile) -> tuple[str, Callable[[], Shape]]:
        if file.is_local:
            # Spark names the types in the metadata of the columns, so that belongs to what tells schemas apart.
            written = orc.ORCFile(file.readable).schema.to_string(show_field_metadata=True)
            return written, lambda: _shape(spark.read.orc(file.uri).schema)
        types = spark.read.orc(file.uri).schema
        return types.json(), lambda: _shape(types)

    return grouped(files, "ORC", look)


def _shape(types: T.StructType) -> Shape:
    return Shape(types, types)
