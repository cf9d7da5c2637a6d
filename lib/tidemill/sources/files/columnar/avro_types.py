"""What the types of an Avro schema mean to Spark, and how values become what Arrow takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

from pyspark.sql import types as T

Convert = Callable[[Any], Any]

_PLAIN: dict[str, type[T.DataType]] = {
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


class Meaning:
    """A Spark type, and how its values come about; ``convert`` is None where the value is as Arrow takes it."""

    def __init__(self, kind: T.DataType, convert: Convert | None = None) -> None:
        """Keep both."""
        self.type = kind
        self.convert = convert


def without_logical(schema: Any) -> Any:
    """Return a schema whose values are read as they are stored: the library's own dates end at the year 9999.

    Unions that become JSON keep their logical types, as nothing but the library knows which branch a value is of.
    """
    if isinstance(schema, list):
        return schema if _is_mixed(schema) else [without_logical(branch) for branch in schema]
    if isinstance(schema, dict):
        return {key: _parts(value) if key in _PARTS else value for key, value in schema.items() if key != "logicalType"}
    return schema


def _parts(value: Any) -> Any:
    is_fields = isinstance(value, list) and value and all(isinstance(part, dict) and "name" in part and "type" in part for part in value)
    is_fields = is_fields and not any(part["type"] in ("record", "error", "enum", "fixed") and _is_definition(part) for part in value)
    return [without_logical(part) for part in value] if is_fields else without_logical(value)


def _is_definition(part: Mapping[str, Any]) -> bool:
    return any(key in part for key in ("fields", "symbols", "size"))


def meaning(schema: Any, named: Mapping[str, Any], within: tuple[str, ...] = ()) -> Meaning:
    """Return what a parsed schema means; ``named`` are its named types, ``within`` the records around it.

    A union of several types, and a record inside itself, is JSON.
    """
    if isinstance(schema, list):
        branches = [branch for branch in schema if branch != "null"]
        if _is_mixed(schema):
            return Meaning(T.StringType(), json_text)
        return meaning(branches[0] if branches else "null", named, within)
    if isinstance(schema, str):
        return meaning(named[schema], named, within) if schema in named else Meaning(_PLAIN[schema]())
    kind = schema["type"]
    if kind in ("record", "error"):
        return Meaning(T.StringType(), json_text) if schema["name"] in within else _record(schema, named, (*within, schema["name"]))
    if kind == "array":
        return _array(meaning(schema["items"], named, within))
    if kind == "map":
        return _map(meaning(schema["values"], named, within))
    if isinstance(kind, str) and kind in _PLAIN:
        return _logical(schema) or Meaning(_PLAIN[kind]())
    return meaning(kind, named, within)


def json_text(value: Any) -> str | None:
    """Return a value as JSON; bytes as characters of the same numbers, as Avro's own JSON has them."""
    return None if value is None else json.dumps(value, default=_plain_text, ensure_ascii=False)


def _plain_text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _is_mixed(schema: list[Any]) -> bool:
    return sum(branch != "null" for branch in schema) > 1


def _record(schema: Mapping[str, Any], named: Mapping[str, Any], within: tuple[str, ...]) -> Meaning:
    parts = {field["name"]: meaning(field["type"], named, within) for field in schema["fields"]}
    converts = {name: part.convert for name, part in parts.items() if part.convert}

    def convert(value: Any) -> Any:
        if value is not None:
            for name, each in converts.items():
                value[name] = each(value[name])
        return value

    return Meaning(T.StructType([T.StructField(name, part.type) for name, part in parts.items()]), convert if converts else None)


def _array(item: Meaning) -> Meaning:
    each = item.convert
    return Meaning(
        T.ArrayType(item.type), None if each is None else lambda value: None if value is None else [each(part) for part in value]
    )


def _map(item: Meaning) -> Meaning:
    each = item.convert or (lambda value: value)
    kind = T.MapType(T.StringType(), item.type)
    return Meaning(kind, lambda value: None if value is None else [(key, each(part)) for key, part in value.items()])


def _logical(schema: Mapping[str, Any]) -> Meaning | None:
    """Return what a logical type means, None where it is none that Spark has, or stands on a type it cannot stand on."""
    kind, logical = schema["type"], schema.get("logicalType", "")
    if kind == "int" and logical == "date":
        return Meaning(T.DateType())
    what, _, unit = logical.rpartition("-")
    if kind == "long" and what in ("timestamp", "local-timestamp") and unit in _INSTANTS:
        return Meaning(T.TimestampType() if what == "timestamp" else T.TimestampNTZType(), _instant(*_INSTANTS[unit]))
    if logical == "uuid" and (kind == "string" or (kind == "fixed" and schema.get("size") == 16)):
        return Meaning(T.StringType(), lambda value: str(UUID(bytes=value)) if isinstance(value, bytes) else _text(value))
    if logical == "decimal" and kind in ("bytes", "fixed"):
        precision, scale = schema.get("precision", 0), schema.get("scale", 0)
        if 0 < precision <= _DIGITS and 0 <= scale <= precision:
            return Meaning(T.DecimalType(precision, scale), _decimal(scale))
    return None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _instant(factor: int, divisor: int) -> Convert | None:
    if factor == divisor:
        return None
    return lambda value: value * factor // divisor if isinstance(value, int) else value


def _decimal(scale: int) -> Convert:
    exact = Context(prec=2 * _DIGITS)

    def convert(value: Any) -> Decimal | None:
        return Decimal(int.from_bytes(value, "big", signed=True)).scaleb(-scale, exact) if isinstance(value, bytes) else value

    return convert
