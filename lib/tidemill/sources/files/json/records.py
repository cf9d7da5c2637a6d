"""Lines of JSON as records: parsed into the columns of a schema, and judged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import and_, or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE
from tidemill.columns import column
from tidemill.exact_cast import exact_cast
from tidemill.sources.files.lines import HAS_INVALID_BYTES, LINE, has_nul, legible
from tidemill.sources.records import IS_HEADER, IS_PLAIN, RAW, RULES, broken, is_not_finite, is_placed, no_rules, parsed_once, rule

_Path = tuple[str, ...]


def unknown_keys(line: Column, schema: T.StructType, parse: Mapping[str, str]) -> Column | None:
    """Return the nested fields that the schema lacks as a ``MAP<STRING, VARIANT>``, None where the schema nests nothing.

    A field of an object is there under its path (``address.zip``); of an array whose objects have unknown keys the whole is there, as
    nothing else would tell which of them had what.
    """
    found = [_of_object(line, path, kind, parse) for path, kind in _objects(schema)]
    found += [_of_array(line, path, kind, parse) for path, kind in _arrays(schema)]
    nothing = F.from_json(F.lit("{}"), "map<string,variant>")
    return F.map_concat(*[F.coalesce(part, nothing) for part in found]) if found else None


def repeats_a_key(line: Column, schema: T.StructType) -> Column:
    """Return true where a nested object has a key twice."""
    repeats = []
    for path, _ in _objects(schema):
        keys = F.json_object_keys(_at(line, path))
        repeats.append(F.coalesce(F.size(F.array_distinct(keys)) < F.size(keys), F.lit(False)))
    return reduce(or_, repeats, F.lit(False))


def has_not_finite(value: Column, kind: T.DataType) -> Column:
    """Return true where a value of this type is, or holds, NaN or an infinity."""
    if isinstance(kind, T.FloatType | T.DoubleType):
        return is_not_finite(value)
    if isinstance(kind, T.StructType):
        inner = [has_not_finite(value.getField(part.name), part.dataType) for part in kind.fields if has_floats(part.dataType)]
        return reduce(or_, inner, F.lit(False))
    if isinstance(kind, T.ArrayType) and has_floats(kind.elementType):
        element = kind.elementType
        return F.coalesce(F.exists(value, lambda item: has_not_finite(item, element)), F.lit(False))
    if isinstance(kind, T.MapType) and has_floats(kind.valueType):
        return has_not_finite(F.map_values(value), T.ArrayType(kind.valueType))
    return F.lit(False)


def has_floats(kind: T.DataType) -> bool:
    """Return True for a type in which a fraction can stand."""
    if isinstance(kind, T.StructType):
        return any(has_floats(part.dataType) for part in kind.fields)
    if isinstance(kind, T.ArrayType):
        return has_floats(kind.elementType)
    return has_floats(kind.valueType) if isinstance(kind, T.MapType) else isinstance(kind, T.FloatType | T.DoubleType)


def _objects(schema: T.StructType, path: _Path = ()) -> Iterator[tuple[_Path, T.StructType]]:
    for part in schema.fields:
        if isinstance(part.dataType, T.StructType):
            yield (*path, part.name), part.dataType
            yield from _objects(part.dataType, (*path, part.name))


def _arrays(schema: T.StructType, path: _Path = ()) -> Iterator[tuple[_Path, T.StructType]]:
    for part in schema.fields:
        if isinstance(part.dataType, T.ArrayType) and isinstance(part.dataType.elementType, T.StructType):
            yield (*path, part.name), part.dataType.elementType
        elif isinstance(part.dataType, T.StructType):
            yield from _arrays(part.dataType, (*path, part.name))


def _at(line: Column, path: _Path) -> Column:
    return F.get_json_object(line, "$" + "".join(f"['{name}']" for name in path))


def _of_object(line: Column, path: _Path, kind: T.StructType, parse: Mapping[str, str]) -> Column:
    inner, known = _at(line, path), F.array(*[F.lit(name) for name in kind.names])
    is_odd = F.size(F.array_except(F.json_object_keys(inner), known)) > 0
    values = F.from_json(F.when(is_odd, inner), "map<string,variant>", dict(parse))
    unknown = F.map_filter(values, lambda key, value: ~F.array_contains(known, key))
    return F.transform_keys(unknown, lambda key, value: F.concat(F.lit(".".join(path) + "."), key))


def _of_array(line: Column, path: _Path, kind: T.StructType, parse: Mapping[str, str]) -> Column:
    inner, known = _at(line, path), F.array(*[F.lit(name) for name in kind.names])
    keys = F.from_json(inner, "array<map<string,string>>", dict(parse))
    is_odd = F.exists(keys, lambda item: F.size(F.array_except(F.map_keys(item), known)) > 0)
    return F.when(is_odd, F.create_map(F.lit(".".join(path)), F.try_parse_json(inner)))


CORRUPT = " corrupt"
_FIELDS, _FITS, _KEYS, _IS_ONE, _IS_PLAIN_LINE = " fields", " fits", " keys", " is_one_value", " is_plain_line"
_INFINITE = ('"Infinity"', '"-Infinity"')
"""What Spark makes of a number beyond a DOUBLE in a STRING column."""
_MOST_PLAIN = 200
"""With more columns than this, asking each whether its key is there costs more than reading the keys."""


def records_of_lines(
    lines: DataFrame, schema: T.StructType, options: Mapping[str, str], timezone: str, keep: Sequence[str] = ()
) -> DataFrame:
    """Return the records of lines (as of ``read_lines``), with the columns ``keep`` of the lines beside them."""
    parse, line = _parse(options, timezone), F.col(LINE)
    fields = F.col(_FIELDS)
    values = {part.name: fields.getField(part.name) for part in schema.fields}
    is_plain = _is_plain(values, fields.getField(CORRUPT).isNull(), _is_plain_line(len(values)))
    plain = _parsed(lines, schema, parse).select("*", is_plain.alias(IS_PLAIN))
    is_plain = F.col(IS_PLAIN)
    known = plain.select(
        "*",
        F.when(is_plain, F.lit(True)).otherwise(_is_one_value(line)).alias(_IS_ONE),
        F.when(~is_plain, F.json_object_keys(line)).alias(_KEYS),
    )
    return known.select("*", _broken_rules(schema, parse).alias(RULES)).select(
        *[_value(part, parse).alias(part.name) for part in schema.fields],
        *keep,
        SOURCE_FILE,
        ROW_HASH,
        _rescued(schema, parse).alias(RESCUED),
        legible(line).alias(RAW),
        RULES,
        F.lit(False).alias(IS_HEADER),
    )


def plain_records(lines: DataFrame, schema: T.StructType, options: Mapping[str, str], timezone: str) -> DataFrame | None:
    """Return lines as ``Quick.frame`` has them; None where objects nest, or with very many columns, where none would be plain."""
    if len(schema.fields) > _MOST_PLAIN or any(isinstance(part.dataType, T.StructType | T.ArrayType | T.MapType) for part in schema):
        return None
    fields, line = F.col(_FIELDS), F.col(LINE)
    # What the line alone tells is told where it is parsed: the query behind that must not become too long for Java to compile.
    is_plain_line = _is_plain_line(len(schema.fields)) & ~F.col(HAS_INVALID_BYTES) & ~has_nul(line)
    parse = _parse(options, timezone)
    parsed = _parsed(lines.withColumn(_IS_PLAIN_LINE, is_plain_line), schema, parse)
    values = {part.name: _fitted(fields.getField(part.name), part.dataType, parse) for part in schema.fields}
    dates = [part.name for part in schema.fields if isinstance(part.dataType, T.DateType) and _is_cut(part.dataType, parse)]
    are_days = [fields.getField(name).isNull() | values[name].isNotNull() for name in dates]
    spread = parsed.select(
        *(LINE, HAS_INVALID_BYTES, SOURCE_FILE, ROW_HASH, _IS_PLAIN_LINE),
        *[value.alias(name) for name, value in values.items()],
        reduce(and_, are_days, fields.getField(CORRUPT).isNull()).alias(_FITS),
        F.lit(None).cast("string").alias(RESCUED),
    )
    signs = [
        is_placed(),
        _is_plain({part.name: column(part.name) for part in schema.fields}, F.col(_FITS), F.col(_IS_PLAIN_LINE)),
        *[~is_not_finite(column(part.name)) for part in schema.fields if has_floats(part.dataType)],
        *[_is_as_written(part.name) for part in schema.fields if isinstance(part.dataType, T.StringType)],
        *[column(part.name).isNotNull() for part in schema.fields if isinstance(part.dataType, T.DecimalType)],
    ]
    return parsed_once(spread).withColumn(IS_PLAIN, reduce(and_, signs))


def _parse(options: Mapping[str, str], timezone: str) -> dict[str, str]:
    return {**options, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT, "timeZone": timezone}


def _parsed(lines: DataFrame, schema: T.StructType, parse: Mapping[str, str]) -> DataFrame:
    """Return the lines with ``_FIELDS``, the columns of the schema in a struct.

    Spark would round a decimal that has more digits than its type, and cut the time of day off a date: they come as ``_uncut``.
    """
    fields = [T.StructField(part.name, _uncut(part.dataType, parse)) for part in schema.fields]
    typed = T.StructType([*fields, T.StructField(CORRUPT, T.StringType())])
    return lines.select("*", F.from_json(F.col(LINE), typed, dict(parse)).alias(_FIELDS))


def _uncut(kind: T.DataType, parse: Mapping[str, str]) -> T.DataType:
    """Return the type that is read for a type of the schema: with all decimals there is room for, and with the time behind a day.

    Where the source says how a DATE is written, Spark takes nothing else for one.
    """
    if isinstance(kind, T.StructType):
        return T.StructType([T.StructField(part.name, _uncut(part.dataType, parse)) for part in kind.fields])
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(_uncut(kind.elementType, parse))
    if isinstance(kind, T.MapType):
        return T.MapType(kind.keyType, _uncut(kind.valueType, parse))
    if isinstance(kind, T.DateType) and not (parse.get("dateFormat") or parse.get("timestampNTZFormat")):
        return T.TimestampNTZType()
    return T.DecimalType(38, 38 - (kind.precision - kind.scale)) if isinstance(kind, T.DecimalType) else kind


def _fitted(value: Column, kind: T.DataType, parse: Mapping[str, str]) -> Column:
    """Return a value of the type ``_uncut`` as its own type, null where something of it would be lost."""
    return exact_cast(value, _uncut(kind, parse), kind) if _is_cut(kind, parse) else value


def _is_cut(kind: T.DataType, parse: Mapping[str, str]) -> bool:
    """Return True for a type of which Spark would cut something off, so that it is read as another one."""
    return _uncut(kind, parse).simpleString() != kind.simpleString()


def _value(part: T.StructField, parse: Mapping[str, str]) -> Column:
    """Return the value of a column; a fraction in a STRING column as it is written, where Spark gives what a DOUBLE makes of it."""
    value = F.col(_FIELDS).getField(part.name)
    if not isinstance(part.dataType, T.StringType):
        return _fitted(value, part.dataType, parse)
    written = F.regexp_extract(
        F.col(LINE), rf"[{{,]\s*{re.escape(json.dumps(part.name, ensure_ascii=False))}\s*:\s*(-?[0-9][0-9.eE+-]*)", 1
    )
    is_rounded = F.contains(value, F.lit(".")) & (written.try_cast("double").cast("string") == value)
    return F.when(is_rounded | (value.isin(*_INFINITE) & (written != "")), written).otherwise(value)


def _is_as_written(name: str) -> Column:
    """Return true where the text of a STRING column is no fraction, which may be rounded, or stands in quotes in the line."""
    value, key = column(name), json.dumps(name, ensure_ascii=False)
    quoted = [F.contains(F.col(LINE), F.concat(F.lit(f'{key}:{gap}"'), value, F.lit('"'))) for gap in ("", " ")]
    return value.isNull() | ~(F.contains(value, F.lit(".")) | value.isin(*_INFINITE)) | quoted[0] | quoted[1]


def _is_plain(values: Mapping[str, Column], fits: Column, is_plain_line: Column) -> Column:
    """Return true for a record that is, without a closer look, one object with just the keys of the schema, each once: the usual case.

    In a line of ``_is_plain_line`` each column has its key: its value, or one that stands there for a null. A record that only looks
    otherwise (such a sign inside a text, a space before a colon) is looked at more closely.
    """
    if len(values) > _MOST_PLAIN:
        return F.lit(False)
    signs = [value.isNotNull() | F.contains(F.col(LINE), F.lit(f'"{name}":')) for name, value in values.items()]
    return F.coalesce(reduce(and_, [is_plain_line, fits, *signs]), F.lit(False))


def _is_plain_line(columns: int) -> Column:
    """Return true for a line that is one object with so many keys, of which nothing is nested.

    Nothing follows it either, as the first brace that closes is the last character. Without a backslash a text can hold no quote, so that
    every key ends in `":`, of which there are as many as columns.
    """
    line = F.col(LINE)
    size = F.octet_length(line)
    signs = [
        F.startswith(line, F.lit("{")),
        F.octet_length(F.substring_index(line, "}", 1)) == size - 1,
        ~F.contains(line, F.lit("\\")),
        size - F.octet_length(F.replace(line, F.lit('":'), F.lit(""))) == 2 * columns,
    ]
    return reduce(and_, signs)


def _is_one_value(text: Column) -> Column:
    """Return true where the text is one JSON value and nothing else; from_json alone stops behind the first value.

    ``[text,1]`` has two elements then. A text that closes that bracket itself (``{},1]``) has as many whatever stands behind it.
    """

    def elements(behind: str) -> Column:
        return F.json_array_length(F.concat(F.lit("["), text, F.lit(behind)))

    is_closed = F.contains(text, F.lit("]")) & (elements(",1,1]") != 3)
    return F.coalesce((elements(",1]") == 2) & ~is_closed, F.lit(False))


def _broken_rules(schema: T.StructType, parse: Mapping[str, str]) -> Column:
    line, fields, keys = F.col(LINE), F.col(_FIELDS), F.col(_KEYS)
    floating = {part.name: has_not_finite(fields.getField(part.name), part.dataType) for part in schema.fields if has_floats(part.dataType)}
    given = {part.name: (fields.getField(part.name), part.dataType) for part in schema.fields if _is_cut(part.dataType, parse)}
    cut = {name: value.isNotNull() & _fitted(value, kind, parse).isNull() for name, (value, kind) in given.items()}
    is_object = F.startswith(F.ltrim(line, F.lit(" \t")), F.lit("{"))
    repeats_key = F.when(F.col(IS_PLAIN), F.lit(False)).otherwise(F.size(F.array_distinct(keys)) < F.size(keys))
    repeats_key = repeats_key | repeats_a_key(line, schema)
    texts = F.from_json(line, "map<string,string>", dict(parse))
    does_not_fit = F.col(_IS_ONE) & fields.getField(CORRUPT).isNotNull()
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
            *[rule(f"cast:{name}", is_lost) for name, is_lost in cut.items()],
            *[rule(f"not_finite:{name}", is_none) for name, is_none in floating.items()],
        ]
    )
    is_whole = reduce(and_, [~is_lost for is_lost in cut.values()], F.lit(True))
    is_good = (
        is_whole
        & is_object
        & F.col(_IS_ONE)
        & fields.getField(CORRUPT).isNull()
        & ~repeats_key
        & ~F.col(HAS_INVALID_BYTES)
        & ~has_nul(line)
    )
    for is_none in floating.values():
        is_good = is_good & ~is_none
    # A record that nothing accuses and that is not plainly good is refused all the same: what Spark's strict parser refuses and the count
    # of values, which takes single quotes for quotes, does not; or a null on the way here.
    unnamed = F.when(fields.getField(CORRUPT).isNotNull(), F.lit("not_json")).otherwise(F.lit("unreadable"))
    rules = F.when(F.size(rules) == 0, F.array(unnamed)).otherwise(rules)
    return F.when(F.coalesce(is_good, F.lit(False)), no_rules()).otherwise(rules)


def _rescued(schema: T.StructType, parse: Mapping[str, str]) -> Column:
    """Return the fields that the schema lacks, nested ones by their path, as a JSON object with their values; null where there is none."""
    known = F.array(*[F.lit(name) for name in schema.names])
    is_odd = F.when(F.col(IS_PLAIN), F.lit(False)).otherwise(F.size(F.array_except(F.col(_KEYS), known)) > 0)
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
