"""JSON files: each line holds one object, a record; or, with ``multiLine``, each file one array of objects, or objects in a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import ROW_HASH, SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.sources.encodings import files_by_form
from tidemill.sources.files import SourceFile
from tidemill.sources.json_documents import document_records
from tidemill.sources.json_numbers import exact_numbers
from tidemill.sources.json_records import CORRUPT, plain_records, records_of_lines
from tidemill.sources.line_numbers import locate
from tidemill.sources.lines import HAS_INVALID_BYTES, LINE, ROWS, read_lines
from tidemill.sources.options import TEXT, checked_options, is_on
from tidemill.sources.quick import Quick
from tidemill.sources.record_limit import refuse_long_records
from tidemill.sources.records import IS_HEADER, SOURCE_LINE, Records
from tidemill.sources.schemas import NothingToInfer, checked_schema
from tidemill.spec.models import Source
from tidemill.spec.topics import JSON_OPTIONS

OPTIONS = (
    *TEXT,
    *(name for name in JSON_OPTIONS if name not in TEXT),
)
STRICT = {"allowSingleQuotes": "false", "allowNonNumericNumbers": "false"}
"""JSON as the standard has it, where Spark is lenient."""


class JsonFiles:
    """JSON files.

    A really empty line is no record; every other line is one. A record is refused for: ``not_an_object``, ``not_json`` (it does not
    parse, or something follows the object), ``duplicate_key``, ``cast:<column>`` (the value has another type; a number in a STRING
    column is kept as its text), ``not_finite:<column>``, ``nul``, ``invalid_bytes``, ``unreadable``. Keys that the schema lacks, or
    that differ from a column's name in case, go to ``_rescued`` with their values.

    With ``multiLine: true`` a file is a whole document: the elements of an array are a record each, and so are objects one after
    another, where each begins on a line of its own. A document that is neither is one record, and refused.
    """

    tells_columns_by_record = True

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return types that keep the values of every record that parses."""
        options = _completed_options(source)
        lines, bad = _lines(spark, files, options)
        if lines is None:
            raise SourceError("; ".join(f"{path}: {reason}" for path, reason in bad.items()))
        fields = inferred_fields(spark, lines, options, source.timezone)
        if not fields:
            raise NothingToInfer(f"no JSON object in {files[0].path}" + (f" and {len(files) - 1} more" if len(files) > 1 else ""))
        return checked_schema(fields)

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        if not files:
            return Records(None)
        options = _completed_options(source)
        counted: list[Observation] = []
        lines, bad = _lines(spark, files, options, counted=counted)
        if lines is None:
            return Records(None, bad)

        def closely(records: DataFrame) -> DataFrame:
            text = records.select(LINE, HAS_INVALID_BYTES, SOURCE_FILE, ROW_HASH)
            return records_of_lines(text, schema, _line_options(options), source.timezone)

        quick: tuple[Quick, ...] = ()
        plain = None if is_on(options, "multiLine") else plain_records(lines, schema, _line_options(options), source.timezone)
        if plain is not None:
            quick = (Quick(plain, closely, lambda: sum(int(each.get[ROWS]) for each in counted)),)

        def with_lines(refused: DataFrame) -> DataFrame:
            def numbered(paths: Sequence[str]) -> DataFrame:
                wanted = set(paths)
                found, _ = _lines(spark, [file for file in files if file.path in wanted], options, with_numbers=True)
                assert found is not None
                return found.select(SOURCE_FILE, ROW_HASH, F.lit(False).alias(IS_HEADER), SOURCE_LINE)

            return locate(refused, numbered)

        return Records(closely(lines), bad, locate=with_lines, quick=quick)


def inferred_fields(spark: SparkSession, lines: DataFrame, options: Mapping[str, str], timezone: str) -> list[T.StructField]:
    """Return the columns of the lines (as of ``read_lines``) that parse, of types that keep their values; empty without an object."""
    text = lines.where(~F.col(HAS_INVALID_BYTES)).select(F.col(LINE).alias("value"))
    # The lines are text already, whatever the encoding of their file.
    options = {name: value for name, value in options.items() if name != "encoding"}
    reader = spark.read.options(**options).options(columnNameOfCorruptRecord=CORRUPT, timeZone=timezone)
    schema = T.StructType([part for part in reader.json(text).schema.fields if part.name != CORRUPT])
    return exact_numbers(text, schema).fields


def _completed_options(source: Source) -> dict[str, str]:
    """Return the options of the source."""
    return STRICT | checked_options(source, OPTIONS)


def _line_options(options: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in options.items() if name not in ("encoding", "lineSep", "multiLine")}


def _lines(
    spark: SparkSession,
    files: Sequence[SourceFile],
    options: Mapping[str, str],
    *,
    with_numbers: bool = False,
    counted: list[Observation] | None = None,
) -> tuple[DataFrame | None, dict[str, str]]:
    """Return the text of each record (None where no file can be read), and the reason for each file that cannot be.

    Where asked, ``counted`` gets what tells the number of records once they are read: one for each form of text.
    """
    whole = is_on(options, "multiLine")
    forms, bad = files_by_form(spark, files, options, lambda file, form: refuse_long_records(file, form, options, whole=whole))
    if not forms:
        return None, bad
    parts = []
    for form, found in forms.items():
        rows = None if counted is None else Observation()
        parts.append(read_lines(spark, found, form, whole=whole, with_numbers=with_numbers and not whole, counted=rows))
        if counted is not None and rows is not None:
            counted.append(rows)
    lines = reduce(DataFrame.unionByName, parts)
    return (document_records(lines, options, _line_options(options)) if whole else lines), bad
