"""Read text files, one record per line, and binary files, one record per file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import SourceError
from tidemill.sources.files.encodings import TextForm, group_by_text_form
from tidemill.sources.files.lines import (
    HAS_INVALID_BYTES,
    LINE,
    add_line_numbers,
    decode_lines,
    has_nul,
    make_locator,
    read_raw_lines,
    reject_long_records,
    replace_invalid_bytes,
)
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.kinds import Text
from tidemill.sources.options import is_on, resolve_options
from tidemill.sources.records import SOURCE_LINE, Records, collect_rules, no_rules, record_columns, row_hash, rule, source_file
from tidemill.spec.models import Source

COLUMN = "value"


class TextFiles:
    """Text files: one column, ``value``, the text of a line without its line end; empty lines are records too.

    Rules that reject a record: ``invalid_bytes``, ``nul``.
    """

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the one column of text."""
        return T.StructType([T.StructField(COLUMN, T.StringType())])

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        if [part.dataType for part in schema.fields] != [T.StringType()]:
            raise SourceError("`schema` of a text source is one STRING column; leave it out, or write `value STRING`")
        options = resolve_options(source, Text.option_names)
        is_whole = is_on(options, "wholetext")
        forms, bad = group_by_text_form(spark, files, options, lambda file, form: reject_long_records(file, form, options, whole=is_whole))
        frames = [
            _select_records(_read_text_lines(spark, form_files, form, is_whole=is_whole), schema.names[0])
            for form, form_files in forms.items()
        ]

        def number_lines(wanted: list[SourceFile]) -> DataFrame:
            chosen = {form: [file for file in form_files if file in wanted] for form, form_files in forms.items()}
            lines = [_read_text_lines(spark, group, form, is_whole=False, with_numbers=True) for form, group in chosen.items() if group]
            return reduce(DataFrame.unionByName, lines)

        frame = reduce(DataFrame.unionByName, frames) if frames else None
        return Records(frame, bad, locate=make_locator(files, number_lines) if frames and not is_whole else None)


def _read_text_lines(
    spark: SparkSession, files: Sequence[SourceFile], form: TextForm, *, is_whole: bool, with_numbers: bool = False
) -> DataFrame:
    raw = read_raw_lines(spark, files, form, whole=is_whole, with_places=with_numbers)
    if with_numbers:
        return decode_lines(spark, add_line_numbers(raw), form, SOURCE_LINE, keep_empty=True)
    return decode_lines(spark, raw, form, keep_empty=True)


def _select_records(lines: DataFrame, name: str) -> DataFrame:
    line = F.col(LINE)
    rules = collect_rules([rule("invalid_bytes", F.col(HAS_INVALID_BYTES)), rule("nul", has_nul(line))])
    text = replace_invalid_bytes(line)
    return lines.select(text.alias(name), *record_columns(text, rules=rules))


SCHEMA = {"path": T.StringType(), "modificationTime": T.TimestampType(), "length": T.LongType(), "content": T.BinaryType()}


class BinaryFiles:
    """Files of any kind: ``path``, ``modificationTime``, ``length`` in bytes and ``content``. Every file is a valid record."""

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the columns of files."""
        return T.StructType([T.StructField(name, kind) for name, kind in SCHEMA.items()])

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        resolve_options(source, ())
        if {part.name: part.dataType for part in schema.fields} != SCHEMA:
            raise SourceError(f"the columns of a binaryFile source are {', '.join(SCHEMA)}; leave `schema:` out")
        reader = spark.read.format("binaryFile").options(ignoreCorruptFiles="false", ignoreMissingFiles="false")
        origin = source_file(files)
        is_linked = origin.isin([file.path for file in files if file.link])
        path = F.when(is_linked, F.concat(F.lit("file:"), origin)).otherwise(F.col("path"))
        raw = F.to_json(F.struct(*[name for name in SCHEMA if name != "content"]))
        added = record_columns(raw, rules=no_rules(), source=origin, digest=row_hash(F.col("content")))
        return Records(reader.load([file.uri for file in files]).withColumn("path", path).select(*SCHEMA, *added))
