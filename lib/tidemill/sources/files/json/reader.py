"""Read JSON files: one object per line, or with ``multiLine`` one array of objects or several objects per file."""

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
from tidemill.sources.files.encodings import group_by_text_form
from tidemill.sources.files.json import Json
from tidemill.sources.files.json.documents import split_documents
from tidemill.sources.files.json.records import CORRUPT, parse_plain_records, parse_records
from tidemill.sources.files.lines import HAS_INVALID_BYTES, LINE, ROWS, make_locator, read_lines, reject_long_records
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.options import is_on, resolve_options
from tidemill.sources.records import FastPath, Records
from tidemill.sources.schema.types import Evidence, NothingToInfer, validate_schema
from tidemill.spec.models import Source

_EVIDENCE = "evidence"
_ELEMENT = "[]"
"""The part of a path that means every element of an array."""

_Path = tuple[str, ...]


class _Number(str):
    """The text of a number."""


def keep_exact_numbers(text: DataFrame, schema: T.StructType) -> T.StructType:
    """Return a schema that Spark has inferred for the objects in ``text`` (one STRING column), with types that keep all digits."""
    paths = list(_find_lossy_paths(schema, ()))
    if not paths:
        return schema
    evidence_of = {path: Evidence() for path in paths}
    for row in text.mapInArrow(partial(_summarize_numbers, paths), f"{_EVIDENCE} STRING").collect():
        for path, counts in zip(paths, json.loads(row[_EVIDENCE]), strict=True):
            evidence_of[path].merge(Evidence.of(counts))
    kinds = {path: evidence.type(T.LongType()) for path, evidence in evidence_of.items() if evidence.kinds}
    typed = _replace_types(schema, kinds, ())
    assert isinstance(typed, T.StructType)
    return typed


def _find_lossy_paths(kind: T.DataType, path: _Path) -> Iterator[_Path]:
    """Yield the paths of numbers that may have more digits than the inferred type holds."""
    if isinstance(kind, T.StructType):
        for part in kind.fields:
            yield from _find_lossy_paths(part.dataType, (*path, part.name))
    elif isinstance(kind, T.ArrayType):
        yield from _find_lossy_paths(kind.elementType, (*path, _ELEMENT))
    elif isinstance(kind, T.DoubleType | T.DecimalType):
        yield path


def _replace_types(kind: T.DataType, kinds: Mapping[_Path, T.DataType], path: _Path) -> T.DataType:
    if isinstance(kind, T.StructType):
        return T.StructType([T.StructField(part.name, _replace_types(part.dataType, kinds, (*path, part.name))) for part in kind.fields])
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(_replace_types(kind.elementType, kinds, (*path, _ELEMENT)))
    return kinds.get(path, kind)


