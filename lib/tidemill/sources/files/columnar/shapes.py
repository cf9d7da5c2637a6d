"""Group files with types by schema, and fit their rows to the schema of the source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import zip_longest
from typing import Literal, NamedTuple

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE, describe_renamings, list_table_columns
from tidemill.columns import is_hashable
from tidemill.errors import SourceError
from tidemill.runtime.spark_errors import SPARK_ERRORS, format_spark_error
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.options import resolve_options
from tidemill.sources.records import (
    Difference,
    FastPath,
    Records,
    format_hash,
    mark_plain,
    no_rules,
    record_columns,
)
from tidemill.sources.schema.types import common_type, is_wider, match_names, validate_schema
from tidemill.spec.models import Source


class Mismatch(NamedTuple):
    """A column at any depth that one side lacks or has as another type, with the fields of ``Difference``."""

    kind: Literal["new", "missing", "type"]
    column: str
    actual: str | None
    expected: str | None


def format_type(kind: T.DataType) -> str:
    """Return a type in SQL: keywords in capitals, names of fields unchanged."""
    if isinstance(kind, T.StructType):
        return f"STRUCT<{', '.join(f'{part.name}: {format_type(part.dataType)}' for part in kind.fields)}>"
    if isinstance(kind, T.ArrayType):
        return f"ARRAY<{format_type(kind.elementType)}>"
    if isinstance(kind, T.MapType):
        return f"MAP<{format_type(kind.keyType)}, {format_type(kind.valueType)}>"
    return kind.simpleString().upper()


def find_mismatches(actual: T.DataType, wanted: T.DataType, path: str = "") -> Iterator[Mismatch]:
    """Yield the differences of two types; array elements are named ``items.element``, map values ``items.value``, as in Spark."""
    if isinstance(actual, T.StructType) and isinstance(wanted, T.StructType):
        matched = match_names(actual.names, wanted)
        for part, name in zip(actual.fields, matched, strict=True):
            if name is None:
                yield Mismatch("new", path + part.name, format_type(part.dataType), None)
            else:
                yield from find_mismatches(part.dataType, wanted[name].dataType, f"{path}{name}.")
        for part in wanted.fields:
            if part.name not in matched:
                yield Mismatch("missing", path + part.name, None, format_type(part.dataType))
    elif isinstance(actual, T.ArrayType) and isinstance(wanted, T.ArrayType):
        yield from find_mismatches(actual.elementType, wanted.elementType, f"{path}element.")
    elif isinstance(actual, T.MapType) and isinstance(wanted, T.MapType) and format_type(actual.keyType) == format_type(wanted.keyType):
        yield from find_mismatches(actual.valueType, wanted.valueType, f"{path}value.")
    elif format_type(actual) != format_type(wanted) and not is_wider(actual, wanted):
        yield Mismatch("type", path.rstrip("."), format_type(actual), format_type(wanted))


def fit_value(value: Column, actual: T.DataType, wanted: T.DataType) -> Column:
    """Return the value as a compatible wanted type: fields by name, null for missing ones."""
    if format_type(actual) == format_type(wanted):
        return value
    if isinstance(actual, T.StructType) and isinstance(wanted, T.StructType):
        matched = {name: part for name, part in zip(match_names(actual.names, wanted), actual.fields, strict=True) if name}
        fields = [
            fit_value(value.getField(matched[part.name].name), matched[part.name].dataType, part.dataType).alias(part.name)
            if part.name in matched
            else F.lit(None).cast(part.dataType).alias(part.name)
            for part in wanted.fields
        ]
        return F.when(value.isNotNull(), F.struct(*fields)).cast(wanted)
    if isinstance(actual, T.ArrayType) and isinstance(wanted, T.ArrayType):
        inner, outer = actual.elementType, wanted.elementType
        return F.transform(value, lambda element: fit_value(element, inner, outer))
    if isinstance(actual, T.MapType) and isinstance(wanted, T.MapType):
        inner, outer = actual.valueType, wanted.valueType
        return F.transform_values(value, lambda _, element: fit_value(element, inner, outer))
    return value.cast(wanted)


def select_leftover(value: Column, actual: T.DataType, wanted: T.DataType) -> Column | None:
    """Return the nested fields that the wanted type lacks, in their own shape; None where there are none."""
    if isinstance(actual, T.StructType) and isinstance(wanted, T.StructType):
        fields = leftover_fields(value, actual, wanted)
        return F.when(value.isNotNull(), F.struct(*fields)) if fields else None
    if isinstance(actual, T.ArrayType) and isinstance(wanted, T.ArrayType):
        inner, outer = actual.elementType, wanted.elementType
        if not _has_new(inner, outer):
            return None
        return F.transform(value, lambda element: _require(select_leftover(element, inner, outer)))
    if isinstance(actual, T.MapType) and isinstance(wanted, T.MapType):
        inner, outer = actual.valueType, wanted.valueType
        if not _has_new(inner, outer):
            return None
        return F.transform_values(value, lambda _, element: _require(select_leftover(element, inner, outer)))
    return None


def leftover_fields(value: Column, actual: T.StructType, wanted: T.StructType) -> list[Column]:
    """Return the fields of a struct that the wanted one lacks, wholly or partly, under their names."""
    fields = []
    for part, name in zip(actual.fields, match_names(actual.names, wanted), strict=True):
        field = value.getField(part.name)
        rest = field if name is None else select_leftover(field, part.dataType, wanted[name].dataType)
        if rest is not None:
            fields.append(rest.alias(part.name))
    return fields


def merge_types(one: T.DataType, other: T.DataType) -> T.DataType:
    """Return the type that holds the values of both: the fields of both structs by name, the common type of two plain types."""
    if isinstance(one, T.StructType) and isinstance(other, T.StructType):
        fields = {part.name: part.dataType for part in one.fields}
        for part, name in zip(other.fields, match_names(other.names, one), strict=True):
            fields[name or part.name] = merge_types(fields[name], part.dataType) if name else part.dataType
        return T.StructType([T.StructField(name, kind) for name, kind in fields.items()])
    if isinstance(one, T.ArrayType) and isinstance(other, T.ArrayType):
        return T.ArrayType(merge_types(one.elementType, other.elementType))
    if isinstance(one, T.MapType) and isinstance(other, T.MapType) and format_type(one.keyType) == format_type(other.keyType):
        return T.MapType(one.keyType, merge_types(one.valueType, other.valueType))
    return one if format_type(one) == format_type(other) else common_type(one, other)


def to_delta_type(kind: T.DataType) -> T.DataType:
    """Return the type with names that Delta allows, nullable fields, and STRING in place of the type of nulls."""
    if isinstance(kind, T.StructType):
        names = list_table_columns(kind.names)
        return T.StructType([T.StructField(name, to_delta_type(part.dataType)) for name, part in zip_longest(names, kind.fields)])
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(to_delta_type(kind.elementType))
    if isinstance(kind, T.MapType):
        return T.MapType(to_delta_type(kind.keyType), to_delta_type(kind.valueType))
    return T.StringType() if isinstance(kind, T.NullType) else kind


def _has_new(actual: T.DataType, wanted: T.DataType) -> bool:
    return any(mismatch.kind == "new" for mismatch in find_mismatches(actual, wanted))


def _require(rest: Column | None) -> Column:
    assert rest is not None
    return rest


RECORD = " record"
_HASH = " hash"
_KEEP_NULLS = {"ignoreNullFields": "false"}


@dataclass(frozen=True)
class Shape:
    """Files with the same schema; ``raw`` are the types that Spark reads, ``types`` the logical ones."""

    raw: T.StructType
    types: T.StructType
    files: list[SourceFile] = field(default_factory=list)


def group_by_schema(
    files: Iterable[SourceFile], kind: str, look: Callable[[SourceFile], tuple[str, Callable[[], Shape]]]
) -> tuple[list[Shape], dict[str, str]]:
    """Group the files by schema; return the groups, and the reason for each file whose schema cannot be read.

    ``look`` returns a key for the schema of a file, and a function that makes the shape of a new key with a call of Spark.
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
        except SPARK_ERRORS as error:
            bad[file.path] = f"it is not a readable {kind} file: {format_spark_error(error)}"
    return list(shapes.values()), bad


