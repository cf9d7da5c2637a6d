"""Recursion over nested types (STRUCT, ARRAY, MAP) and over values of them, leaf by leaf."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import or_

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

Concerns = Callable[[T.DataType], bool]
"""Selects the types of leaves that an operation is about; others are left alone."""


def has_leaf(kind: T.DataType, concerns: Concerns) -> bool:
    """Return True for a type that is, or contains, a leaf of a type that is concerned; keys of a map do not count."""
    if isinstance(kind, T.StructType):
        return any(has_leaf(part.dataType, concerns) for part in kind.fields)
    if isinstance(kind, T.ArrayType):
        return has_leaf(kind.elementType, concerns)
    return has_leaf(kind.valueType, concerns) if isinstance(kind, T.MapType) else concerns(kind)


def replace_leaves(kind: T.DataType, replace: Callable[[T.DataType], T.DataType]) -> T.DataType:
    """Return the type with each leaf replaced; all fields are nullable, keys of maps stay."""
    if isinstance(kind, T.StructType):
        return T.StructType([T.StructField(part.name, replace_leaves(part.dataType, replace)) for part in kind.fields])
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(replace_leaves(kind.elementType, replace))
    if isinstance(kind, T.MapType):
        return T.MapType(kind.keyType, replace_leaves(kind.valueType, replace))
    return replace(kind)


def any_leaf(value: Column, kind: T.DataType, condition: Callable[[Column, T.DataType], Column], concerns: Concerns) -> Column:
    """Return true where the condition holds for a leaf of the value; ``condition`` must not be null."""
    if not has_leaf(kind, concerns):
        return F.lit(False)
    if isinstance(kind, T.StructType):
        parts = [part for part in kind.fields if has_leaf(part.dataType, concerns)]
        return reduce(or_, [any_leaf(value.getField(part.name), part.dataType, condition, concerns) for part in parts])
    if isinstance(kind, T.ArrayType):
        element = kind.elementType
        return F.coalesce(F.exists(value, lambda item: any_leaf(item, element, condition, concerns)), F.lit(False))
    if isinstance(kind, T.MapType):
        return any_leaf(F.map_values(value), T.ArrayType(kind.valueType), condition, concerns)
    return condition(value, kind)


def convert_leaves(value: Column, kind: T.DataType, convert: Callable[[Column, T.DataType], Column], concerns: Concerns) -> Column:
    """Return the value with each concerned leaf converted."""
    if not has_leaf(kind, concerns):
        return value
    if isinstance(kind, T.StructType):
        fields = [convert_leaves(value.getField(part.name), part.dataType, convert, concerns).alias(part.name) for part in kind.fields]
        return F.when(value.isNotNull(), F.struct(*fields))
    if isinstance(kind, T.ArrayType):
        element = kind.elementType
        return F.transform(value, lambda item: convert_leaves(item, element, convert, concerns))
    if isinstance(kind, T.MapType):
        inner = kind.valueType
        return F.transform_values(value, lambda _, item: convert_leaves(item, inner, convert, concerns))
    return convert(value, kind)
