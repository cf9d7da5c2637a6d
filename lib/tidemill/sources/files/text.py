"""Text files, one record per line, and binary files, one record per file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.sources.files.encodings import TextForm, files_by_form
from tidemill.sources.files.lines import (
    HAS_INVALID_BYTES,
    LINE,
    as_text,
    has_nul,
    legible,
    locate,
    numbered,
    raw_lines,
    refuse_long_records,
)
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.kinds import Text
from tidemill.sources.options import checked_options, is_on
from tidemill.sources.records import IS_HEADER, RAW, RULES, SOURCE_LINE, Records, broken, no_rules, row_hash, rule, source_file
from tidemill.spec.models import Source

COLUMN = "value"


class TextFiles:
    """Text files: one column, ``value``, the text of a line without its line end; an empty line is a record too.

    A record is refused for ``invalid_bytes`` and ``nul``.
    """

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the one column that text has."""
        return T.StructType([T.StructField(COLUMN, T.StringType())])

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        if [part.dataType for part in schema.fields] != [T.StringType()]:
            raise SourceError("`schema` of a text source is one STRING column; leave it out, or write `value STRING`")
        options = checked_options(source, Text.option_names)
        is_whole = is_on(options, "wholetext")
        forms, bad = files_by_form(spark, files, options, lambda file, form: refuse_long_records(file, form, options, whole=is_whole))
        frames = [_records(_lines(spark, found, form, is_whole=is_whole), schema.names[0]) for form, found in forms.items()]

        def with_lines(refused: DataFrame) -> DataFrame:
            return locate(refused, lambda paths: _numbered(spark, forms, paths))

        frame = reduce(DataFrame.unionByName, frames) if frames else None
        return Records(frame, bad, locate=with_lines if frames and not is_whole else None)


def _lines(spark: SparkSession, files: Sequence[SourceFile], form: TextForm, *, is_whole: bool, with_numbers: bool = False) -> DataFrame:
    raw = raw_lines(spark, files, form, whole=is_whole, with_places=with_numbers)
    if with_numbers:
        return as_text(spark, numbered(raw), form, SOURCE_LINE, keep_empty=True)
    return as_text(spark, raw, form, keep_empty=True)


def _numbered(spark: SparkSession, forms: dict[TextForm, list[SourceFile]], paths: Sequence[str]) -> DataFrame:
    """Return file, hash and line of every line in the named files."""
    chosen = {form: [file for file in files if file.path in paths] for form, files in forms.items()}
    found = [_lines(spark, files, form, is_whole=False, with_numbers=True) for form, files in chosen.items() if files]
    lines = reduce(DataFrame.unionByName, found)
    return lines.select(SOURCE_FILE, ROW_HASH, F.lit(False).alias(IS_HEADER), SOURCE_LINE)


def _records(lines: DataFrame, name: str) -> DataFrame:
    line = F.col(LINE)
    rules = broken([rule("invalid_bytes", F.col(HAS_INVALID_BYTES)), rule("nul", has_nul(line))])
    return lines.select(
        legible(line).alias(name),
        SOURCE_FILE,
        ROW_HASH,
        F.lit(None).cast("string").alias(RESCUED),
        rules.alias(RULES),
        F.lit(False).alias(IS_HEADER),
        legible(line).alias(RAW),
    )


SCHEMA = {"path": T.StringType(), "modificationTime": T.TimestampType(), "length": T.LongType(), "content": T.BinaryType()}


class BinaryFiles:
    """Files of any kind: ``path``, ``modificationTime``, ``length`` in bytes and ``content``, as Spark names them.

    Every file is a record, and good; an empty one too.
    """

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the columns that every file has."""
        return T.StructType([T.StructField(name, kind) for name, kind in SCHEMA.items()])

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        checked_options(source, ())
        if {part.name: part.dataType for part in schema.fields} != SCHEMA:
            raise SourceError(f"the columns of a binaryFile source are {', '.join(SCHEMA)}; leave `schema:` out")
        reader = spark.read.format("binaryFile").options(ignoreCorruptFiles="false", ignoreMissingFiles="false")
        origin = source_file(files)
        is_linked = origin.isin([file.path for file in files if file.link])
        path = F.when(is_linked, F.concat(F.lit("file:"), origin)).otherwise(F.col("path"))
        frame = (
            reader.load([file.uri for file in files])
            .withColumn("path", path)
            .select(
                *SCHEMA,
                origin.alias(SOURCE_FILE),
                row_hash(F.col("content")).alias(ROW_HASH),
                F.lit(None).cast("string").alias(RESCUED),
                F.to_json(F.struct(*[name for name in SCHEMA if name != "content"])).alias(RAW),
                no_rules().alias(RULES),
                F.lit(False).alias(IS_HEADER),
            )
        )
        return Records(frame)
