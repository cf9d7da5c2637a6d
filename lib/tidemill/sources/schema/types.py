"""The columns of a source: declared, or inferred without loss of values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from tidemill.column_names import is_added, list_table_columns
from tidemill.errors import SourceError, UsageError
from tidemill.runtime.spark_errors import format_spark_error

_WIDER: dict[type[T.DataType], tuple[type[T.DataType], ...]] = {
    T.ByteType: (T.ShortType, T.IntegerType, T.LongType, T.FloatType, T.DoubleType),
    T.ShortType: (T.IntegerType, T.LongType, T.FloatType, T.DoubleType),
    T.IntegerType: (T.LongType, T.DoubleType),
    T.FloatType: (T.DoubleType,),
    T.DateType: (T.TimestampNTZType,),
}
TIME_TYPES = (T.DateType, T.TimestampType, T.TimestampNTZType)
_DIGITS: dict[type[T.DataType], int] = {T.ByteType: 3, T.ShortType: 5, T.IntegerType: 10, T.LongType: 19}


class NothingToInfer(SourceError):
    """The files can be read, but have no record to infer columns from."""


def parse_schema(spark: SparkSession, text: str) -> T.StructType:
    """Parse a schema in DDL or in Spark's JSON; all columns are nullable.

    Raises:
        UsageError: the text is neither.
        SourceError: it names a column twice, or uses one of tidemill's own names.
    """
    try:
        is_json = text.lstrip().startswith("{")
        schema = T.StructType.fromJson(json.loads(text)) if is_json else spark.createDataFrame([], text).schema
    except (PySparkException, ValueError, KeyError) as error:
        raise UsageError(f'`schema` is neither DDL ("id INT, name STRING") nor Spark\'s JSON: {format_spark_error(error)}') from error
    return validate_schema(schema.fields)


def validate_schema(fields: Iterable[T.StructField]) -> T.StructType:
    """Return the fields as a schema with nullable columns.

    Raises:
        SourceError: a name is there twice (Delta ignores case), or is one of tidemill's own.
    """
    schema = T.StructType([T.StructField(field.name, field.dataType, True) for field in fields])
    if not schema.names:
        raise SourceError("no column is declared or found; give `schema:`")
    spelling_of: dict[str, str] = {}
    for name in schema.names:
        if name.lower() in spelling_of:
            raise SourceError(
                f"columns {spelling_of[name.lower()]!r} and {name!r} are one name to Delta; declare `schema:` without one of them"
            )
        spelling_of[name.lower()] = name
        if is_added(name):
            raise SourceError(f"column {name!r} has a name that tidemill uses itself; rename it in the files or leave it out of `schema:`")
    return schema


def to_table_schema(fields: Iterable[T.StructField]) -> T.StructType:
    """Return a valid schema of the fields, with names that a Delta table can have."""
    fields = list(fields)
    names = list_table_columns([part.name for part in fields])
    return validate_schema([T.StructField(name, part.dataType) for name, part in zip(names, fields, strict=True)])


def match_names(names: Sequence[str], schema: T.StructType) -> list[str | None]:
    """Match the names of a file to columns of the schema; None for names that are not in the schema.

    Exact names match first, then the names that the columns would have in Delta, then names that differ only in case.
    """
    exact, lower = set(schema.names), {name.lower(): name for name in schema.names}
    taken: set[str] = set()
    matched: list[str | None] = [None] * len(names)
    for candidates in (list(names), list_table_columns(names), [lower.get(name.lower(), "") for name in list_table_columns(names)]):
        for place, name in enumerate(candidates):
            if matched[place] is None and name in exact and name not in taken:
                matched[place] = name
                taken.add(name)
    return matched


def is_wider(actual: T.DataType, wanted: T.DataType) -> bool:
    """Return True if ``wanted`` holds every value of ``actual``."""
    if actual == wanted:
        return True
    if isinstance(actual, T.DecimalType) and isinstance(wanted, T.DecimalType):
        return wanted.scale >= actual.scale and wanted.precision - wanted.scale >= actual.precision - actual.scale
    if isinstance(actual, T.NullType):
        return True
    if isinstance(wanted, T.DecimalType) and type(actual) in _DIGITS:
        return wanted.precision - wanted.scale >= _DIGITS[type(actual)]
    return isinstance(wanted, _WIDER.get(type(actual), ()))


def common_type(one: T.DataType, other: T.DataType) -> T.DataType:
    """Return the narrowest type that holds the values of both types: one of them, DOUBLE for numbers, or STRING."""
    if is_wider(one, other):
        return other
    if is_wider(other, one):
        return one
    numeric = (T.IntegerType, T.LongType, T.DoubleType, T.DecimalType)
    return T.DoubleType() if isinstance(one, numeric) and isinstance(other, numeric) else T.StringType()


def list_wider_types(kind: T.DataType) -> list[T.DataType]:
    """Return the types that a column may be widened to, the narrowest first.

    DOUBLE holds BIGINT values only up to 2^53, so widening to it requires a check of the values.
    """
    if isinstance(kind, T.LongType):
        return [T.DecimalType(20, 0), T.DecimalType(38, 0), T.DoubleType()]
    if isinstance(kind, T.DecimalType):
        whole = kind.precision - kind.scale
        scales = (kind.scale, kind.scale + (38 - kind.precision) // 2, 38 - whole)
        return [wider for scale in scales if is_wider(kind, wider := T.DecimalType(38, scale)) and wider != kind]
    if isinstance(kind, T.ByteType | T.ShortType | T.IntegerType):
        return [wider for wider in (T.IntegerType(), T.LongType(), T.DoubleType()) if wider != kind]
    return [wider() for wider in _WIDER.get(type(kind), ())]


TEXT, WHOLE, FRACTION, TRUTH, INSTANT, DAY = "text", "whole", "fraction", "truth", "instant", "day"
_PATTERN = re.compile(
    r"(?P<whole>[+-]?(?:0|[1-9]\d*))"
    r"|(?P<fraction>[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?|NaN|[+-]?INF|[+-]?Inf(?:inity)?)"
    r"|(?P<truth>(?i:true|false))"
    r"|(?P<instant>\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?(?:Z|[+-]\d{2}:\d{2})?)?)"
    r"|(?P<day>\d{4}-\d{2}-\d{2})",
    re.ASCII,
)
_SIMPLE_TYPES = {frozenset({TRUTH}): T.BooleanType, frozenset({DAY}): T.DateType}
_INSTANTS = frozenset({INSTANT, DAY})
_DECIMAL_DIGITS = 38
_UNROUNDED = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
# DOUBLE gives back every number with so many significant digits.
_DOUBLE_DIGITS = 15


@dataclass
class Evidence:
    """The evidence about the type of a column: the kinds of its texts, and the digits of its numbers.

    ``whole_digits`` and ``decimals`` are the maximum digits before and after the point, ``lowest`` and ``highest`` the range of whole
    numbers. ``fits_double``: DOUBLE gives back every number. ``is_padded``: a number has white space around it.
    """

    kinds: set[str] = field(default_factory=set)
    whole_digits: int = 0
    decimals: int = 0
    lowest: int = 0
    highest: int = 0
    fits_double: bool = True
    is_padded: bool = False

    def add(self, text: str) -> None:
        """Add one text; empty ones are ignored."""
        if TEXT in self.kinds or not text:
            return
        match = _PATTERN.fullmatch(text.strip(" "))
        kind = (match.lastgroup if match else None) or TEXT
        is_padded = text[0] == " " or text[-1] == " "
        if (is_padded and kind not in (WHOLE, FRACTION)) or (kind in _INSTANTS and not _is_in_calendar(text, kind)):
            kind = TEXT
        self.kinds.add(kind)
        self.is_padded = self.is_padded or is_padded
        if kind in (WHOLE, FRACTION):
            self._add_number(text.strip(" "), kind)

    def merge(self, other: Evidence) -> None:
        """Add the evidence of another part of the data."""
        self.kinds |= other.kinds
        self.whole_digits, self.decimals = max(self.whole_digits, other.whole_digits), max(self.decimals, other.decimals)
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        self.fits_double = self.fits_double and other.fits_double
        self.is_padded = self.is_padded or other.is_padded

    def type(self, smallest: T.IntegerType | T.LongType) -> T.DataType:
        """Return the narrowest type that keeps every value, at least ``smallest`` for whole numbers; STRING without evidence."""
        if self.kinds and self.kinds <= {WHOLE, FRACTION}:
            return self._number_type(smallest)
        if INSTANT in self.kinds and self.kinds <= _INSTANTS:
            return T.TimestampType()
        return _SIMPLE_TYPES.get(frozenset(self.kinds), T.StringType)()

    def to_list(self) -> list[Any]:
        """Return the evidence as a list for JSON."""
        return [sorted(self.kinds), self.whole_digits, self.decimals, self.lowest, self.highest, self.fits_double, self.is_padded]

    @classmethod
    def of(cls, parts: Iterable[Any]) -> Evidence:
        """Return the evidence of a list from ``to_list``."""
        kinds, *others = parts
        return cls(set(kinds), *others)

    def _add_number(self, text: str, kind: str) -> None:
        if kind == WHOLE:
            number = int(text) if len(text) <= 2 * _DECIMAL_DIGITS else 10 ** (2 * _DECIMAL_DIGITS)
            self.lowest, self.highest = min(self.lowest, number), max(self.highest, number)
            self.whole_digits = max(self.whole_digits, len(text.lstrip("+-")))
            self.fits_double = self.fits_double and (len(text) <= _DOUBLE_DIGITS or _fits_double(text))
            return
        if len(text) <= _DOUBLE_DIGITS and text.replace(".", "", 1).lstrip("+-").isdigit():
            before, _, behind = text.lstrip("+-").partition(".")
            self.whole_digits = max(self.whole_digits, len(before.lstrip("0")))
            self.decimals = max(self.decimals, len(behind.rstrip("0")))
            return
        number = Decimal(text.replace("INF", "Infinity"))
        if number.is_finite():
            _, digits, exponent = number.normalize(_UNROUNDED).as_tuple()
            self.whole_digits = max(self.whole_digits, len(digits) + int(exponent))
            self.decimals = max(self.decimals, -int(exponent))
            self.fits_double = self.fits_double and _fits_double(text)

    def _number_type(self, smallest: T.IntegerType | T.LongType) -> T.DataType:
        if FRACTION not in self.kinds:
            if self.is_padded:
                return T.StringType()  # Spark does not parse whole numbers with spaces around them
            for bits, kind in ((31, T.IntegerType()), (63, T.LongType())):
                if -(1 << bits) <= self.lowest and self.highest < 1 << bits and not (bits == 31 and isinstance(smallest, T.LongType)):
                    return kind
        elif self.fits_double:
            return T.DoubleType()
        digits = self.whole_digits + self.decimals
        return T.DecimalType(digits, self.decimals) if digits <= _DECIMAL_DIGITS else T.StringType()


def _fits_double(text: str) -> bool:
    number = float(text)
    return math.isfinite(number) and Decimal(repr(number)) == Decimal(text)


def _is_in_calendar(text: str, kind: str) -> bool:
    try:
        _ = date.fromisoformat(text) if kind == DAY else datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
