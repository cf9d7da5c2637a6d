"""Parquet files: columns map by name; a file whose types do not fit is bad as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import SourceError
from tidemill.sources.files import SourceFile
from tidemill.sources.options import checked_options
from tidemill.sources.records import IS_HEADER, RAW, RESCUED, ROW_HASH, RULES, SOURCE_FILE, Records, column, no_rules, row_hash, source_file
from tidemill.sources.schemas import checked_schema, is_wider, matched_names, table_names, widest
from tidemill.spark_errors import sentence
from tidemill.spec.models import Source

OPTIONS = ("datetimeRebaseMode", "int96RebaseMode")
_NANOS_AS_LONG = "spark.sql.legacy.parquet.nanosAsLong"


@dataclass(frozen=True)
class _Group:
    """Files with the same schema; ``nanos`` are the columns of nanosecond instants, true where they are in UTC."""

    schema: T.StructType
    nanos: dict[str, bool]
    files: list[SourceFile] = field(default_factory=list)

    def type_of(self, part: T.StructField) -> T.DataType:
        if part.name in self.nanos:
            return T.TimestampType() if self.nanos[part.name] else T.TimestampNTZType()
        return part.dataType

    def value(self, part: T.StructField) -> Column:
        """Return the column; Spark has no nanoseconds, so these instants are cut to microseconds."""
        if part.name not in self.nanos:
            return column(part.name)
        return F.timestamp_micros(F.floor(column(part.name) / 1000)).cast(self.type_of(part))


class ParquetFiles:
    """Parquet files: every row is a record, and good; damage shows in the file as a whole."""

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the columns of all files; where two disagree on one, the wider type."""
        groups, bad = _groups(spark, files)
        if not groups:
            raise SourceError("; ".join(f"{path}: {reason}" for path, reason in bad.items()))
        found: dict[str, T.DataType] = {}
        for group in groups:
            for name, part in zip(table_names(group.schema.names), group.schema.fields, strict=True):
                kind = group.type_of(part)
                found[name] = widest(found[name], kind) if name in found else kind
        return checked_schema([T.StructField(name, kind) for name, kind in found.items()])

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        options = checked_options(source, OPTIONS)
        groups, bad = _groups(spark, files)
        frames, notes = [], []
        for group in groups:
            matched = matched_names(group.schema.names, schema)
            fault = _fault(group, matched, schema)
            if fault:
                bad |= {file.path: fault for file in group.files}
                continue
            missing = [name for name in schema.names if name not in matched]
            if missing:
                notes.append(f"{group.files[0].path}: no column {', '.join(missing)}; null there")
            frames.append(_records(spark, group, matched, schema, options))
        return Records(reduce(DataFrame.unionByName, frames) if frames else None, bad, tuple(notes))


def _groups(spark: SparkSession, files: Sequence[SourceFile]) -> tuple[list[_Group], dict[str, str]]:
    """Return the files grouped by schema, and the reason for each whose footer cannot be read."""
    spark.conf.set(_NANOS_AS_LONG, "true")  # without it Spark refuses the files that pandas writes
    groups: dict[str, _Group] = {}
    bad = {}
    for file in files:
        try:
            footer = pq.read_schema(file.path) if file.is_local else None
            shape = str(footer.remove_metadata()) if footer is not None else spark.read.parquet(file.uri).schema.json()
            if shape not in groups:
                groups[shape] = _Group(spark.read.parquet(file.uri).schema, _nanoseconds(footer))
            groups[shape].files.append(file)
        except (OSError, pa.ArrowException) as error:
            bad[file.path] = f"it is not a readable Parquet file: {str(error).splitlines()[0]}"
        except (PySparkException, Py4JJavaError) as error:
            bad[file.path] = f"it is not a readable Parquet file: {sentence(error)}"
    return list(groups.values()), bad


def _nanoseconds(footer: pa.Schema | None) -> dict[str, bool]:
    if footer is None:
        return {}
    return {part.name: part.type.tz is not None for part in footer if pa.types.is_timestamp(part.type) and part.type.unit == "ns"}


def _fault(group: _Group, matched: Sequence[str | None], schema: T.StructType) -> str | None:
    """Return why the files do not fit the schema, None where they do."""
    if not any(matched):
        return f"none of its columns ({', '.join(group.schema.names[:5])}) is one of the source's ({', '.join(schema.names[:5])})"
    for part, name in zip(group.schema.fields, matched, strict=True):
        if name is not None and not is_wider(group.type_of(part), schema[name].dataType):
            found, wanted = group.type_of(part).simpleString(), schema[name].dataType.simpleString()
            return f"column {part.name!r} is {found.upper()}, expected {wanted.upper()}; correct the file or `schema:`"
    return None


def _records(spark: SparkSession, group: _Group, matched: Sequence[str | None], schema: T.StructType, options: dict[str, str]) -> DataFrame:
    reader = spark.read.schema(group.schema).options(**options).options(ignoreCorruptFiles="false", ignoreMissingFiles="false")
    found = {name: group.value(part) for part, name in zip(group.schema.fields, matched, strict=True) if name is not None}
    unknown = [group.value(part).alias(part.name) for part, name in zip(group.schema.fields, matched, strict=True) if name is None]
    keep_nulls = {"ignoreNullFields": "false"}
    rescued = F.to_json(F.struct(*unknown), keep_nulls) if unknown else F.lit(None).cast("string")
    everything = F.to_json(F.struct(*[column(name) for name in group.schema.names]), keep_nulls)
    return reader.parquet(*[file.uri for file in group.files]).select(
        *[found.get(part.name, F.lit(None)).cast(part.dataType).alias(part.name) for part in schema.fields],
        source_file().alias(SOURCE_FILE),
        row_hash(everything).alias(ROW_HASH),
        rescued.alias(RESCUED),
        F.lit(None).cast("string").alias(RAW),
        no_rules().alias(RULES),
        F.lit(False).alias(IS_HEADER),
    )
