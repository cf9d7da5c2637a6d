"""Text files: each physical line is a record, or each file with ``wholetext``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.sources.encodings import TextForm, files_by_form
from tidemill.sources.files import SourceFile
from tidemill.sources.line_numbers import locate, numbered
from tidemill.sources.lines import HAS_INVALID_BYTES, LINE, as_text, has_nul, legible, raw_lines
from tidemill.sources.options import checked_options, is_on
from tidemill.sources.record_limit import OPTION, refuse_long_records
from tidemill.sources.records import IS_HEADER, RAW, RULES, SOURCE_LINE, Records, broken, rule
from tidemill.spec.models import Source

OPTIONS = ("encoding", "lineSep", "wholetext", OPTION)
COLUMN = "value"


class TextFiles:
    """Text files: one column, ``value``, the text of a line without its line end; an empty line is a record too.

    A record is refused for ``invalid_bytes`` and ``nul``.
    """

    takes_empty_files = True

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the one column that text has."""
        return T.StructType([T.StructField(COLUMN, T.StringType())])

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        if [part.dataType for part in schema.fields] != [T.StringType()]:
            raise SourceError("`schema` of a text source is one STRING column; leave it out, or write `value STRING`")
        options = checked_options(source, OPTIONS)
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
