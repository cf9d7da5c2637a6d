"""Fit XML records to the shape of a schema, with text leaves: what does not fit is reported, and nothing is dropped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import types as T

from tidemill.errors import SourceError
from tidemill.sources.files.xml.values import Nested, Value, to_json_value, values_to_json
from tidemill.sources.schema.types import Evidence


@dataclass
class ElementSummary:
    """What the elements of one name hold: their texts, the names inside, and whether the name repeats in one parent."""

    texts: Evidence = field(default_factory=Evidence)
    inner: dict[str, ElementSummary] = field(default_factory=dict)
    is_repeated: bool = False

    def add(self, value: Value) -> None:
        """Add one value."""
        if isinstance(value, Nested):
            for name, values in value.items():
                child = self.inner.get(name)
                if child is None:
                    child = self.inner[name] = ElementSummary()
                child.is_repeated = child.is_repeated or len(values) > 1
                for each in values:
                    child.add(each)
        elif value:
            self.texts.add(value)

    def merge(self, other: ElementSummary) -> None:
        """Add another summary."""
        self.texts.merge(other.texts)
        self.is_repeated = self.is_repeated or other.is_repeated
        for name, child in other.inner.items():
            self.inner.setdefault(name, ElementSummary()).merge(child)

    def to_json(self) -> str:
        """Return the summary as JSON."""
        return json.dumps(self._to_list())

    @classmethod
    def from_json(cls, text: str) -> ElementSummary:
        """Return the summary that ``to_json`` wrote."""
        return cls._of(json.loads(text))

    def _to_list(self) -> list[Any]:
        return [self.texts.to_list(), self.is_repeated, {name: child._to_list() for name, child in self.inner.items()}]

    @classmethod
    def _of(cls, plain_lists: list[Any]) -> ElementSummary:
        texts, is_repeated, inner = plain_lists
        return cls(Evidence.of(texts), {name: cls._of(each) for name, each in inner.items()}, is_repeated)


def infer_fields(summary: ElementSummary, value_tag: str) -> list[T.StructField]:
    """Return the columns of an element, sorted by name; a name with only empty texts is STRING.

    Raises:
        SourceError: two names inside an element differ in upper and lower case alone.
    """
    inner = dict(summary.inner)
    if summary.texts.kinds:
        text = ElementSummary()
        text.texts.merge(summary.texts)
        if value_tag in inner:
            text.merge(inner[value_tag])
        inner[value_tag] = text
    return [T.StructField(name, _type_of(name, inner[name], value_tag)) for name in sorted(inner)]


def _type_of(path: str, summary: ElementSummary, value_tag: str) -> T.DataType:
    kind: T.DataType
    if summary.inner:
        fields = infer_fields(summary, value_tag)
        _check_case(path, [part.name for part in fields])
        kind = T.StructType(fields)
    else:
        kind = summary.texts.type(T.LongType())
    return T.ArrayType(kind) if summary.is_repeated else kind


def _check_case(path: str, names: Iterable[str]) -> None:
    lower: dict[str, str] = {}
    for name in names:
        other = lower.setdefault(name.lower(), name)
        if other != name:
            raise SourceError(f"in {path}, {other!r} and {name!r} are one name to Delta; declare `schema:` without one of them")


@dataclass
class RecordFindings:
    """The rules that a record breaks, and its parts that are not in the schema, by their path."""

    rules: list[str] = field(default_factory=list)
    unknown: dict[str, object] = field(default_factory=dict)

    @property
    def rescued(self) -> str | None:
        """The unknown parts as a JSON object, None without any."""
        return json.dumps(self.unknown, ensure_ascii=False) if self.unknown else None


FitValues = Callable[[list[Value], RecordFindings], object]
"""Makes the values of one name a value of its type."""


def make_record_fitter(schema: T.StructType, value_tag: str) -> Callable[[Nested, RecordFindings], dict[str, object]]:
    """Return a function that makes a record the values of the schema's columns.

    Raises:
        SourceError: the schema has a type that XML cannot have.
    """
    return _Fitter(value_tag).fields(schema, "", None)


@dataclass(frozen=True)
class _Fitter:
    """Makes a function for each type of a schema; ``column`` is the column of the table, ``path`` the place in it."""

    value_tag: str

    def fields(self, kind: T.StructType, before: str, column: str | None) -> Callable[[Nested, RecordFindings], dict[str, object]]:
        parts = [(part.name, self.of(part.dataType, before + part.name, column or part.name)) for part in kind.fields]
        known = set(kind.names)

        def fit(record: Nested, findings: RecordFindings) -> dict[str, object]:
            fields = {name: take(record[name], findings) if name in record else None for name, take in parts}
            if not record.keys() <= known:
                for name in record.keys() - known:
                    findings.unknown[before + name] = values_to_json(record[name])
            return fields

        return fit

    def of(self, kind: T.DataType, path: str, column: str) -> FitValues:
        """Return a function that takes all values for an array, and exactly one for any other type."""
        if isinstance(kind, T.ArrayType):
            return self._array(kind, path, column)
        single = self._single(kind, path, column)

        def fit(values: list[Value], findings: RecordFindings) -> object:
            if len(values) > 1:
                findings.rules.append(f"repeated:{path}")
                return None
            return None if values[0] is None else single(values[0], findings)

        return fit

    def _array(self, kind: T.ArrayType, path: str, column: str) -> FitValues:
        if isinstance(kind.elementType, T.ArrayType):
            raise SourceError(f"column {column}: XML has no arrays of arrays; declare ARRAY<STRUCT<…>>, as the elements lie in each other")
        element = self._single(kind.elementType, path, column)

        def fit(values: list[Value], findings: RecordFindings) -> object:
            inner = RecordFindings(findings.rules)
            items = [None if value is None else element(value, inner) for value in values]
            if inner.unknown:
                # Keep the whole array: single fields would not say which element they belong to.
                findings.unknown[path] = [to_json_value(value) for value in values]
            return items

        return fit

    def _single(self, kind: T.DataType, path: str, column: str) -> Callable[[Value, RecordFindings], object]:
        if isinstance(kind, T.StructType):
            fields = self.fields(kind, path + ".", column)
            return lambda value, findings: fields(nested, findings) if (nested := self._nested(value)) else None
        if isinstance(kind, T.MapType):
            return self._map(kind, path, column)
        return self._leaf(isinstance(kind, T.StringType), path, column)

    def _map(self, kind: T.MapType, path: str, column: str) -> Callable[[Value, RecordFindings], object]:
        if not isinstance(kind.keyType, T.StringType):
            raise SourceError(f"column {column}: the keys of a MAP are names of elements; declare MAP<STRING, …>")
        take = self.of(kind.valueType, path + ".value", column)

        def fit(value: Value, findings: RecordFindings) -> object:
            inner, nested = RecordFindings(findings.rules), self._nested(value)
            entries = [(name, take(values, inner)) for name, values in nested.items()]
            if inner.unknown:
                findings.unknown[path] = to_json_value(value)
            return entries or None

        return fit

    def _leaf(self, is_text: bool, path: str, column: str) -> Callable[[Value, RecordFindings], object]:
        value_tag = self.value_tag

        def fit(value: Value, findings: RecordFindings) -> object:
            if not isinstance(value, Nested):
                return value if value or is_text else None
            if value.has_children:
                if not is_text:
                    findings.rules.append(f"cast:{column}")
                return json.dumps(to_json_value(value), ensure_ascii=False) if is_text else None
            for name in value.keys() - {value_tag}:
                findings.unknown[f"{path}.{name}"] = values_to_json(value[name])
            return value[value_tag][0] if value_tag in value else "" if is_text else None

        return fit

    def _nested(self, value: Value) -> Nested:
        """Return a text as an element that has it as its value."""
        if isinstance(value, Nested):
            return value
        nested = Nested()
        if value:
            nested[self.value_tag] = [value]
        return nested
