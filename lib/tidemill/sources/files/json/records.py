"""Parse lines of JSON into the columns of a schema, and check them."""

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
from tidemill.sources.files.lines import HAS_INVALID_BYTES, LINE, has_nul, replace_invalid_bytes
from tidemill.sources.records import (
    IS_PLAIN,
    RULES,
    collect_rules,
    is_not_finite,
    mark_plain,
    no_rules,
    record_columns,
    rule,
)
from tidemill.sources.schema.nested import any_leaf, has_leaf, replace_leaves

_Path = tuple[str, ...]


def unknown_keys(line: Column, schema: T.StructType, parse: Mapping[str, str]) -> Column | None:
    """Return the nested fields that are not in the schema as a ``MAP<STRING, VARIANT>``, None for a schema without nesting.

    A field of an object has its path as key (``address.zip``). An array whose objects have unknown keys is kept as a whole: single
    fields would not say which element they belong to.
    """
    parts = [_unknown_in_object(line, path, kind, parse) for path, kind in _walk_objects(schema)]
    parts += [_unknown_in_array(line, path, kind, parse) for path, kind in _walk_arrays(schema)]
    nothing = F.from_json(F.lit("{}"), "map<string,variant>")
    return F.map_concat(*[F.coalesce(part, nothing) for part in parts]) if parts else None


def repeats_a_key(line: Column, schema: T.StructType) -> Column:
    """Return true where a nested object repeats a key."""
    repeats = []
    for path, _ in _walk_objects(schema):
        keys = F.json_object_keys(_get_path(line, path))
        repeats.append(F.coalesce(F.size(F.array_distinct(keys)) < F.size(keys), F.lit(False)))
    return reduce(or_, repeats, F.lit(False))


def has_not_finite(value: Column, kind: T.DataType) -> Column:
    """Return true where a value of this type is, or contains, NaN or an infinity."""
    return any_leaf(value, kind, lambda number, _: is_not_finite(number), _is_float)


def has_floats(kind: T.DataType) -> bool:
    """Return True for a type that is, or contains, FLOAT or DOUBLE."""
    return has_leaf(kind, _is_float)


def _is_float(kind: T.DataType) -> bool:
    return isinstance(kind, T.FloatType | T.DoubleType)


def _walk_objects(schema: T.StructType, path: _Path = ()) -> Iterator[tuple[_Path, T.StructType]]:
    for part in schema.fields:
        if isinstance(part.dataType, T.StructType):
            yield (*path, part.name), part.dataType
            yield from _walk_objects(part.dataType, (*path, part.name))


def _walk_arrays(schema: T.StructType, path: _Path = ()) -> Iterator[tuple[_Path, T.StructType]]:
    for part in schema.fields:
        if isinstance(part.dataType, T.ArrayType) and isinstance(part.dataType.elementType, T.StructType):
            yield (*path, part.name), part.dataType.elementType
        elif isinstance(part.dataType, T.StructType):
            yield from _walk_arrays(part.dataType, (*path, part.name))


def _get_path(line: Column, path: _Path) -> Column:
    return F.get_json_object(line, "$" + "".join(f"['{name}']" for name in path))


def _unknown_in_object(line: Column, path: _Path, kind: T.StructType, parse: Mapping[str, str]) -> Column:
    inner, known = _get_path(line, path), F.array(*[F.lit(name) for name in kind.names])
    is_odd = F.size(F.array_except(F.json_object_keys(inner), known)) > 0
    values = F.from_json(F.when(is_odd, inner), "map<string,variant>", dict(parse))
    unknown = F.map_filter(values, lambda key, value: ~F.array_contains(known, key))
    return F.transform_keys(unknown, lambda key, value: F.concat(F.lit(".".join(path) + "."), key))


