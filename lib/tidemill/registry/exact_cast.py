"""Casts that lose nothing: a value that would be rounded, cut or wrapped becomes null."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

_FLOATING = (T.FloatType, T.DoubleType)
_WIDEST = "decimal(38,18)"


def exact_cast(value: Column, found: T.DataType, wanted: str) -> Column:
    """Return ``value``, of type ``found``, as the type ``wanted`` (Spark's simple string); null where a part of it would be lost.

    2.9 is no INT, 2.345 no DECIMAL(10,2), an instant at noon no DATE. A double becomes the nearest FLOAT, and a number the nearest DOUBLE,
    as these types hold no number but the nearest.
    """
    cast, kind = value.try_cast(wanted), T.DataType.fromDDL(wanted)
    if isinstance(kind, T.StringType) or _has_map(found):
        return cast
    if isinstance(found, T.StringType):
        return _of_text(value, cast, kind)
    if isinstance(kind, _FLOATING) and isinstance(found, T.FractionalType):
        # A finite number must not become infinite.
        return F.when(F.abs(cast) < float("inf"), cast).when(~(F.abs(value.cast("double")) < float("inf")), cast)
    # By its name, as a type whose elements may all be null: what is tried may be.
    return F.when(cast.try_cast(found.simpleString()).eqNullSafe(value), cast)


def _of_text(text: Column, cast: Column, kind: T.DataType) -> Column:
    """Return the value that a text means; Spark would round a decimal, and cut the time of day off a date."""
    if isinstance(kind, T.DecimalType):
        exact = text.try_cast(_WIDEST)
        return F.when(F.coalesce(exact == cast.cast(_WIDEST), cast.cast("double") == text.try_cast("double")), cast)
    if isinstance(kind, T.DateType):
        instant = text.try_cast("timestamp_ntz")
        return F.when(instant.isNull() | (instant == cast.cast("timestamp_ntz")), cast)
    return cast


def _has_map(kind: T.DataType) -> bool:
    """Return True for types whose values cannot be compared."""
    if isinstance(kind, T.StructType):
        return any(_has_map(part.dataType) for part in kind.fields)
    if isinstance(kind, T.ArrayType):
        return _has_map(kind.elementType)
    return isinstance(kind, T.MapType | T.VariantType)
