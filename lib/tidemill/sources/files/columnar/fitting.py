"""Types that files bring themselves against the types of the schema: matched by name at every depth, nothing dropped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Literal, NamedTuple

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import table_columns
from tidemill.sources.schema.declared import is_wider, matched_names, widest


class Mismatch(NamedTuple):
    """A column, at any depth, that one side lacks or has as another type; fields are those of ``Difference``."""

    kind: Literal["new", "missing", "type"]
    column: str
    found: str | None
    expected: str | None


def type_text(kind: T.DataType) -> str:
    """Return a type as SQL writes it: keywords in capitals, names of fields as they are."""
    if isinstance(kind, T.StructType):
        return f"STRUCT<{', '.join(f'{part.name}: {type_text(part.dataType)}' for part in kind.fields)}>"
    if isinstance(kind, T.ArrayType):
        return f"ARRAY<{type_text(kind.elementType)}>"
    if isinstance(kind, T.MapType):
        return f"MAP<{type_text(kind.keyType)}, {type_text(kind.valueType)}>"
    return kind.simpleString().upper()


def mismatches(found: T.DataType, wanted: T.DataType, path: str = "") -> Iterator[Mismatch]:
    """Yield where two types differ; an element of an array is ``items.element``, a map's value ``items.value``, as Spark names them."""
    if isinstance(found, T.StructType) and isinstance(wanted, T.StructType):
        matched = matched_names(found.names, wanted)
        for part, name in zip(found.fields, matched, strict=True):
            if name is None:
                yield Mismatch("new", path + part.name, type_text(part.dataType), None)
            else:
                yield from mismatches(part.dataType, wanted[name].dataType, f"{path}{name}.")
        for part in wanted.fields:
            if part.name not in matched:
                yield Mismatch("missing", path + part.name, None, type_text(part.dataType))
    elif isinstance(found, T.ArrayType) and isinstance(wanted, T.ArrayType):
        yield from mismatches(found.elementType, wanted.elementType, f"{path}element.")
    elif isinstance(found, T.MapType) and isinstance(wanted, T.MapType) and type_text(found.keyType) == type_text(wanted.keyType):
        yield from mismatches(found.valueType, wanted.valueType, f"{path}value.")
    elif type_text(found) != type_text(wanted) and not is_wider(found, wanted):
        yield Mismatch("type", path.rstrip("."), type_text(found), type_text(wanted))


def fitted(value: Column, found: T.DataType, wanted: T.DataType) -> Column:
    """Return the value as the wanted type, which the found one fits: fields by name, null for those that are missing."""
    if type_text(found) == type_text(wanted):
        return value
    if isinstance(found, T.StructType) and isinstance(wanted, T.StructType):
        matched = {name: part for name, part in zip(matched_names(found.names, wanted), found.fields, strict=True) if name}
        fields = [
            fitted(value.getField(matched[part.name].name), matched[part.name].dataType, part.dataType).alias(part.name)
            if part.name in matched
            else F.lit(None).cast(part.dataType).alias(part.name)
            for part in wanted.fields
        ]
        return F.when(value.isNotNull(), F.struct(*fields)).cast(wanted)
    if isinstance(found, T.ArrayType) and isinstance(wanted, T.ArrayType):
        inner, outer = found.elementType, wanted.elementType
        return F.transform(value, lambda element: fitted(element, inner, outer))
    if isinstance(found, T.MapType) and isinstance(wanted, T.MapType):
        inner, outer = found.valueType, wanted.valueType
        return F.transform_values(value, lambda _, element: fitted(element, inner, outer))
    return value.cast(wanted)


def left_over(value: Column, found: T.DataType, wanted: T.DataType) -> Column | None:
    """Return the fields below the value that the wanted type lacks, in the shape they had; None where there can be none."""
    if isinstance(found, T.StructType) and isinstance(wanted, T.StructType):
        fields = left_over_fields(value, found, wanted)
        return F.when(value.isNotNull(), F.struct(*fields)) if fields else None
    if isinstance(found, T.ArrayType) and isinstance(wanted, T.ArrayType):
        inner, outer = found.elementType, wanted.elementType
        if not _has_new(inner, outer):
            return None
        return F.transform(value, lambda element: _certain(left_over(element, inner, outer)))
    if isinstance(found, T.MapType) and isinstance(wanted, T.MapType):
        inner, outer = found.valueType, wanted.valueType
        if not _has_new(inner, outer):
            return None
        return F.transform_values(value, lambda _, element: _certain(left_over(element, inner, outer)))
    return None


def left_over_fields(value: Column, found: T.StructType, wanted: T.StructType) -> list[Column]:
    """Return the fields of a struct that the wanted one lacks, whole or in part, each under its name."""
    fields = []
    for part, name in zip(found.fields, matched_names(found.names, wanted), strict=True):
        field = value.getField(part.name)
        rest = field if name is None else left_over(field, part.dataType, wanted[name].dataType)
        if rest is not None:
            fields.append(rest.alias(part.name))
    return fields


def merged(one: T.DataType, other: T.DataType) -> T.DataType:
    """Return the type that holds the values of both: fields of both structs by name, the wider of two plain types."""
    if isinstance(one, T.StructType) and isinstance(other, T.StructType):
        fields = {part.name: part.dataType for part in one.fields}
        for part, name in zip(other.fields, matched_names(other.names, one), strict=True):
            fields[name or part.name] = merged(fields[name], part.dataType) if name else part.dataType
        return T.StructType([T.StructField(name, kind) for name, kind in fields.items()])
    if isinstance(one, T.ArrayType) and isinstance(other, T.ArrayType):
        return T.ArrayType(merged(one.elementType, other.elementType))
    if isinstance(one, T.MapType) and isinstance(other, T.MapType) and type_text(one.keyType) == type_text(other.keyType):
        return T.MapType(one.keyType, merged(one.valueType, other.valueType))
    return one if type_text(one) == type_text(other) else widest(one, other)


def storable(kind: T.DataType) -> T.DataType:
    """Return the type with names that a Delta table can have, every field nullable, and STRING where nothing but nulls was found."""
    if isinstance(kind, T.StructType):
        names = table_columns(kind.names)
        return T.StructType([T.StructField(name, storable(part.dataType)) for name, part in zip_longest(names, kind.fields)])
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(storable(kind.elementType))
    if isinstance(kind, T.MapType):
        return T.MapType(storable(kind.keyType), storable(kind.valueType))
    return T.StringType() if isinstance(kind, T.NullType) else kind


def _has_new(found: T.DataType, wanted: T.DataType) -> bool:
    return any(mismatch.kind == "new" for mismatch in mismatches(found, wanted))


def _certain(rest: Column | None) -> Column:
    assert rest is not None
    return rest