def infer_columns(shapes: Iterable[Shape], bad: Mapping[str, str]) -> T.StructType:
    """Return the columns of all shapes, with the wider type where shapes differ.

    Raises:
        SourceError: there is no shape.
    """
    types: list[T.DataType] = [shape.types for shape in shapes]
    if not types:
        raise SourceError("; ".join(f"{path}: {reason}" for path, reason in bad.items()))
    columns = to_delta_type(reduce(merge_types, types))
    assert isinstance(columns, T.StructType)
    return validate_schema(columns.fields)


class TypedFiles(ABC):
    """A reader of files that have types."""

    option_names: tuple[str, ...] = ()

    @abstractmethod
    def find_shapes(self, spark: SparkSession, files: Sequence[SourceFile]) -> tuple[list[Shape], dict[str, str]]:
        """Group the files by schema; return the groups, and the reason for each file that cannot be read."""

    @abstractmethod
    def read_shape(self, spark: SparkSession, shape: Shape, options: Mapping[str, str]) -> DataFrame:
        """Return ``RECORD`` (a struct of the shape's types) and ``_source_file`` of the files of a shape."""

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the columns of all files, with the wider type where files differ."""
        return infer_columns(*self.find_shapes(spark, files))

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files, see ``Records``."""
        options = resolve_options(source, self.option_names)
        shapes, bad = self.find_shapes(spark, files)
        return match_records(shapes, bad, schema, lambda shape: self.read_shape(spark, shape, options))


