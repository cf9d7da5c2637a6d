"""What lies deeper in JSON records: keys that the schema lacks, keys that stand twice, numbers that are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from operator import or_

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.sources.records import is_not_finite

_Path = tuple[str, ...]


def unknown_keys(line: Column, schema: T.StructType, parse: Mapping[str, str]) -> Column | None:
    """Return the nested fields that the schema lacks as a ``MAP<STRING, VARIANT>``, None where the schema nests nothing.

    A field of an object is there under its path (``address.zip``); of an array whose objects have unknown keys the whole is there, as
    nothing else would tell which of them had what.
    """
    found = [_of_object(line, path, kind, parse) for path, kind in _objects(schema)]
    found += [_of_array(line, path, kind, parse) for path, kind in _arrays(schema)]
    nothing = F.from_json(F.lit("{}"), "map<string,variant>")
    return F.map_concat(*[F.coalesce(part, nothing) for part in found]) if found else None


def repeats_a_key(line: Column, schema: T.StructType) -> Column:
    """Return true where a nested object has a key twice."""
    repeats = []
    for path, _ in _objects(schema):
        keys = F.json_object_keys(_at(line, path))
        repeats.append(F.coalesce(F.size(F.array_distinct(keys)) < F.size(keys), F.lit(False)))
    return reduce(or_, repeats, F.lit(False))


def has_not_finite(value: Column, kind: T.DataType) -> Column:
    """Return true where a value of this type is, or holds, NaN or an infinity."""
    if isinstance(kind, T.FloatType | T.DoubleType):
        return is_not_finite(value)
    if isinstance(kind, T.StructType):
        inner = [has_not_finite(value.getField(part.name), part.dataType) for part in kind.fields if has_floats(part.dataType)]
        return reduce(or_, inner, F.lit(False))
    if isinstance(kind, T.ArrayType) and has_floats(kind.elementType):
        element = kind.elementType
        return F.coalesce(F.exists(value, lambda item: has_not_finite(item, element)), F.lit(False))
    if isinstance(kind, T.MapType) and has_floats(kind.valueType):
        return has_not_finite(F.map_values(value), T.ArrayType(kind.valueType))
    return F.lit(False)


def has_floats(kind: T.DataType) -> bool:
    """Return True for a type in which a fraction can stand."""
    if isinstance(kind, T.StructType):
        return any(has_floats(part.dataType) for part in kind.fields)
    if isinstance(kind, T.ArrayType):
        return has_floats(kind.elementType)
    return has_floats(kind.valueType) if isinstance(kind, T.MapType) else isinstance(kind, T.FloatType | T.DoubleType)


def _objects(schema: T.StructType, path: _Path = ()) -> Iterator[tuple[_Path, T.StructType]]:
    for part in schema.fields:
        if isinstance(part.dataType, T.StructType):
            yield (*path, part.name), part.dataType
            yield from _objects(part.dataType, (*path, part.name))


def _arrays(schema: T.StructType, path: _Path = ()) -> Iterator[tuple[_Path, T.StructType]]:
    for part in schema.fields:
        if isinstance(part.dataType, T.ArrayType) and isinstance(part.dataType.elementType, T.StructType):
            yield (*path, part.name), part.dataType.elementType
        elif isinstance(part.dataType, T.StructType):
            yield from _arrays(part.dataType, (*path, part.name))


def _at(line: Column, path: _Path) -> Column:
    return F.get_json_object(line, "$" + "".join(f"['{name}']" for name in path))


def _of_object(line: Column, path: _Path, kind: T.StructType, parse: Mapping[str, str]) -> Column:
    inner, known = _at(line, path), F.array(*[F.lit(name) for name in kind.names])
    is_odd = F.size(F.array_except(F.json_object_keys(inner), known)) > 0
    values = F.from_json(F.when(is_odd, inner), "map<string,variant>", dict(parse))
    unknown = F.map_filter(values, lambda key, value: ~F.array_contains(known, key))
    return F.transform_keys(unknown, lambda key, value: F.concat(F.lit(".".join(path) + "."), key))


def _of_array(line: Column, path: _Path, kind: T.StructType, parse: Mapping[str, str]) -> Column:
    inner, known = _at(line, path), F.array(*[F.lit(name) for name in kind.names])
    keys = F.from_json(inner, "array<map<string,string>>", dict(parse))
    is_odd = F.exists(keys, lambda item: F.size(F.array_except(F.map_keys(item), known)) > 0)
    return F.when(is_odd, F.create_map(F.lit(".".join(path)), F.try_parse_json(inner)))
