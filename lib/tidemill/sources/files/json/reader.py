"""JSON files: each line holds one object, a record; or, with ``multiLine``, each file one array of objects, or objects in a row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial, reduce

import pyarrow as pa
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import ROW_HASH, SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.sources.files.encodings import files_by_form
from tidemill.sources.files.json import Json
from tidemill.sources.files.json.documents import document_records
from tidemill.sources.files.json.records import CORRUPT, plain_records, records_of_lines
from tidemill.sources.files.lines import HAS_INVALID_BYTES, LINE, ROWS, locate, read_lines, refuse_long_records
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.options import checked_options, is_on
from tidemill.sources.records import IS_HEADER, SOURCE_LINE, Quick, Records
from tidemill.sources.schema.types import Evidence, NothingToInfer, checked_schema
from tidemill.spec.models import Source

_EVIDENCE = "evidence"
_ELEMENT = "[]"
"""The step of a path that stands for every element of an array."""

_Path = tuple[str, ...]


class _Number(str):
    """A number as it is written."""


def exact_numbers(text: DataFrame, schema: T.StructType) -> T.StructType:
    """Return the schema that Spark infers for objects, the one STRING column of ``text``, with types that keep all digits of numbers."""
    paths = list(_lossy(schema, ()))
    if not paths:
        return schema
    found = {path: Evidence() for path in paths}
    for row in text.mapInArrow(partial(_judged, paths), f"{_EVIDENCE} STRING").collect():
        for path, seen in zip(paths, json.loads(row[_EVIDENCE]), strict=True):
            found[path].merge(Evidence.of(seen))
    kinds = {path: evidence.type(T.LongType()) for path, evidence in found.items() if evidence.kinds}
    typed = _typed(schema, kinds, ())
    assert isinstance(typed, T.StructType)
    return typed


def _lossy(kind: T.DataType, path: _Path) -> Iterator[_Path]:
    """Yield the paths at which Spark has seen numbers that may be more than their type holds."""
    if isinstance(kind, T.StructType):
        for part in kind.fields:
            yield from _lossy(part.dataType, (*path, part.name))
    elif isinstance(kind, T.ArrayType):
        yield from _lossy(kind.elementType, (*path, _ELEMENT))
    elif isinstance(kind, T.DoubleType | T.DecimalType):
        yield path


def _typed(kind: T.DataType, kinds: Mapping[_Path, T.DataType], path: _Path) -> T.DataType:
    if isinstance(kind, T.StructType):
        return T.StructType([T.StructField(part.name, _typed(part.dataType, kinds, (*path, part.name))) for part in kind.fields])
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(_typed(kind.elementType, kinds, (*path, _ELEMENT)))
    return kinds.get(path, kind)


def _judged(paths: Sequence[_Path], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield what the objects of one task tell of the numbers at each path, as JSON."""
    found = [Evidence() for _ in paths]
    for batch in batches:
        for line in batch.column(0).to_pylist():
            try:
                record = json.loads(line, parse_int=_Number, parse_float=_Number)
            except (ValueError, RecursionError):
                continue  # only Spark's lenient options can read it, and Spark's type stays
            for path, evidence in zip(paths, found, strict=True):
                for number in _at(record, path):
                    evidence.add(number)
    yield pa.RecordBatch.from_pydict({_EVIDENCE: [json.dumps([evidence.to_list() for evidence in found])]})


def _at(value: object, path: _Path) -> Iterator[str]:
    if not path:
        if isinstance(value, _Number):
            yield value
    elif path[0] == _ELEMENT:
        for element in value if isinstance(value, list) else ():
            yield from _at(element, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])


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
    return STRICT | checked_options(source, Json.option_names)


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
