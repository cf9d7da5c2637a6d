"""Map the types of an Avro schema to Spark types, and convert values for Arrow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

from pyspark.sql import types as T

Convert = Callable[[Any], Any]

_PRIMITIVES: dict[str, type[T.DataType]] = {
    "null": T.NullType,
    "boolean": T.BooleanType,
    "int": T.IntegerType,
    "long": T.LongType,
    "float": T.FloatType,
    "double": T.DoubleType,
    "bytes": T.BinaryType,
    "string": T.StringType,
    "fixed": T.BinaryType,
    "enum": T.StringType,
}
_INSTANTS = {"millis": (1000, 1), "micros": (1, 1), "nanos": (1, 1000)}
_DIGITS = 38
_PARTS = ("type", "items", "values", "fields")


class ConvertedType:
    """A Spark type, and the conversion of its values for Arrow, or None."""

    def __init__(self, kind: T.DataType, convert: Convert | None = None) -> None:
        """Take both."""
        self.type = kind
        self.convert = convert


def without_logical(schema: Any) -> Any:
    """Return a schema whose values are read as they are stored, because the library's own dates end at the year 9999.

    Unions that become JSON keep their logical types, because only the library knows the branch of a value.
    """
    if isinstance(schema, list):
        return schema if _is_union(schema) else [without_logical(branch) for branch in schema]
    if isinstance(schema, dict):
        return {key: _without_logical_parts(value) if key in _PARTS else value for key, value in schema.items() if key != "logicalType"}
    return schema


def _without_logical_parts(value: Any) -> Any:
    is_fields = isinstance(value, list) and value and all(isinstance(part, dict) and "name" in part and "type" in part for part in value)
    is_fields = is_fields and not any(part["type"] in ("record", "error", "enum", "fixed") and _is_definition(part) for part in value)
    return [without_logical(part) for part in value] if is_fields else without_logical(value)


def _is_definition(part: Mapping[str, Any]) -> bool:
    return any(key in part for key in ("fields", "symbols", "size"))


def resolve_type(schema: Any, named: Mapping[str, Any], within: tuple[str, ...] = ()) -> ConvertedType:
    """Return the Spark type of a parsed schema; ``named`` are its named types, ``within`` the records around it.

    Unions of several types and recursive records become JSON.
    """
    if isinstance(schema, list):
        branches = [branch for branch in schema if branch != "null"]
        if _is_union(schema):
            return ConvertedType(T.StringType(), to_json_text)
        return resolve_type(branches[0] if branches else "null", named, within)
    if isinstance(schema, str):
        return resolve_type(named[schema], named, within) if schema in named else ConvertedType(_PRIMITIVES[schema]())
    kind = schema["type"]
    if kind in ("record", "error"):
        return (
            ConvertedType(T.StringType(), to_json_text)
            if schema["name"] in within
            else _resolve_record(schema, named, (*within, schema["name"]))
        )
    if kind == "array":
        return _resolve_array(resolve_type(schema["items"], named, within))
    if kind == "map":
        return _resolve_map(resolve_type(schema["values"], named, within))
    if isinstance(kind, str) and kind in _PRIMITIVES:
        return _resolve_logical(schema) or ConvertedType(_PRIMITIVES[kind]())
    return resolve_type(kind, named, within)


def to_json_text(value: Any) -> str | None:
    """Return a value as JSON, with bytes as Latin-1 characters as in Avro's JSON encoding."""
    return None if value is None else json.dumps(value, default=_encode_json_value, ensure_ascii=False)


def _encode_json_value(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _is_union(schema: list[Any]) -> bool:
    return sum(branch != "null" for branch in schema) > 1


def _resolve_record(schema: Mapping[str, Any], named: Mapping[str, Any], within: tuple[str, ...]) -> ConvertedType:
    parts = {field["name"]: resolve_type(field["type"], named, within) for field in schema["fields"]}
    converts = {name: part.convert for name, part in parts.items() if part.convert}

    def convert(value: Any) -> Any:
        if value is not None:
            for name, each in converts.items():
                value[name] = each(value[name])
        return value

    return ConvertedType(T.StructType([T.StructField(name, part.type) for name, part in parts.items()]), convert if converts else None)


def _resolve_array(item: ConvertedType) -> ConvertedType:
    each = item.convert
    return ConvertedType(
        T.ArrayType(item.type), None if each is None else lambda value: None if value is None else [each(part) for part in value]
    )


def _resolve_map(item: ConvertedType) -> ConvertedType:
    each = item.convert or (lambda value: value)
    kind = T.MapType(T.StringType(), item.type)
    return ConvertedType(kind, lambda value: None if value is None else [(key, each(part)) for key, part in value.items()])


def _resolve_logical(schema: Mapping[str, Any]) -> ConvertedType | None:
    """Return the Spark type of a logical type, None where Spark has none or the logical type does not fit its base type."""
    kind, logical = schema["type"], schema.get("logicalType", "")
    if kind == "int" and logical == "date":
        return ConvertedType(T.DateType())
    what, _, unit = logical.rpartition("-")
    if kind == "long" and what in ("timestamp", "local-timestamp") and unit in _INSTANTS:
        return ConvertedType(T.TimestampType() if what == "timestamp" else T.TimestampNTZType(), _convert_instant(*_INSTANTS[unit]))
    if logical == "uuid" and (kind == "string" or (kind == "fixed" and schema.get("size") == 16)):
        return ConvertedType(T.StringType(), lambda value: str(UUID(bytes=value)) if isinstance(value, bytes) else _to_text(value))
    if logical == "decimal" and kind in ("bytes", "fixed"):
        precision, scale = schema.get("precision", 0), schema.get("scale", 0)
        if 0 < precision <= _DIGITS and 0 <= scale <= precision:
            return ConvertedType(T.DecimalType(precision, scale), _convert_decimal(scale))
    return None


def _to_text(value: Any) -> str | None:
    return None if value is None else str(value)


def _convert_instant(factor: int, divisor: int) -> Convert | None:
    if factor == divisor:
        return None
    return lambda value: value * factor // divisor if isinstance(value, int) else value


def _convert_decimal(scale: int) -> Convert:
    exact = Context(prec=2 * _DIGITS)

    def convert(value: Any) -> Decimal | None:
        return Decimal(int.from_bytes(value, "big", signed=True)).scaleb(-scale, exact) if isinstance(value, bytes) else value

    return convert
