"""JSON files: each line holds one object, a record; or, with ``multiLine``, each file one array of objects, or objects in a row."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import SourceError
from tidemill.sources.encodings import files_by_form
from tidemill.sources.files import SourceFile
from tidemill.sources.json_documents import document_records
from tidemill.sources.json_nested import has_floats, has_not_finite, repeats_a_key, unknown_keys
from tidemill.sources.line_numbers import locate
from tidemill.sources.lines import HAS_INVALID_BYTES, LINE, has_nul, legible, read_lines
from tidemill.sources.options import TEXT, checked_options, is_on
from tidemill.sources.records import (
    IS_HEADER,
    RAW,
    RESCUED,
    ROW_HASH,
    RULES,
    SOURCE_FILE,
    SOURCE_LINE,
    Records,
    broken,
    no_rules,
    rule,
)
from tidemill.sources.schemas import NothingToInfer, checked_schema
from tidemill.spec.models import Source
from tidemill.spec.topics import JSON_OPTIONS

OPTIONS = (
    *TEXT,
    *(name for name in JSON_OPTIONS if name not in TEXT),
)
STRICT = {"allowSingleQuotes": "false", "allowNonNumericNumbers": "false"}
"""JSON as the standard has it, where Spark is lenient."""

_FIELDS, _CORRUPT, _KEYS, _IS_ONE, _IS_PLAIN = "_fields", "_corrupt", "_keys", "_is_one_value", "_is_plain"
_MOST_PLAIN = 200
"""With more columns than this, asking each whether its key is there costs more than reading the keys."""


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
        """Return the types that Spark infers from every record that parses."""
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
        lines, bad = _lines(spark, files, options)
        if lines is None:
            return Records(None, bad)
        frame = records_of_lines(lines, schema, _line_options(options), source.timezone)

        def with_lines(refused: DataFrame) -> DataFrame:
            def numbered(paths: Sequence[str]) -> DataFrame:
                wanted = set(paths)
                found, _ = _lines(spark, [file for file in files if file.path in wanted], options, with_numbers=True)
                assert found is not None
                return found.select(SOURCE_FILE, ROW_HASH, F.lit(False).alias(IS_HEADER), SOURCE_LINE)

            return locate(refused, numbered)

        return Records(frame, bad, locate=with_lines)


def inferred_fields(spark: SparkSession, lines: DataFrame, options: Mapping[str, str], timezone: str) -> list[T.StructField]:
    """Return the columns that Spark finds in the lines (as of ``read_lines``) that parse; empty where no line holds an object."""
    text = lines.where(~F.col(HAS_INVALID_BYTES)).select(F.col(LINE).alias("value"))
    reader = spark.read.options(**options).options(columnNameOfCorruptRecord=_CORRUPT, timeZone=timezone)
    return [part for part in reader.json(text).schema.fields if part.name != _CORRUPT]


def records_of_lines(
    lines: DataFrame, schema: T.StructType, options: Mapping[str, str], timezone: str, keep: Sequence[str] = ()
) -> DataFrame:
    """Return the records of lines (as of ``read_lines``), with the columns ``keep`` of the lines beside them."""
    parse = {**options, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT, "timeZone": timezone}
    line = F.col(LINE)
    typed = T.StructType([*schema.fields, T.StructField(_CORRUPT, T.StringType())])
    parsed = lines.select("*", F.from_json(line, typed, parse).alias(_FIELDS))
    plain = parsed.select("*", _is_plain(schema).alias(_IS_PLAIN))
    is_plain = F.col(_IS_PLAIN)
    known = plain.select(
        "*",
        F.when(is_plain, F.lit(True)).otherwise(_is_one_value(line)).alias(_IS_ONE),
        F.when(~is_plain, F.json_object_keys(line)).alias(_KEYS),
    )
    return known.select("*", _broken_rules(schema, parse).alias(RULES)).select(
        *[_value(part).alias(part.name) for part in schema.fields],
        *keep,
        SOURCE_FILE,
        ROW_HASH,
        _rescued(schema, parse).alias(RESCUED),
        legible(line).alias(RAW),
        RULES,
        F.lit(False).alias(IS_HEADER),
    )


def _value(part: T.StructField) -> Column:
    """Return the value of a column; a fraction in a STRING column as it is written, where Spark gives what a DOUBLE makes of it."""
    value = F.col(_FIELDS).getField(part.name)
    if not isinstance(part.dataType, T.StringType):
        return value
    written = F.regexp_extract(
        F.col(LINE), rf"[{{,]\s*{re.escape(json.dumps(part.name, ensure_ascii=False))}\s*:\s*(-?[0-9][0-9.eE+-]*)", 1
    )
    is_rounded = F.contains(value, F.lit(".")) & (written.try_cast("double").cast("string") == value)
    return F.when(is_rounded, written).otherwise(value)


def _is_plain(schema: T.StructType) -> Column:
    """Return true for a record that is, without a closer look, one object with just the keys of the schema, each once: the usual case.

    Nothing is nested and nothing follows, as the first brace that closes is the last character. Without a backslash a text can hold no
    quote, so every key ends in `":`, of which there are as many as columns; and each column has its key: its value, or a null that is
    written. A record that only looks otherwise (such a sign inside a text, a space before a colon) is looked at more closely.
    """
    line, fields = F.col(LINE), F.col(_FIELDS)
    if len(schema.fields) > _MOST_PLAIN:
        return F.lit(False)
    size = F.octet_length(line)
    signs = [
        F.startswith(line, F.lit("{")),
        F.octet_length(F.substring_index(line, "}", 1)) == size - 1,
        ~F.contains(line, F.lit("\\")),
        size - F.octet_length(F.replace(line, F.lit('":'), F.lit(""))) == 2 * len(schema.fields),
        fields.getField(_CORRUPT).isNull(),
    ]
    for part in schema.fields:
        nulls = [F.contains(line, F.lit(f'"{part.name}":{gap}null')) for gap in ("", " ")]
        signs.append(fields.getField(part.name).isNotNull() | nulls[0] | nulls[1])
    return F.coalesce(reduce(and_, signs), F.lit(False))


def _is_one_value(text: Column) -> Column:
    """Return true where the text is one JSON value and nothing else; from_json alone stops behind the first value.

    ``[text,1]`` has two elements then. A text that closes that bracket itself (``{},1]``) has as many whatever stands behind it.
    """

    def elements(behind: str) -> Column:
        return F.json_array_length(F.concat(F.lit("["), text, F.lit(behind)))

    is_closed = F.contains(text, F.lit("]")) & (elements(",1,1]") != 3)
    return F.coalesce((elements(",1]") == 2) & ~is_closed, F.lit(False))


def _completed_options(source: Source) -> dict[str, str]:
    """Return the options of the source."""
    return STRICT | checked_options(source, OPTIONS)


def _line_options(options: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in options.items() if name not in ("encoding", "lineSep", "multiLine")}


def _lines(
    spark: SparkSession, files: Sequence[SourceFile], options: Mapping[str, str], *, with_numbers: bool = False
) -> tuple[DataFrame | None, dict[str, str]]:
    """Return the text of each record (None where no file can be read), and the reason for each file that cannot be."""
    whole = is_on(options, "multiLine")
    forms, bad = files_by_form(spark, files, options)
    if not forms:
        return None, bad
    parts = [read_lines(spark, found, form, whole=whole, with_numbers=with_numbers and not whole) for form, found in forms.items()]
    lines = reduce(DataFrame.unionByName, parts)
    return (document_records(lines, options, _line_options(options)) if whole else lines), bad


def _broken_rules(schema: T.StructType, parse: Mapping[str, str]) -> Column:
    line, fields, keys = F.col(LINE), F.col(_FIELDS), F.col(_KEYS)
    floating = {part.name: has_not_finite(fields.getField(part.name), part.dataType) for part in schema.fields if has_floats(part.dataType)}
    is_object = F.startswith(F.ltrim(line, F.lit(" \t")), F.lit("{"))
    repeats_key = F.when(F.col(_IS_PLAIN), F.lit(False)).otherwise(F.size(F.array_distinct(keys)) < F.size(keys))
    repeats_key = repeats_key | repeats_a_key(line, schema)
    texts = F.from_json(line, "map<string,string>", dict(parse))
    does_not_fit = F.col(_IS_ONE) & fields.getField(_CORRUPT).isNotNull()
    rules = broken(
        [
            rule("invalid_bytes", F.col(HAS_INVALID_BYTES)),
            rule("nul", has_nul(line)),
            rule("not_an_object", ~is_object),
            rule("not_json", is_object & ~F.col(_IS_ONE)),
            rule("duplicate_key", repeats_key),
            *[
                rule(f"cast:{part.name}", does_not_fit & F.element_at(texts, part.name).isNotNull() & fields.getField(part.name).isNull())
                for part in schema.fields
            ],
            *[rule(f"not_finite:{name}", is_none) for name, is_none in floating.items()],
        ]
    )
    is_good = is_object & F.col(_IS_ONE) & fields.getField(_CORRUPT).isNull() & ~repeats_key & ~F.col(HAS_INVALID_BYTES) & ~has_nul(line)
    for is_none in floating.values():
        is_good = is_good & ~is_none
    # A record that nothing accuses and that is not plainly good is refused all the same: what Spark's strict parser refuses and the count
    # of values, which takes single quotes for quotes, does not; or a null on the way here.
    unnamed = F.when(fields.getField(_CORRUPT).isNotNull(), F.lit("not_json")).otherwise(F.lit("unreadable"))
    rules = F.when(F.size(rules) == 0, F.array(unnamed)).otherwise(rules)
    return F.when(F.coalesce(is_good, F.lit(False)), no_rules()).otherwise(rules)


def _rescued(schema: T.StructType, parse: Mapping[str, str]) -> Column:
    """Return the fields that the schema lacks, nested ones by their path, as a JSON object with their values; null where there is none."""
    known = F.array(*[F.lit(name) for name in schema.names])
    is_odd = F.when(F.col(_IS_PLAIN), F.lit(False)).otherwise(F.size(F.array_except(F.col(_KEYS), known)) > 0)
    nested = unknown_keys(F.when(F.size(RULES) == 0, F.col(LINE)), schema, parse)
    if nested is None:
        values = F.from_json(F.col(LINE), "map<string,variant>", dict(parse))
        return F.when(is_odd, F.to_json(F.map_filter(values, lambda key, value: ~F.array_contains(known, key))))
    values = F.from_json(F.when(is_odd & (F.size(RULES) == 0), F.col(LINE)), "map<string,variant>", dict(parse))
    unknown = F.coalesce(
        F.map_filter(values, lambda key, value: ~F.array_contains(known, key)), F.from_json(F.lit("{}"), "map<string,variant>")
    )
    every = F.map_concat(unknown, nested)
    return F.when(F.size(every) > 0, F.to_json(every))
