"""Files that bring their own types (Parquet, ORC, Avro): grouped by schema, columns by name, a file that does not fit is bad."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE, renaming_notes
from tidemill.columns import is_hashable
from tidemill.errors import SourceError
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.sources.files.columnar.fitting import Mismatch, fitted, left_over_fields, merged, mismatches, storable
from tidemill.sources.files.fast_path import IS_PLAIN, Quick, is_placed, parsed_once
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.records import IS_HEADER, RAW, RULES, Difference, Records, hash_digits, no_rules
from tidemill.sources.schema.declared import checked_schema, matched_names

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
    notes += renaming_notes(list(dict.fromkeys(name for shape in shapes for name in shape.types.names)))
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
