"""Parquet and ORC files: columns map by name; a file whose types do not fit is bad as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import SOURCE_FILE
from tidemill.columns import column
from tidemill.sources.files.columnar import Parquet
from tidemill.sources.files.columnar.shapes import RECORD, Shape, grouped, inferred, matched_records, type_text
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.options import checked_options
from tidemill.sources.records import Records, source_file
from tidemill.spec.models import Source

_NANOS_AS_LONG = "spark.sql.legacy.parquet.nanosAsLong"
_READING = {
    "ignoreCorruptFiles": "false",
    "ignoreMissingFiles": "false",
    # Pages carry checksums, which Spark does not compare by itself: a flipped bit would be another value.
    "parquet.page.verify-checksum.enabled": "true",
}


class ParquetFiles:
    """Parquet files: every row is a record, and good; damage shows in the file as a whole.

    Instants in nanoseconds are cut to microseconds, which is what Spark has.
    """

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the columns of all files; where two disagree on one, the wider type."""
        return inferred(*_shapes(spark, files))

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        options = checked_options(source, Parquet.option_names)
        shapes, bad = _shapes(spark, files)

        def frame_of(shape: Shape) -> DataFrame:
            reader = spark.read.schema(shape.raw).options(**options).options(**_READING)
            values = [_decoded(column(raw.name), raw.dataType, kind.dataType) for raw, kind in zip(shape.raw, shape.types, strict=True)]
            origin = source_file(shape.files).alias(SOURCE_FILE)
            record = F.struct(*[value.alias(name) for value, name in zip(values, shape.raw.names, strict=True)])
            return reader.parquet(*[file.uri for file in shape.files]).select(record.alias(RECORD), origin)

        return matched_records(shapes, bad, schema, frame_of)


def _shapes(spark: SparkSession, files: Sequence[SourceFile]) -> tuple[list[Shape], dict[str, str]]:
    spark.conf.set(_NANOS_AS_LONG, "true")  # without it Spark refuses the files that pandas writes

    def look(file: SourceFile) -> tuple[str, Callable[[], Shape]]:
        def raw() -> T.StructType:
            return spark.read.parquet(file.uri).schema

        if file.is_local:
            footer = pq.read_schema(file.readable)
            return str(footer.remove_metadata()), lambda: _shape(raw(), footer)
        types = raw()
        return types.json(), lambda: Shape(types, types)

    return grouped(files, "Parquet", look)


def _shape(raw: T.StructType, footer: pa.Schema) -> Shape:
    return Shape(raw, _meant_fields(raw, footer))


def _meant_fields(raw: T.StructType, written: pa.Schema | pa.StructType) -> T.StructType:
    parts = {part.name: part.type for part in written}
    return T.StructType([T.StructField(part.name, _meant(part.dataType, parts[part.name])) for part in raw.fields])


def _meant(raw: T.DataType, written: pa.DataType) -> T.DataType:
    """Return what a type means that Spark reads as LONG (instants in nanoseconds) or INT (a column of nothing but nulls)."""
    if pa.types.is_timestamp(written) and written.unit == "ns":
        return T.TimestampNTZType() if written.tz is None else T.TimestampType()
    if pa.types.is_null(written):
        return T.NullType()
    if isinstance(raw, T.StructType) and pa.types.is_struct(written):
        return _meant_fields(raw, written)
    if isinstance(raw, T.ArrayType) and (pa.types.is_list(written) or pa.types.is_large_list(written)):
        return T.ArrayType(_meant(raw.elementType, written.value_type))
    if isinstance(raw, T.MapType) and pa.types.is_map(written):
        return T.MapType(_meant(raw.keyType, written.key_type), _meant(raw.valueType, written.item_type))
    return raw


def _decoded(value: Column, raw: T.DataType, kind: T.DataType) -> Column:
    """Return the value as what it means; Spark has no nanoseconds, so these instants are cut to microseconds."""
    if type_text(raw) == type_text(kind):
        return value
    if isinstance(raw, T.StructType) and isinstance(kind, T.StructType):
        fields = [_decoded(value.getField(one.name), one.dataType, other.dataType) for one, other in zip(raw, kind, strict=True)]
        return F.when(value.isNotNull(), F.struct(*[part.alias(name) for part, name in zip(fields, raw.names, strict=True)]))
    if isinstance(raw, T.ArrayType) and isinstance(kind, T.ArrayType):
        inner, outer = raw.elementType, kind.elementType
        return F.transform(value, lambda element: _decoded(element, inner, outer))
    if isinstance(raw, T.MapType) and isinstance(kind, T.MapType):
        keys, values = (raw.keyType, kind.keyType), (raw.valueType, kind.valueType)
        return F.transform_values(F.transform_keys(value, lambda key, _: _decoded(key, *keys)), lambda _, each: _decoded(each, *values))
    if isinstance(kind, T.NullType):
        return F.lit(None).cast(kind)
    # Whole numbers all the way: a double holds an instant in nanoseconds only to about 256 of them.
    micros = F.call_function("div", value - F.pmod(value, F.lit(1000)), F.lit(1000))
    return F.timestamp_micros(micros).cast(kind)


_ORC_READING = {"ignoreCorruptFiles": "false", "ignoreMissingFiles": "false"}


class OrcFiles:
    """ORC files: every row is a record, and good; damage shows in the file as a whole.

    Spark reads a ``timestamp`` without a zone as local time of the Java process; instants (``timestamp with local time zone``) are
    what they are. ORC has no checksums: most flipped bits inside a stripe give another value and no error, whatever the compression.
    """

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the columns of all files; where two disagree on one, the wider type."""
        return inferred(*_orc_shapes(spark, files))

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        checked_options(source, ())
        shapes, bad = _orc_shapes(spark, files)

        def frame_of(shape: Shape) -> DataFrame:
            reader = spark.read.schema(shape.raw).options(**_ORC_READING)
            origin = source_file(shape.files).alias(SOURCE_FILE)
            record = F.struct(*[column(name) for name in shape.raw.names])
            return reader.orc([file.uri for file in shape.files]).select(record.alias(RECORD), origin)

        return matched_records(shapes, bad, schema, frame_of)


def _orc_shapes(spark: SparkSession, files: Sequence[SourceFile]) -> tuple[list[Shape], dict[str, str]]:
    def look(file: SourceFile) -> tuple[str, Callable[[], Shape]]:
        if file.is_local:
            # Spark names the types in the metadata of the columns, so that belongs to what tells schemas apart.
            written = orc.ORCFile(file.readable).schema.to_string(show_field_metadata=True)
            return written, lambda: _orc_shape(spark.read.orc(file.uri).schema)
        types = spark.read.orc(file.uri).schema
        return types.json(), lambda: _orc_shape(types)

    return grouped(files, "ORC", look)


def _orc_shape(types: T.StructType) -> Shape:
    return Shape(types, types)
