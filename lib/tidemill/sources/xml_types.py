"""The types that texts in XML stand for, from all records: a tree of names, each with the texts that were seen there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import types as T

from tidemill.errors import SourceError
from tidemill.sources.inference import Evidence
from tidemill.sources.xml_values import Nested, Value


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
