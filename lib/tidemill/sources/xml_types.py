"""The types that texts in XML stand for, from all records: a tree of names, each with the kinds of text that were seen there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import reduce
from typing import Any

from pyspark.sql import types as T

from tidemill.errors import SourceError
from tidemill.sources.schemas import widest
from tidemill.sources.xml_values import Nested, Value

_KINDS = re.compile(
    r"(?P<whole>[+-]?(?:0|[1-9]\d*))"
    r"|(?P<fraction>[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|NaN|[+-]?INF|[+-]?Infinity)"
    r"|(?P<truth>(?i:true|false))"
    r"|(?P<instant>\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:\d{2})?)"
    r"|(?P<day>\d{4}-\d{2}-\d{2})",
    re.ASCII,
)
_LONG_DIGITS, _DECIMAL_DIGITS = 18, 38
STRING = "string"
_TYPES: dict[str, T.DataType] = {
    STRING: T.StringType(),
    "bigint": T.LongType(),
    "double": T.DoubleType(),
    "boolean": T.BooleanType(),
    "timestamp": T.TimestampType(),
    "date": T.DateType(),
}


@dataclass
class Seen:
    """What stood under one name: the kinds of its texts, the names in it, and whether it stood more than once in one place."""

    kinds: set[str] = field(default_factory=set)
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
        elif value and STRING not in self.kinds:
            self.kinds.add(kind_of(value))

    def merge(self, other: Seen) -> None:
        """Take in all that another one has seen."""
        self.kinds |= other.kinds
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
        return [sorted(self.kinds), self.is_repeated, {name: seen._plain() for name, seen in self.inner.items()}]

    @classmethod
    def _of(cls, found: list[Any]) -> Seen:
        kinds, is_repeated, inner = found
        return cls(set(kinds), {name: cls._of(each) for name, each in inner.items()}, is_repeated)


def kind_of(text: str) -> str:
    """Return the type of a text, as SQL writes it: one that it can be cast to without losing anything of it.

    A number with zeros before it (a postal code) is a text: it would lose them.
    """
    found = _KINDS.fullmatch(text)
    kind = found.lastgroup if found else None
    if kind == "whole":
        digits = len(text.lstrip("+-"))
        if digits <= _LONG_DIGITS or -(1 << 63) <= int(text) < 1 << 63:
            return "bigint"
        return f"decimal({digits},0)" if digits <= _DECIMAL_DIGITS else STRING
    if kind in ("day", "instant") and not _is_in_calendar(text, kind):
        return STRING
    return {"fraction": "double", "truth": "boolean", "instant": "timestamp", "day": "date"}.get(kind or "", STRING)


def fields_of(seen: Seen, value_tag: str) -> list[T.StructField]:
    """Return what was seen in an element as columns, sorted by name; a name with empty texts alone is STRING.

    Raises:
        SourceError: two names inside an element differ in upper and lower case alone.
    """
    inner = dict(seen.inner)
    if seen.kinds:
        text = Seen(set(seen.kinds))
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
        kind = _widest(seen.kinds)
    return T.ArrayType(kind) if seen.is_repeated else kind


def _widest(kinds: Iterable[str]) -> T.DataType:
    found = sorted(kinds)
    if "date" in found and "timestamp" in found:
        found.remove("date")
    return reduce(widest, map(_sql_type, found)) if found else T.StringType()


def _sql_type(kind: str) -> T.DataType:
    return _TYPES[kind] if kind in _TYPES else T.DecimalType(int(kind.removeprefix("decimal(").removesuffix(",0)")), 0)


def _check_case(path: str, names: Iterable[str]) -> None:
    lower: dict[str, str] = {}
    for name in names:
        other = lower.setdefault(name.lower(), name)
        if other != name:
            raise SourceError(f"in {path}, {other!r} and {name!r} are one name to Delta; declare `schema:` without one of them")


def _is_in_calendar(text: str, kind: str) -> bool:
    try:
        _ = date.fromisoformat(text) if kind == "day" else datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