def _summarize_numbers(paths: Sequence[_Path], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the evidence about the numbers at each path, one JSON row per Spark task."""
    evidences = [Evidence() for _ in paths]
    for batch in batches:
        for line in batch.column(0).to_pylist():
            try:
                record = json.loads(line, parse_int=_Number, parse_float=_Number)
            except (ValueError, RecursionError):
                continue  # only Spark's lenient options can read it; its own type stays
            for path, evidence in zip(paths, evidences, strict=True):
                for number in _numbers_at(record, path):
                    evidence.add(number)
    yield pa.RecordBatch.from_pydict({_EVIDENCE: [json.dumps([evidence.to_list() for evidence in evidences])]})


def _numbers_at(value: object, path: _Path) -> Iterator[str]:
    if not path:
        if isinstance(value, _Number):
            yield value
    elif path[0] == _ELEMENT:
        for element in value if isinstance(value, list) else ():
            yield from _numbers_at(element, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        yield from _numbers_at(value[path[0]], path[1:])


STRICT_OPTIONS = {"allowSingleQuotes": "false", "allowNonNumericNumbers": "false"}
"""Options for standard JSON, where Spark is lenient by default."""


class JsonFiles:
    """JSON files.

    Every line that is not empty is a record. Rules that reject a record: ``not_an_object``, ``not_json`` (it does not parse, or something
    follows the object), ``duplicate_key``, ``cast:<column>`` (the value has another type; a number in a STRING column keeps its text),
    ``not_finite:<column>``, ``nul``, ``invalid_bytes``, ``unreadable``. Keys that are not in the schema, or differ in case, go to
    ``_rescued`` with their values.

    With ``multiLine: true`` a file is one document: the elements of an array are records, and so are several objects that each begin on
    a line of their own. Any other document is one rejected record.
    """

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Infer types that keep the values of every record that parses."""
        options = _complete_options(source)
        lines, bad = _read_records(spark, files, options)
        if lines is None:
            raise SourceError("; ".join(f"{path}: {reason}" for path, reason in bad.items()))
        fields = infer_fields(spark, lines, options, source.timezone)
        if not fields:
            raise NothingToInfer(f"no JSON object in {files[0].path}" + (f" and {len(files) - 1} more" if len(files) > 1 else ""))
        return validate_schema(fields)

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files, see ``Records``."""
        if not files:
            return Records(None)
        options = _complete_options(source)
        counted: list[Observation] = []
        lines, bad = _read_records(spark, files, options, counted=counted)
        if lines is None:
            return Records(None, bad)

        def check_closely(records: DataFrame) -> DataFrame:
            text = records.select(LINE, HAS_INVALID_BYTES, SOURCE_FILE, ROW_HASH)
            return parse_records(text, schema, _line_options(options), source.timezone)

        fast_paths: tuple[FastPath, ...] = ()
        plain = None if is_on(options, "multiLine") else parse_plain_records(lines, schema, _line_options(options), source.timezone)
        if plain is not None:
            fast_paths = (FastPath(plain, check_closely, lambda: sum(int(each.get[ROWS]) for each in counted)),)

        def number_records(wanted: list[SourceFile]) -> DataFrame:
            numbered, _ = _read_records(spark, wanted, options, with_numbers=True)
            assert numbered is not None  # these files were read before
            return numbered

        return Records(check_closely(lines), bad, locate=make_locator(files, number_records), fast_paths=fast_paths)


def infer_fields(spark: SparkSession, lines: DataFrame, options: Mapping[str, str], timezone: str) -> list[T.StructField]:
    """Infer columns from the lines (see ``read_lines``) that parse, with types that keep their values; empty without an object."""
    text = lines.where(~F.col(HAS_INVALID_BYTES)).select(F.col(LINE).alias("value"))
    # The lines are decoded already.
    options = {name: value for name, value in options.items() if name != "encoding"}
    reader = spark.read.options(**options).options(columnNameOfCorruptRecord=CORRUPT, timeZone=timezone)
    schema = T.StructType([part for part in reader.json(text).schema.fields if part.name != CORRUPT])
    return keep_exact_numbers(text, schema).fields


def _complete_options(source: Source) -> dict[str, str]:
    """Return the options of the source with the strict defaults."""
    return STRICT_OPTIONS | resolve_options(source, Json.option_names)


def _line_options(options: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in options.items() if name not in ("encoding", "lineSep", "multiLine")}


def _read_records(
    spark: SparkSession,
    files: Sequence[SourceFile],
    options: Mapping[str, str],
    *,
    with_numbers: bool = False,
    counted: list[Observation] | None = None,
) -> tuple[DataFrame | None, dict[str, str]]:
    """Return the text of each record (None where no file can be read), and the reason for each unreadable file.

    ``counted`` gets one observation per text form, which holds the number of records once they are read.
    """
    whole = is_on(options, "multiLine")
    forms, bad = group_by_text_form(spark, files, options, lambda file, form: reject_long_records(file, form, options, whole=whole))
    if not forms:
        return None, bad
    parts = []
    for form, form_files in forms.items():
        rows = None if counted is None else Observation()
        parts.append(read_lines(spark, form_files, form, whole=whole, with_numbers=with_numbers and not whole, counted=rows))
        if counted is not None and rows is not None:
            counted.append(rows)
    lines = reduce(DataFrame.unionByName, parts)
    return (split_documents(lines, options, _line_options(options)) if whole else lines), bad
