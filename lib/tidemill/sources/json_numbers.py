"""The types of numbers in JSON, by how they are written: Spark makes a DOUBLE of every fraction, whatever digits that loses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from tidemill.sources.inference import Evidence

_EVIDENCE = "evidence"
_ELEMENT = "[]"
"""The step of a path that stands for every element of an array."""

_Path = tuple[str, ...]


class _Number(str):
    """A number as it is written."""


def exact_numbers(text: DataFrame, schema: T.StructType) -> T.StructType:
    """Return the schema that Spark infers for objects, the one STRING column of ``text``, with types that keep all digits of numbers."""
    paths = list(_lossy(schema, ()))
    if not paths:
        return schema
    found = {path: Evidence() for path in paths}
    for row in text.mapInArrow(partial(_judged, paths), f"{_EVIDENCE} STRING").collect():
        for path, seen in zip(paths, json.loads(row[_EVIDENCE]), strict=True):
            found[path].merge(Evidence.of(seen))
    kinds = {path: evidence.type(T.LongType()) for path, evidence in found.items() if evidence.kinds}
    typed = _typed(schema, kinds, ())
    assert isinstance(typed, T.StructType)
    return typed


def _lossy(kind: T.DataType, path: _Path) -> Iterator[_Path]:
    """Yield the paths at which Spark has seen numbers that may be more than their type holds."""
    if isinstance(kind, T.StructType):
        for part in kind.fields:
            yield from _lossy(part.dataType, (*path, part.name))
    elif isinstance(kind, T.ArrayType):
        yield from _lossy(kind.elementType, (*path, _ELEMENT))
    elif isinstance(kind, T.DoubleType | T.DecimalType):
        yield path


def _typed(kind: T.DataType, kinds: Mapping[_Path, T.DataType], path: _Path) -> T.DataType:
    if isinstance(kind, T.StructType):
        return T.StructType([T.StructField(part.name, _typed(part.dataType, kinds, (*path, part.name))) for part in kind.fields])
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(_typed(kind.elementType, kinds, (*path, _ELEMENT)))
    return kinds.get(path, kind)


def _judged(paths: Sequence[_Path], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield what the objects of one task tell of the numbers at each path, as JSON."""
    found = [Evidence() for _ in paths]
    for batch in batches:
        for line in batch.column(0).to_pylist():
            try:
                record = json.loads(line, parse_int=_Number, parse_float=_Number)
            except (ValueError, RecursionError):
                continue  # only Spark's lenient options can read it, and Spark's type stays
            for path, evidence in zip(paths, found, strict=True):
                for number in _at(record, path):
                    evidence.add(number)
    yield pa.RecordBatch.from_pydict({_EVIDENCE: [json.dumps([evidence.to_list() for evidence in found])]})


def _at(value: object, path: _Path) -> Iterator[str]:
    if not path:
        if isinstance(value, _Number):
            yield value
    elif path[0] == _ELEMENT:
        for element in value if isinstance(value, list) else ():
            yield from _at(element, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])
