"""An XML record in the shape of a schema, each leaf still a text; what does not fit the shape is told, and nothing is dropped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pyspark.sql import types as T

from tidemill.errors import SourceError
from tidemill.sources.xml_values import Nested, Value, plain


@dataclass
class Findings:
    """What was found on the way: the rules that are broken, and the parts that the schema lacks, by their path."""

    rules: list[str] = field(default_factory=list)
    unknown: dict[str, object] = field(default_factory=dict)

    @property
    def rescued(self) -> str | None:
        """The unknown parts as a JSON object."""
        return json.dumps(self.unknown, ensure_ascii=False) if self.unknown else None


Fit = Callable[[Value, str, Findings], object]


def shape(kind: T.DataType) -> T.DataType:
    """Return the type with STRING for every leaf."""
    if isinstance(kind, T.StructType):
        return T.StructType([T.StructField(part.name, shape(part.dataType)) for part in kind.fields])
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(shape(kind.elementType))
    if isinstance(kind, T.MapType):
        return T.MapType(T.StringType(), shape(kind.valueType))
    return T.StringType()


def record_fit(schema: T.StructType, value_tag: str) -> Callable[[Nested, Findings], Sequence[object]]:
    """Return what makes a record the values of the schema's columns, in their order.

    Raises:
        SourceError: the schema has a type that no XML can have.
    """
    parts = {part.name: _values_fit(part.dataType, part.name, value_tag) for part in schema.fields}

    def fit(record: Nested, findings: Findings) -> Sequence[object]:
        for name in record.keys() - parts.keys():
            findings.unknown[name] = _plain(record[name])
        return [take(record[name], name, findings) if name in record else None for name, take in parts.items()]

    return fit


def _plain(values: list[Value]) -> object:
    return plain(values[0]) if len(values) == 1 else [plain(each) for each in values]


def _values_fit(kind: T.DataType, column: str, value_tag: str) -> Callable[[list[Value], str, Findings], object]:
    """Return what makes the values of one name a value of the type: all of them for an array, the only one for any other."""
    if isinstance(kind, T.ArrayType):
        if isinstance(kind.elementType, T.ArrayType):
            raise SourceError(f"column {column}: XML has no arrays of arrays; declare ARRAY<STRUCT<…>>, as the elements lie in each other")
        element = _fit(kind.elementType, column, value_tag)

        def fit_each(values: list[Value], path: str, findings: Findings) -> object:
            inner = Findings(findings.rules)
            found = [None if value is None else element(value, path, inner) for value in values]
            if inner.unknown:
                # Nothing else would tell which of the elements had what.
                findings.unknown[path] = [plain(value) for value in values]
            return found

        return fit_each
    single = _fit(kind, column, value_tag)

    def fit_only(values: list[Value], path: str, findings: Findings) -> object:
        if len(values) > 1:
            findings.rules.append(f"repeated:{path}")
            return None
        return None if values[0] is None else single(values[0], path, findings)

    return fit_only


def _fit(kind: T.DataType, column: str, value_tag: str) -> Fit:
    if isinstance(kind, T.StructType):
        return _struct_fit(kind, column, value_tag)
    if isinstance(kind, T.MapType):
        return _map_fit(kind, column, value_tag)
    is_text = isinstance(kind, T.StringType)

    def fit(value: Value, path: str, findings: Findings) -> object:
        if not isinstance(value, Nested):
            return value if value or is_text else None
        if value.has_children:
            if not is_text:
                findings.rules.append(f"cast:{column}")
            return json.dumps(plain(value), ensure_ascii=False) if is_text else None
        for name in value.keys() - {value_tag}:
            findings.unknown[f"{path}.{name}"] = _plain(value[name])
        return value[value_tag][0] if value_tag in value else "" if is_text else None

    return fit


def _struct_fit(kind: T.StructType, column: str, value_tag: str) -> Fit:
    parts = {part.name: _values_fit(part.dataType, column, value_tag) for part in kind.fields}

    def fit(value: Value, path: str, findings: Findings) -> object:
        value = value if isinstance(value, Nested) else _only_text(value, value_tag)
        if not value:
            return None
        for name in value.keys() - parts.keys():
            findings.unknown[f"{path}.{name}"] = _plain(value[name])
        return {name: take(value[name], f"{path}.{name}", findings) if name in value else None for name, take in parts.items()}

    return fit


def _map_fit(kind: T.MapType, column: str, value_tag: str) -> Fit:
    if not isinstance(kind.keyType, T.StringType):
        raise SourceError(f"column {column}: the keys of a MAP are names of elements; declare MAP<STRING, …>")
    take = _values_fit(kind.valueType, column, value_tag)

    def fit(value: Value, path: str, findings: Findings) -> object:
        value = value if isinstance(value, Nested) else _only_text(value, value_tag)
        return [(name, take(values, f"{path}.{name}", findings)) for name, values in value.items()] if value else None

    return fit


def _only_text(value: str | None, value_tag: str) -> Nested:
    found = Nested()
    if value:
        found[value_tag] = [value]
    return found
