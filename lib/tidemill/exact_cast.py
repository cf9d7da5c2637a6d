"""Casts that lose nothing: a value that would be rounded, cut or wrapped becomes null."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

_FLOATING = (T.FloatType, T.DoubleType)
_WIDEST = "decimal(38,18)"
_ONLY_A_DAY = r"^\s*[^\sT]+\s*$"


def exact_cast(value: Column, found: T.DataType, wanted: str | T.DataType) -> Column:
    """Return ``value``, of type ``found``, as the type ``wanted`` (a type, or DDL); null where a part of it would be lost.

    2.9 is no INT, 2.345 no DECIMAL(10,2), an instant at noon no DATE. A double becomes the nearest FLOAT, and a number the nearest DOUBLE,
    as these types hold no number but the nearest.
    """
    kind = _all_nullable(T.DataType.fromDDL(wanted) if isinstance(wanted, str) else wanted)
    cast = value.try_cast(kind)
    if isinstance(found, T.MapType) and isinstance(kind, T.MapType) and not _has_map(found.valueType):
        entries = exact_cast(F.map_entries(value), _entries(found), _entries(kind))
        return F.when(entries.isNotNull(), cast)
    if isinstance(kind, T.StringType) or _has_map(found):
        return cast
    if isinstance(found, T.StringType):
        return _of_text(value, cast, kind)
    if isinstance(kind, _FLOATING) and isinstance(found, T.FractionalType):
        # A finite number must not become infinite.
        return F.when(F.abs(cast) < float("inf"), cast).when(~(F.abs(value.cast("double")) < float("inf")), cast)
    return F.when(cast.try_cast(_all_nullable(found)).eqNullSafe(value), cast)


def exact_date(text: Column) -> Column:
    """Return the DATE that a text means, with no time of day but midnight; null where something else follows the day."""
    date = text.try_cast("date")
    is_midnight = F.coalesce(text.try_cast("timestamp_ntz") == date.cast("timestamp_ntz"), F.lit(False))
    return F.when(text.rlike(_ONLY_A_DAY) | is_midnight, date)


def _of_text(text: Column, cast: Column, kind: T.DataType) -> Column:
    """Return the value that a text means; Spark would round a decimal, and cut the time of day off a date."""
    if isinstance(kind, T.DecimalType):
        exact = text.try_cast(_WIDEST)
        return F.when(F.coalesce(exact == cast.cast(_WIDEST), cast.cast("double") == text.try_cast("double")), cast)
    if isinstance(kind, T.DateType):
        return exact_date(text)
    return cast


def _all_nullable(kind: T.DataType) -> T.DataType:
    """Return the type with elements that may all be null: those that a cast is tried on may be."""
    if isinstance(kind, T.StructType):
        return T.StructType([T.StructField(part.name, _all_nullable(part.dataType)) for part in kind.fields])
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(_all_nullable(kind.elementType))
    return T.MapType(_all_nullable(kind.keyType), _all_nullable(kind.valueType)) if isinstance(kind, T.MapType) else kind


def _entries(kind: T.MapType) -> T.ArrayType:
    """Return the type of the entries of a map."""
    return T.ArrayType(T.StructType([T.StructField("key", kind.keyType), T.StructField("value", kind.valueType)]))


def _has_map(kind: T.DataType) -> bool:
    """Return True for types whose values cannot be compared."""
    if isinstance(kind, T.StructType):
        return any(_has_map(part.dataType) for part in kind.fields)
    if isinstance(kind, T.ArrayType):
        return _has_map(kind.elementType)
    return isinstance(kind, T.MapType | T.VariantType)
