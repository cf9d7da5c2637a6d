"""Files that carry their own types: grouped by schema, and their rows as records of the schema of the source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import zip_longest
from typing import Literal, NamedTuple

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE, describe_renamings, list_table_columns
from tidemill.columns import is_hashable
from tidemill.errors import SourceError
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.records import (
    IS_HEADER,
    IS_PLAIN,
    RAW,
    RULES,
    Difference,
    Quick,
    Records,
    hash_digits,
    is_placed,
    no_rules,
    parsed_once,
)
from tidemill.sources.schema.types import checked_schema, is_wider, matched_names, widest


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
        names = list_table_columns(kind.names)
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


RECORD = " record"
_HASH = " hash"
_KEEP_NULLS = {"ignoreNullFields": "false"}


@dataclass(frozen=True)
class Shape:
    """Files with the same schema; ``raw`` are the types as Spark reads them, ``types`` what they mean."""

    raw: T.StructType
    types: T.StructType
    files: list[SourceFile] = field(default_factory=list)


def grouped(
    files: Iterable[SourceFile], kind: str, look: Callable[[SourceFile], tuple[str, Callable[[], Shape]]]
) -> tuple[list[Shape], dict[str, str]]:
    """Return the files grouped by schema, and the reason for each whose schema cannot be read.

    ``look`` returns what tells the schema of a file apart from others, and what makes the shape of one that is new: Spark is asked for
    one file of each.
    """
    shapes: dict[str, Shape] = {}
    bad = {}
    for file in files:
        try:
            key, shape = look(file)
            if key not in shapes:
                shapes[key] = shape()
            shapes[key].files.append(file)
        except (OSError, pa.ArrowException) as error:
            bad[file.path] = f"it is not a readable {kind} file: {str(error).splitlines()[0]}"
        except (PySparkException, Py4JJavaError) as error:
            bad[file.path] = f"it is not a readable {kind} file: {format_spark_error(error)}"
    return list(shapes.values()), bad


def inferred(shapes: Iterable[Shape], bad: Mapping[str, str]) -> T.StructType:
    """Return the columns of all shapes; where two disagree on one, the wider type.

    Raises:
        SourceError: there is no shape.
    """
    types: list[T.DataType] = [shape.types for shape in shapes]
    if not types:
        raise SourceError("; ".join(f"{path}: {reason}" for path, reason in bad.items()))
    found = storable(reduce(merged, types))
    assert isinstance(found, T.StructType)
    return checked_schema(found.fields)


def matched_records(
    shapes: Sequence[Shape], bad: Mapping[str, str], schema: T.StructType, frame_of: Callable[[Shape], DataFrame]
) -> Records:
    """Return the records of the shapes that fit the schema; the files of the others are bad.

    ``frame_of`` gives a frame of ``_record`` (a struct of the shape's types) and ``_source_file``.
    """
    bad = dict(bad)
    found: dict[Mismatch, list[str]] = {}
    frames, quick, notes = [], [], []
    for shape in shapes:
        paths = [file.path for file in shape.files]
        differing = list(mismatches(shape.types, schema))
        wrong = [mismatch for mismatch in differing if mismatch.kind == "type"]
        for mismatch in wrong or differing:
            found.setdefault(mismatch, []).extend(paths)
        fault = _fault(shape.types, schema, wrong)
        if fault:
            bad |= dict.fromkeys(paths, fault)
            continue
        missing = [mismatch.column for mismatch in differing if mismatch.kind == "missing"]
        if missing:
            notes.append(f"{paths[0]}: no column {', '.join(missing)}; null there")
        frame = _hashed(frame_of(shape), shape.types)
        frames.append(_records(frame, shape.types, schema))
        quick.append(_quick(frame, shape.types, schema))
    differences = tuple(Difference(each.kind, each.column, tuple(paths), each.found, each.expected) for each, paths in found.items())
    notes += describe_renamings(list(dict.fromkeys(name for shape in shapes for name in shape.types.names)))
    return Records(reduce(DataFrame.unionByName, frames) if frames else None, bad, tuple(notes), differences, quick=tuple(quick))


def _fault(types: T.StructType, schema: T.StructType, wrong: Sequence[Mismatch]) -> str | None:
    """Return why the files do not fit the schema, None where they do."""
    if not any(matched_names(types.names, schema)):
        return f"none of its columns ({', '.join(types.names[:5])}) is one of the source's ({', '.join(schema.names[:5])})"
    if wrong:
        return f"column {wrong[0].column!r} is {wrong[0].found}, expected {wrong[0].expected}; correct the file or `schema:`"
    return None


def _hashed(frame: DataFrame, types: T.StructType) -> DataFrame:
    """Return the records with a hash of their values; what cannot be hashed is hashed as JSON.

    A null leaves a hash as it was, so that each value is followed by whether it is one.
    """
    record = F.col(RECORD)
    if is_hashable(types):
        values = [record.getField(name) for name in types.names]
        number = F.xxhash64(*[part for value in values for part in (value, value.isNull())])
    else:
        number = F.xxhash64(F.to_json(record, _KEEP_NULLS))
    return frame.select(RECORD, SOURCE_FILE, number.alias(_HASH)).select(RECORD, SOURCE_FILE, hash_digits(F.col(_HASH)).alias(ROW_HASH))


def _quick(frame: DataFrame, types: T.StructType, schema: T.StructType) -> Quick:
    rescued = _rescued(F.col(RECORD), types, schema).alias(RESCUED)
    plain = parsed_once(frame.select(*_values(types, schema), SOURCE_FILE, ROW_HASH, rescued, RECORD)).withColumn(IS_PLAIN, is_placed())
    return Quick(plain, lambda odd: _records(odd, types, schema), frame.count)


def _records(frame: DataFrame, types: T.StructType, schema: T.StructType) -> DataFrame:
    record = F.col(RECORD)
    return frame.select(
        *_values(types, schema),
        SOURCE_FILE,
        ROW_HASH,
        _rescued(record, types, schema).alias(RESCUED),
        F.to_json(record, _KEEP_NULLS).alias(RAW),
        no_rules().alias(RULES),
        F.lit(False).alias(IS_HEADER),
    )


def _values(types: T.StructType, schema: T.StructType) -> list[Column]:
    """Return the columns of the schema, from the record."""
    record = F.col(RECORD)
    names = {name: part for name, part in zip(matched_names(types.names, schema), types.fields, strict=True) if name}
    return [
        (
            fitted(record.getField(names[part.name].name), names[part.name].dataType, part.dataType)
            if part.name in names
            else F.lit(None).cast(part.dataType)
        ).alias(part.name)
        for part in schema.fields
    ]


def _rescued(record: Column, types: T.StructType, schema: T.StructType) -> Column:
    """Return the fields that the schema lacks as JSON, null where there is none.

    A column that is new as a whole is there in every row; one that is new inside a struct only where that struct is not null.
    """
    fields = left_over_fields(record, types, schema)
    if not fields:
        return F.lit(None).cast("string")
    rescued = F.to_json(F.struct(*fields), _KEEP_NULLS)
    if None in matched_names(types.names, schema):
        return rescued
    return F.when(reduce(lambda one, other: one | other, [part.isNotNull() for part in fields]), rescued)
