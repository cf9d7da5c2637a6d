"""CSV whose quoted fields hold line ends: Spark's reader finds the records, which then are judged like single lines."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.sources.csv_fields import CORRUPT
from tidemill.sources.csv_groups import Group
from tidemill.sources.headers import read_header
from tidemill.sources.lines import HAS_INVALID_BYTES, LINE, read_lines
from tidemill.sources.options import is_on
from tidemill.sources.records import IS_HEADER, ROW_HASH, SOURCE_FILE, row_hash, source_file

_REPLACEMENT = "\ufffd"


def multiline_records(spark: SparkSession, group: Group, options: Mapping[str, str]) -> DataFrame:
    """Return a row for every record: its text in ``_line``, as Spark wrote the fields down again where it could parse them.

    Spark's reader shows invalid bytes only as U+FFFD, so a record that has one counts as damaged where its file has invalid bytes.
    """
    fields = [f"c{place}" for place in range(len(group.names) or _width(spark, group, options))]
    schema = T.StructType([T.StructField(name, T.StringType()) for name in (*fields, CORRUPT)])
    reader = spark.read.schema(schema).options(**options).options(mode="PERMISSIVE", columnNameOfCorruptRecord=CORRUPT)
    reader = reader.options(ignoreCorruptFiles="false", ignoreMissingFiles="false")
    records = reader.csv([file.uri for file in group.files]).select("*", source_file().alias(SOURCE_FILE))
    again = {name: value for name, value in options.items() if name in ("sep", "quote", "escape", "nullValue", "emptyValue")}
    text = F.coalesce(F.rtrim(F.col(CORRUPT), F.lit("\r\n")), F.to_csv(F.struct(*fields), again))
    damaged = _files_with_invalid_bytes(spark, group, options)
    is_damaged = F.col(SOURCE_FILE).isin(damaged) & F.contains(F.col(LINE), F.lit(_REPLACEMENT)) if damaged else F.lit(False)
    return records.select(text.alias(LINE), SOURCE_FILE).select(
        LINE,
        SOURCE_FILE,
        is_damaged.alias(HAS_INVALID_BYTES),
        row_hash(F.col(LINE).cast("binary")).alias(ROW_HASH),
        F.lit(False).alias(IS_HEADER),
    )


def _width(spark: SparkSession, group: Group, options: Mapping[str, str]) -> int:
    """Return the number of fields in the first line of files that have no header."""
    return len(read_header(spark, group.files[0], options).names) if not is_on(options, "header") else 0


def _files_with_invalid_bytes(spark: SparkSession, group: Group, options: Mapping[str, str]) -> list[str]:
    lines = read_lines(spark, group.files, options).where(HAS_INVALID_BYTES)
    return [row[SOURCE_FILE] for row in lines.select(SOURCE_FILE).distinct().collect()]