def _unknown_in_array(line: Column, path: _Path, kind: T.StructType, parse: Mapping[str, str]) -> Column:
    inner, known = _get_path(line, path), F.array(*[F.lit(name) for name in kind.names])
    keys = F.from_json(inner, "array<map<string,string>>", dict(parse))
    is_odd = F.exists(keys, lambda item: F.size(F.array_except(F.map_keys(item), known)) > 0)
    return F.when(is_odd, F.create_map(F.lit(".".join(path)), F.try_parse_json(inner)))


CORRUPT = " corrupt"
_FIELDS, _FITS, _KEYS, _IS_ONE, _IS_PLAIN_LINE = " fields", " fits", " keys", " is_one_value", " is_plain_line"
_INFINITE = ('"Infinity"', '"-Infinity"')
"""What Spark reads for a number beyond DOUBLE in a STRING column."""
_MAX_PLAIN_COLUMNS = 200
"""With more columns than this, checking each for its key costs more than reading all keys."""


def parse_records(lines: DataFrame, schema: T.StructType, options: Mapping[str, str], timezone: str, keep: Sequence[str] = ()) -> DataFrame:
    """Return the records of lines (see ``read_lines``) with the columns of ``Records.frame``, and the columns ``keep`` of the lines."""
    parse, line = _parse(options, timezone), F.col(LINE)
    fields = F.col(_FIELDS)
    values = {part.name: fields.getField(part.name) for part in schema.fields}
    is_plain = _is_plain(values, fields.getField(CORRUPT).isNull(), _is_plain_line(len(values)))
    plain = _add_fields(lines, schema, parse).select("*", is_plain.alias(IS_PLAIN))
    is_plain = F.col(IS_PLAIN)
    known = plain.select(
        "*",
        F.when(is_plain, F.lit(True)).otherwise(_is_one_value(line)).alias(_IS_ONE),
        F.when(~is_plain, F.json_object_keys(line)).alias(_KEYS),
    )
    return known.select("*", _list_broken_rules(schema, parse).alias(RULES)).select(
        *[_exact_value(part, parse).alias(part.name) for part in schema.fields],
        *keep,
        *record_columns(replace_invalid_bytes(line), rescued=_rescue_fields(schema, parse)),
    )


def parse_plain_records(lines: DataFrame, schema: T.StructType, options: Mapping[str, str], timezone: str) -> DataFrame | None:
    """Return the lines as ``FastPath.frame``; None for nested or very many columns, where no line would be plain."""
    if len(schema.fields) > _MAX_PLAIN_COLUMNS or any(isinstance(part.dataType, T.StructType | T.ArrayType | T.MapType) for part in schema):
        return None
    fields, line = F.col(_FIELDS), F.col(LINE)
    # Conditions on the line alone come before the parsing, because Java cannot compile a method that is too long.
    is_plain_line = _is_plain_line(len(schema.fields)) & ~F.col(HAS_INVALID_BYTES) & ~has_nul(line)
    parse = _parse(options, timezone)
    parsed = _add_fields(lines.withColumn(_IS_PLAIN_LINE, is_plain_line), schema, parse)
    values = {part.name: _cast_exactly(fields.getField(part.name), part.dataType, parse) for part in schema.fields}
    dates = [part.name for part in schema.fields if isinstance(part.dataType, T.DateType) and _is_lossy(part.dataType, parse)]
    are_days = [fields.getField(name).isNull() | values[name].isNotNull() for name in dates]
    spread = parsed.select(
        *(LINE, HAS_INVALID_BYTES, SOURCE_FILE, ROW_HASH, _IS_PLAIN_LINE),
        *[value.alias(name) for name, value in values.items()],
        reduce(and_, are_days, fields.getField(CORRUPT).isNull()).alias(_FITS),
        F.lit(None).cast("string").alias(RESCUED),
    )
    signs = [
        _is_plain({part.name: column(part.name) for part in schema.fields}, F.col(_FITS), F.col(_IS_PLAIN_LINE)),
        *[~is_not_finite(column(part.name)) for part in schema.fields if has_floats(part.dataType)],
        *[_is_exact_text(part.name) for part in schema.fields if isinstance(part.dataType, T.StringType)],
        *[column(part.name).isNotNull() for part in schema.fields if isinstance(part.dataType, T.DecimalType)],
    ]
    return mark_plain(spread, reduce(and_, signs))


