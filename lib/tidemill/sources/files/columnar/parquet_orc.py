"""Read Parquet and ORC files: columns map by name; a file whose types do not fit is bad as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import SOURCE_FILE
from tidemill.columns import column
from tidemill.sources.files.columnar import Parquet
from tidemill.sources.files.columnar.shapes import RECORD, Shape, TypedFiles, format_type, group_by_schema
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.records import source_file

_NANOS_AS_LONG = "spark.sql.legacy.parquet.nanosAsLong"
_PARQUET_OPTIONS = {
    "ignoreCorruptFiles": "false",
    "ignoreMissingFiles": "false",
    # By default Spark does not verify the checksums of pages: a flipped bit would be another value.
    "parquet.page.verify-checksum.enabled": "true",
}


class ParquetFiles(TypedFiles):
    """Parquet files: every row is a valid record; damage makes the whole file bad.

    Timestamps in nanoseconds are truncated to microseconds.
    """

    option_names = Parquet.option_names

    def find_shapes(self, spark: SparkSession, files: Sequence[SourceFile]) -> tuple[list[Shape], dict[str, str]]:
        """Group the files by schema."""
        spark.conf.set(_NANOS_AS_LONG, "true")  # otherwise Spark rejects files that pandas writes

        def look(file: SourceFile) -> tuple[str, Callable[[], Shape]]:
            def raw() -> T.StructType:
                return spark.read.parquet(file.uri).schema

            if file.is_local:
                footer = pq.read_schema(file.readable)
                return str(footer.remove_metadata()), lambda: Shape(types := raw(), _logical_fields(types, footer))
            types = raw()
            return types.json(), lambda: Shape(types, types)

        return group_by_schema(files, "Parquet", look)

    def read_shape(self, spark: SparkSession, shape: Shape, options: Mapping[str, str]) -> DataFrame:
        """Return the records of a shape, with logical types."""
        reader = spark.read.schema(shape.raw).options(**options).options(**_PARQUET_OPTIONS)
        values = [
            _decode_value(column(raw.name), raw.dataType, kind.dataType).alias(raw.name)
            for raw, kind in zip(shape.raw, shape.types, strict=True)
        ]
        frame = reader.parquet(*[file.uri for file in shape.files])
        return frame.select(F.struct(*values).alias(RECORD), source_file(shape.files).alias(SOURCE_FILE))


def _logical_fields(raw: T.StructType, footer_type: pa.Schema | pa.StructType) -> T.StructType:
    parts = {part.name: part.type for part in footer_type}
    return T.StructType([T.StructField(part.name, _logical_type(part.dataType, parts[part.name])) for part in raw.fields])


def _logical_type(raw: T.DataType, footer_type: pa.DataType) -> T.DataType:
    """Return the logical type where Spark reads LONG (timestamps in nanoseconds) or INT (columns of nulls only)."""
    if pa.types.is_timestamp(footer_type) and footer_type.unit == "ns":
        return T.TimestampNTZType() if footer_type.tz is None else T.TimestampType()
    if pa.types.is_null(footer_type):
        return T.NullType()
    if isinstance(raw, T.StructType) and pa.types.is_struct(footer_type):
        return _logical_fields(raw, footer_type)
    if isinstance(raw, T.ArrayType) and (pa.types.is_list(footer_type) or pa.types.is_large_list(footer_type)):
        return T.ArrayType(_logical_type(raw.elementType, footer_type.value_type))
    if isinstance(raw, T.MapType) and pa.types.is_map(footer_type):
        return T.MapType(_logical_type(raw.keyType, footer_type.key_type), _logical_type(raw.valueType, footer_type.item_type))
    return raw


def _decode_value(value: Column, raw: T.DataType, kind: T.DataType) -> Column:
    """Return the value as its logical type; timestamps in nanoseconds are truncated to microseconds."""
    if format_type(raw) == format_type(kind):
        return value
    if isinstance(raw, T.StructType) and isinstance(kind, T.StructType):
        fields = [_decode_value(value.getField(one.name), one.dataType, other.dataType) for one, other in zip(raw, kind, strict=True)]
        return F.when(value.isNotNull(), F.struct(*[part.alias(name) for part, name in zip(fields, raw.names, strict=True)]))
    if isinstance(raw, T.ArrayType) and isinstance(kind, T.ArrayType):
        inner, outer = raw.elementType, kind.elementType
        return F.transform(value, lambda element: _decode_value(element, inner, outer))
    if isinstance(raw, T.MapType) and isinstance(kind, T.MapType):
        keys, values = (raw.keyType, kind.keyType), (raw.valueType, kind.valueType)
        return F.transform_values(
            F.transform_keys(value, lambda key, _: _decode_value(key, *keys)), lambda _, each: _decode_value(each, *values)
        )
    if isinstance(kind, T.NullType):
        return F.lit(None).cast(kind)
    # Integer arithmetic, because DOUBLE holds nanoseconds since 1970 only to a precision of about 256.
    micros = F.call_function("div", value - F.pmod(value, F.lit(1000)), F.lit(1000))
    return F.timestamp_micros(micros).cast(kind)


_ORC_OPTIONS = {"ignoreCorruptFiles": "false", "ignoreMissingFiles": "false"}


class OrcFiles(TypedFiles):
    """ORC files: every row is a valid record; damage makes the whole file bad.

    Spark reads a ``timestamp`` without a zone as local time of the Java process; a ``timestamp with local time zone`` is exact. ORC has
    no checksums: most flipped bits inside a stripe give another value and no error.
    """

    def find_shapes(self, spark: SparkSession, files: Sequence[SourceFile]) -> tuple[list[Shape], dict[str, str]]:
        """Group the files by schema."""

        def look(file: SourceFile) -> tuple[str, Callable[[], Shape]]:
            def shape() -> Shape:
                types = spark.read.orc(file.uri).schema
                return Shape(types, types)

            if file.is_local:
                # Spark names types in the metadata of columns, so the metadata is part of the schema's key.
                return orc.ORCFile(file.readable).schema.to_string(show_field_metadata=True), shape
            remote = shape()
            return remote.types.json(), lambda: remote

        return group_by_schema(files, "ORC", look)

    def read_shape(self, spark: SparkSession, shape: Shape, options: Mapping[str, str]) -> DataFrame:
        """Return the records of a shape."""
        frame = spark.read.schema(shape.raw).options(**_ORC_OPTIONS).orc([file.uri for file in shape.files])
        record = F.struct(*[column(name) for name in shape.raw.names])
        return frame.select(record.alias(RECORD), source_file(shape.files).alias(SOURCE_FILE))