def match_records(shapes: Sequence[Shape], bad: Mapping[str, str], schema: T.StructType, frame_of: Callable[[Shape], DataFrame]) -> Records:
    """Return the records of the shapes that fit the schema; the files of other shapes are bad.

    ``frame_of`` returns a frame with ``RECORD`` (a struct of the shape's types) and ``_source_file``.
    """
    bad = dict(bad)
    paths_of: dict[Mismatch, list[str]] = {}
    frames, fast_paths, notes = [], [], []
    for shape in shapes:
        paths = [file.path for file in shape.files]
        mismatches = list(find_mismatches(shape.types, schema))
        wrong = [mismatch for mismatch in mismatches if mismatch.kind == "type"]
        for mismatch in wrong or mismatches:
            paths_of.setdefault(mismatch, []).extend(paths)
        fault = _find_fault(shape.types, schema, wrong)
        if fault:
            bad |= dict.fromkeys(paths, fault)
            continue
        missing = [mismatch.column for mismatch in mismatches if mismatch.kind == "missing"]
        if missing:
            notes.append(f"{paths[0]}: no column {', '.join(missing)}; null there")
        frame = _add_hash(frame_of(shape), shape.types)
        frames.append(_select_records(frame, shape.types, schema))
        fast_paths.append(_build_fast_path(frame, shape.types, schema))
    differences = tuple(Difference(each.kind, each.column, tuple(paths), each.actual, each.expected) for each, paths in paths_of.items())
    notes += describe_renamings(list(dict.fromkeys(name for shape in shapes for name in shape.types.names)))
    return Records(reduce(DataFrame.unionByName, frames) if frames else None, bad, tuple(notes), differences, fast_paths=tuple(fast_paths))


def _find_fault(types: T.StructType, schema: T.StructType, wrong: Sequence[Mismatch]) -> str | None:
    """Return why the files do not fit the schema, None if they do."""
    if not any(match_names(types.names, schema)):
        return f"none of its columns ({', '.join(types.names[:5])}) is one of the source's ({', '.join(schema.names[:5])})"
    if wrong:
        return f"column {wrong[0].column!r} is {wrong[0].actual}, expected {wrong[0].expected}; correct the file or `schema:`"
    return None


def _add_hash(frame: DataFrame, types: T.StructType) -> DataFrame:
    """Add a hash of the values; types that Spark cannot hash are hashed as JSON.

    Spark's hash ignores nulls, so each value is followed by whether it is null.
    """
    record = F.col(RECORD)
    if is_hashable(types):
        values = [record.getField(name) for name in types.names]
        number = F.xxhash64(*[part for value in values for part in (value, value.isNull())])
    else:
        number = F.xxhash64(F.to_json(record, _KEEP_NULLS))
    return frame.select(RECORD, SOURCE_FILE, number.alias(_HASH)).select(RECORD, SOURCE_FILE, format_hash(F.col(_HASH)).alias(ROW_HASH))


def _build_fast_path(frame: DataFrame, types: T.StructType, schema: T.StructType) -> FastPath:
    rescued = _rescue_fields(F.col(RECORD), types, schema).alias(RESCUED)
    plain = mark_plain(frame.select(*_select_values(types, schema), SOURCE_FILE, ROW_HASH, rescued, RECORD), F.lit(True))
    return FastPath(plain, lambda odd: _select_records(odd, types, schema), frame.count)


def _select_records(frame: DataFrame, types: T.StructType, schema: T.StructType) -> DataFrame:
    record = F.col(RECORD)
    added = record_columns(F.to_json(record, _KEEP_NULLS), rules=no_rules(), rescued=_rescue_fields(record, types, schema))
    return frame.select(*_select_values(types, schema), *added)


def _select_values(types: T.StructType, schema: T.StructType) -> list[Column]:
    """Return the columns of the schema, from the record."""
    record = F.col(RECORD)
    names = {name: part for name, part in zip(match_names(types.names, schema), types.fields, strict=True) if name}
    return [
        (
            fit_value(record.getField(names[part.name].name), names[part.name].dataType, part.dataType)
            if part.name in names
            else F.lit(None).cast(part.dataType)
        ).alias(part.name)
        for part in schema.fields
    ]


def _rescue_fields(record: Column, types: T.StructType, schema: T.StructType) -> Column:
    """Return the fields that are not in the schema as JSON, null where there are none.

    A new column is in every row; a new field inside a struct only where that struct is not null.
    """
    fields = leftover_fields(record, types, schema)
    if not fields:
        return F.lit(None).cast("string")
    rescued = F.to_json(F.struct(*fields), _KEEP_NULLS)
    if None in match_names(types.names, schema):
        return rescued
    return F.when(reduce(lambda one, other: one | other, [part.isNotNull() for part in fields]), rescued)