def _parse(options: Mapping[str, str], timezone: str) -> dict[str, str]:
    return {**options, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT, "timeZone": timezone}


def _add_fields(lines: DataFrame, schema: T.StructType, parse: Mapping[str, str]) -> DataFrame:
    """Return the lines with ``_FIELDS``, a struct of the schema's columns as ``_lossless_type``.

    Spark would round a DECIMAL with more digits than its type, and drop the time of day of a DATE.
    """
    fields = [T.StructField(part.name, _lossless_type(part.dataType, parse)) for part in schema.fields]
    typed = T.StructType([*fields, T.StructField(CORRUPT, T.StringType())])
    return lines.select("*", F.from_json(F.col(LINE), typed, dict(parse)).alias(_FIELDS))


def _lossless_type(kind: T.DataType, parse: Mapping[str, str]) -> T.DataType:
    """Return the type that is parsed for a type of the schema: DECIMAL with all digits there is room for, DATE with the time of day.

    Where the source has a format for DATE, Spark accepts nothing else.
    """
    has_date_format = bool(parse.get("dateFormat") or parse.get("timestampNTZFormat"))

    def widen(leaf: T.DataType) -> T.DataType:
        if isinstance(leaf, T.DateType) and not has_date_format:
            return T.TimestampNTZType()
        return T.DecimalType(38, 38 - (leaf.precision - leaf.scale)) if isinstance(leaf, T.DecimalType) else leaf

    return replace_leaves(kind, widen)


def _cast_exactly(value: Column, kind: T.DataType, parse: Mapping[str, str]) -> Column:
    """Return a value of the type ``_lossless_type`` as its own type, null where it would lose something."""
    return exact_cast(value, _lossless_type(kind, parse), kind) if _is_lossy(kind, parse) else value


def _is_lossy(kind: T.DataType, parse: Mapping[str, str]) -> bool:
    """Return True for a type whose values Spark would shorten, so that they are parsed as another type."""
    return _lossless_type(kind, parse).simpleString() != kind.simpleString()


def _exact_value(part: T.StructField, parse: Mapping[str, str]) -> Column:
    """Return the value of a column; numbers in a STRING column as they are written, where Spark returns them rounded to DOUBLE."""
    value = F.col(_FIELDS).getField(part.name)
    if not isinstance(part.dataType, T.StringType):
        return _cast_exactly(value, part.dataType, parse)
    written = F.regexp_extract(
        F.col(LINE), rf"[{{,]\s*{re.escape(json.dumps(part.name, ensure_ascii=False))}\s*:\s*(-?[0-9][0-9.eE+-]*)", 1
    )
    is_rounded = F.contains(value, F.lit(".")) & (written.try_cast("double").cast("string") == value)
    return F.when(is_rounded | (value.isin(*_INFINITE) & (written != "")), written).otherwise(value)


def _is_exact_text(name: str) -> Column:
    """Return true where the text of a STRING column is certainly unrounded: it is no fraction, or is quoted in the line."""
    value, key = column(name), json.dumps(name, ensure_ascii=False)
    is_quoted = [F.contains(F.col(LINE), F.concat(F.lit(f'{key}:{gap}"'), value, F.lit('"'))) for gap in ("", " ")]
    return value.isNull() | ~(F.contains(value, F.lit(".")) | value.isin(*_INFINITE)) | is_quoted[0] | is_quoted[1]


