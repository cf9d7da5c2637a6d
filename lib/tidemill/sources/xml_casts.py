"""Texts in the shape of a schema, made the types of its columns: told where one does not fit, at whatever depth."""

from __future__ import annotations

from functools import reduce
from operator import or_

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.sources.fitted import Fitted, from_text

_LEADING_ZERO = "^ *[+-]?0[0-9]"
_OF_JAVA = "[xX]"  # it reads 0x1p3 as a number


def typed(value: Column, wanted: T.DataType, timezone: str, *, is_inferred: bool = False) -> Fitted:
    """Return a value whose leaves are texts as the wanted type; the column is null where a text does not fit.

    ``is_inferred`` says that nobody declared the type, so that a number which does not give back its text (``007``) does not fit.
    """
    if not _has_types(wanted):
        return Fitted(value, F.lit(False))
    is_misfit = _is_misfit(value, wanted, timezone, is_inferred)
    return Fitted(F.when(~is_misfit, _converted(value, wanted, timezone)), is_misfit)


def _has_types(kind: T.DataType) -> bool:
    """Return True for a type with a leaf that is no text."""
    if isinstance(kind, T.StructType):
        return any(_has_types(part.dataType) for part in kind.fields)
    if isinstance(kind, T.ArrayType):
        return _has_types(kind.elementType)
    return _has_types(kind.valueType) if isinstance(kind, T.MapType) else not isinstance(kind, T.StringType)


def _converted(value: Column, wanted: T.DataType, timezone: str) -> Column:
    if not _has_types(wanted):
        return value
    if isinstance(wanted, T.StructType):
        fields = [_converted(value.getField(part.name), part.dataType, timezone).alias(part.name) for part in wanted.fields]
        return F.when(value.isNotNull(), F.struct(*fields))
    if isinstance(wanted, T.ArrayType):
        element = wanted.elementType
        return F.transform(value, lambda item: _converted(item, element, timezone))
    if isinstance(wanted, T.MapType):
        inner = wanted.valueType
        return F.transform_values(value, lambda _, item: _converted(item, inner, timezone))
    return from_text(value, wanted, timezone).value


def _is_misfit(value: Column, wanted: T.DataType, timezone: str, is_inferred: bool) -> Column:
    if not _has_types(wanted):
        return F.lit(False)
    if isinstance(wanted, T.StructType):
        parts = [part for part in wanted.fields if _has_types(part.dataType)]
        return reduce(or_, [_is_misfit(value.getField(part.name), part.dataType, timezone, is_inferred) for part in parts])
    if isinstance(wanted, T.ArrayType):
        element = wanted.elementType
        return F.coalesce(F.exists(value, lambda item: _is_misfit(item, element, timezone, is_inferred)), F.lit(False))
    if isinstance(wanted, T.MapType):
        return _is_misfit(F.map_values(value), T.ArrayType(wanted.valueType), timezone, is_inferred)
    is_misfit = from_text(value, wanted, timezone).is_misfit
    if isinstance(wanted, T.FloatType | T.DoubleType):
        is_misfit = is_misfit | F.coalesce(value.rlike(_OF_JAVA), F.lit(False))
    if is_inferred and isinstance(wanted, T.NumericType):
        is_misfit = is_misfit | F.coalesce(value.rlike(_LEADING_ZERO), F.lit(False))
    return is_misfit
