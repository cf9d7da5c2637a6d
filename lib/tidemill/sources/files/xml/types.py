"""An XML record in the shape of a schema, each leaf still a text; what does not fit the shape is told, and nothing is dropped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import types as T

from tidemill.errors import SourceError
from tidemill.sources.files.xml.values import Nested, Value, plain
from tidemill.sources.schema.types import Evidence


@dataclass
class Seen:
    """What stood under one name: its texts, the names in it, and whether it stood more than once in one place."""

    texts: Evidence = field(default_factory=Evidence)
    inner: dict[str, Seen] = field(default_factory=dict)
    is_repeated: bool = False

    def add(self, value: Value) -> None:
        """Take in one value."""
        if isinstance(value, Nested):
            for name, values in value.items():
                seen = self.inner.get(name)
                if seen is None:
                    seen = self.inner[name] = Seen()
                seen.is_repeated = seen.is_repeated or len(values) > 1
                for each in values:
                    seen.add(each)
        elif value:
            self.texts.add(value)

    def merge(self, other: Seen) -> None:
        """Take in all that another one has seen."""
        self.texts.merge(other.texts)
        self.is_repeated = self.is_repeated or other.is_repeated
        for name, seen in other.inner.items():
            self.inner.setdefault(name, Seen()).merge(seen)

    def to_json(self) -> str:
        """Return it as a text that ``from_json`` reads."""
        return json.dumps(self._plain())

    @classmethod
    def from_json(cls, text: str) -> Seen:
        """Return what ``to_json`` wrote."""
        return cls._of(json.loads(text))

    def _plain(self) -> list[Any]:
        return [self.texts.to_list(), self.is_repeated, {name: seen._plain() for name, seen in self.inner.items()}]

    @classmethod
    def _of(cls, found: list[Any]) -> Seen:
        texts, is_repeated, inner = found
        return cls(Evidence.of(texts), {name: cls._of(each) for name, each in inner.items()}, is_repeated)


def fields_of(seen: Seen, value_tag: str) -> list[T.StructField]:
    """Return what was seen in an element as columns, sorted by name; a name with empty texts alone is STRING.

    Raises:
        SourceError: two names inside an element differ in upper and lower case alone.
    """
    inner = dict(seen.inner)
    if seen.texts.kinds:
        text = Seen()
        text.texts.merge(seen.texts)
        if value_tag in inner:
            text.merge(inner[value_tag])
        inner[value_tag] = text
    return [T.StructField(name, _type_of(name, inner[name], value_tag)) for name in sorted(inner)]


def _type_of(path: str, seen: Seen, value_tag: str) -> T.DataType:
    kind: T.DataType
    if seen.inner:
        fields = fields_of(seen, value_tag)
        _check_case(path, [part.name for part in fields])
        kind = T.StructType(fields)
    else:
        kind = seen.texts.type(T.LongType())
    return T.ArrayType(kind) if seen.is_repeated else kind


def _check_case(path: str, names: Iterable[str]) -> None:
    lower: dict[str, str] = {}
    for name in names:
        other = lower.setdefault(name.lower(), name)
        if other != name:
            raise SourceError(f"in {path}, {other!r} and {name!r} are one name to Delta; declare `schema:` without one of them")


@dataclass
class Findings:
    """What was found on the way: the rules that are broken, and the parts that the schema lacks, by their path."""

    rules: list[str] = field(default_factory=list)
    unknown: dict[str, object] = field(default_factory=dict)

    @property
    def rescued(self) -> str | None:
        """The unknown parts as a JSON object."""
        return json.dumps(self.unknown, ensure_ascii=False) if self.unknown else None


Fit = Callable[[list[Value], Findings], object]
"""What makes the values of one name a value of its type."""


def shape(kind: T.DataType) -> T.DataType:
    """Return the type with STRING for every leaf."""
    if isinstance(kind, T.StructType):
        return T.StructType([T.StructField(part.name, shape(part.dataType)) for part in kind.fields])
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(shape(kind.elementType))
    if isinstance(kind, T.MapType):
        return T.MapType(T.StringType(), shape(kind.valueType))
    return T.StringType()


def record_fit(schema: T.StructType, value_tag: str) -> Callable[[Nested, Findings], dict[str, object]]:
    """Return what makes a record the values of the schema's columns.

    Raises:
        SourceError: the schema has a type that no XML can have.
    """
    return _Shaping(value_tag).fields(schema, "", None)


def _plain(values: list[Value]) -> object:
    return plain(values[0]) if len(values) == 1 else [plain(each) for each in values]


@dataclass(frozen=True)
class _Shaping:
    """Makes a function for each type of a schema; ``column`` is the column it lies in, ``path`` its place there."""

    value_tag: str

    def fields(self, kind: T.StructType, before: str, column: str | None) -> Callable[[Nested, Findings], dict[str, object]]:
        parts = [(part.name, self.of(part.dataType, before + part.name, column or part.name)) for part in kind.fields]
        known = set(kind.names)

        def fit(record: Nested, findings: Findings) -> dict[str, object]:
            found = {name: take(record[name], findings) if name in record else None for name, take in parts}
            if not record.keys() <= known:
                for name in record.keys() - known:
                    findings.unknown[before + name] = _plain(record[name])
            return found

        return fit

    def of(self, kind: T.DataType, path: str, column: str) -> Fit:
        """Return what takes all values for an array, and the only one for any other type."""
        if isinstance(kind, T.ArrayType):
            return self._array(kind, path, column)
        single = self._single(kind, path, column)

        def fit(values: list[Value], findings: Findings) -> object:
            if len(values) > 1:
                findings.rules.append(f"repeated:{path}")
                return None
            return None if values[0] is None else single(values[0], findings)

        return fit

    def _array(self, kind: T.ArrayType, path: str, column: str) -> Fit:
        if isinstance(kind.elementType, T.ArrayType):
            raise SourceError(f"column {column}: XML has no arrays of arrays; declare ARRAY<STRUCT<…>>, as the elements lie in each other")
        element = self._single(kind.elementType, path, column)

        def fit(values: list[Value], findings: Findings) -> object:
            inner = Findings(findings.rules)
            found = [None if value is None else element(value, inner) for value in values]
            if inner.unknown:
                # Nothing else would tell which of the elements had what.
                findings.unknown[path] = [plain(value) for value in values]
            return found

        return fit

    def _single(self, kind: T.DataType, path: str, column: str) -> Callable[[Value, Findings], object]:
        if isinstance(kind, T.StructType):
            fields = self.fields(kind, path + ".", column)
            return lambda value, findings: fields(nested, findings) if (nested := self._nested(value)) else None
        if isinstance(kind, T.MapType):
            return self._map(kind, path, column)
        return self._leaf(isinstance(kind, T.StringType), path, column)

    def _map(self, kind: T.MapType, path: str, column: str) -> Callable[[Value, Findings], object]:
        if not isinstance(kind.keyType, T.StringType):
            raise SourceError(f"column {column}: the keys of a MAP are names of elements; declare MAP<STRING, …>")
        take = self.of(kind.valueType, path + ".value", column)

        def fit(value: Value, findings: Findings) -> object:
            inner, nested = Findings(findings.rules), self._nested(value)
            found = [(name, take(values, inner)) for name, values in nested.items()]
            if inner.unknown:
                findings.unknown[path] = plain(value)
            return found or None

        return fit

    def _leaf(self, is_text: bool, path: str, column: str) -> Callable[[Value, Findings], object]:
        value_tag = self.value_tag

        def fit(value: Value, findings: Findings) -> object:
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

    def _nested(self, value: Value) -> Nested:
        """Return an element with text alone as one of which the text is a part."""
        if isinstance(value, Nested):
            return value
        found = Nested()
        if value:
            found[self.value_tag] = [value]
        return found