def _is_plain(values: Mapping[str, Column], fits: Column, is_plain_line: Column) -> Column:
    """Return true for a record that is certainly one object with exactly the keys of the schema, each once: the usual case.

    In a line of ``_is_plain_line`` each column must have its key, which shows in its value or in the text. Lines that only look different
    (such a character inside a text, a space before a colon) get the full checks.
    """
    if len(values) > _MAX_PLAIN_COLUMNS:
        return F.lit(False)
    signs = [value.isNotNull() | F.contains(F.col(LINE), F.lit(f'"{name}":')) for name, value in values.items()]
    return F.coalesce(reduce(and_, [is_plain_line, fits, *signs]), F.lit(False))


def _is_plain_line(columns: int) -> Column:
    """Return true for a line that is one flat object with so many keys.

    Its first closing brace is the last character, so nothing is nested and nothing follows. Without a backslash no text contains a quote,
    so the number of `":` is the number of keys.
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
    """Return true where the text is exactly one JSON value; ``from_json`` alone ignores what follows the first value.

    ``[text,1]`` then has two elements. A text that closes that bracket itself (``{},1]``) has two whatever follows, so a second
    check appends two elements.
    """

    def elements(behind: str) -> Column:
        return F.json_array_length(F.concat(F.lit("["), text, F.lit(behind)))

    is_closed = F.contains(text, F.lit("]")) & (elements(",1,1]") != 3)
    return F.coalesce((elements(",1]") == 2) & ~is_closed, F.lit(False))


def _list_broken_rules(schema: T.StructType, parse: Mapping[str, str]) -> Column:
    line, fields, keys = F.col(LINE), F.col(_FIELDS), F.col(_KEYS)
    value_of = {part.name: fields.getField(part.name) for part in schema.fields}
    is_object = F.startswith(F.ltrim(line, F.lit(" \t")), F.lit("{"))
    repeats_key = F.when(F.col(IS_PLAIN), F.lit(False)).otherwise(F.size(F.array_distinct(keys)) < F.size(keys))
    is_corrupt = fields.getField(CORRUPT).isNotNull()
    line_rules = {
        "invalid_bytes": F.col(HAS_INVALID_BYTES),
        "nul": has_nul(line),
        "not_an_object": ~is_object,
        "not_json": is_object & ~F.col(_IS_ONE),
        "duplicate_key": repeats_key | repeats_a_key(line, schema),
    }
    texts = F.from_json(line, "map<string,string>", dict(parse))
    does_not_parse = F.col(_IS_ONE) & is_corrupt
    misfits = {f"cast:{name}": does_not_parse & F.element_at(texts, name).isNotNull() & value.isNull() for name, value in value_of.items()}
    value_rules = {
        f"cast:{part.name}": value_of[part.name].isNotNull() & _cast_exactly(value_of[part.name], part.dataType, parse).isNull()
        for part in schema.fields
        if _is_lossy(part.dataType, parse)
    }
    value_rules |= {
        f"not_finite:{part.name}": has_not_finite(value_of[part.name], part.dataType) for part in schema.fields if has_floats(part.dataType)
    }
    conditions = [*line_rules.items(), *misfits.items(), *value_rules.items()]
    rules = collect_rules([rule(name, is_broken) for name, is_broken in conditions])
    is_valid = reduce(and_, [~is_broken for is_broken in (*line_rules.values(), *value_rules.values())], ~is_corrupt)
    # A record that breaks no named rule and is still not valid is rejected too: Spark's strict parser may reject what the count of values
    # accepts (single quotes), or a condition was null.
    unnamed = F.when(is_corrupt, F.lit("not_json")).otherwise(F.lit("unreadable"))
    rules = F.when(F.size(rules) == 0, F.array(unnamed)).otherwise(rules)
    return F.when(F.coalesce(is_valid, F.lit(False)), no_rules()).otherwise(rules)


def _rescue_fields(schema: T.StructType, parse: Mapping[str, str]) -> Column:
    """Return the fields that are not in the schema, nested ones by their path, as a JSON object; null where there is none."""
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
