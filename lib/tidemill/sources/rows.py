"""Make records of rows that have types of their own, and keep the watermark up to which rows were read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, describe_renamings
from tidemill.columns import column
from tidemill.errors import UsageError, did_you_mean
from tidemill.sources.records import (
    RULES,
    Difference,
    Records,
    collect_rules,
    is_not_finite,
    record_columns,
    row_hash,
    rule,
)
from tidemill.sources.schema.types import TIME_TYPES, is_wider, match_names
from tidemill.spec.models import Source

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class WatermarkPosition:
    """The greatest watermark so far: the column, its SQL type, and the exact value as text.

    A TIMESTAMP is in UTC with the offset (``2026-01-02 03:04:05.123456+00``); a TIMESTAMP_NTZ has none.
    """

    watermark: str
    type: str
    value: str

    def to_json(self) -> str:
        """Return the position as JSON for the commit."""
        return json.dumps(asdict(self))

    @classmethod
    def parse_for(cls, text: str | None, watermark: str, kind: T.DataType) -> WatermarkPosition | None:
        """Parse a position; None without one, or if it is of another column or type, so that everything is read again."""
        if text is None:
            return None
        try:
            position = cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise UsageError(f"the position {text!r} is not one of a watermark; load it once with `load: full`") from error
        return position if (position.watermark, position.type) == (watermark, kind.simpleString()) else None


@dataclass(frozen=True)
class Overlap:
    """How far behind the watermark late rows are read again: seconds for times, a plain number for numbers."""

    amount: float = 0

    @property
    def text(self) -> str:
        """The amount in SQL."""
        return str(int(self.amount)) if self.amount == int(self.amount) else repr(self.amount)


def parse_overlap(duration: str | None, number: str | None, kind: T.DataType, watermark: str) -> Overlap:
    """Parse ``overlap:`` (such as ``10m``) or ``options.overlap`` (a number).

    Raises:
        UsageError: it does not fit the type of the watermark.
    """
    if number is not None:
        if not isinstance(kind, T.NumericType):
            raise UsageError(f"options.overlap: the watermark {watermark!r} is {kind.simpleString().upper()}; write `overlap: 10m`")
        try:
            return Overlap(float(number))
        except ValueError as error:
            raise UsageError(f"options.overlap: expected a number, found {number!r}") from error
    if duration is None:
        return Overlap()
    if not isinstance(kind, TIME_TYPES):
        instead = "write `options: {overlap: 1000}`" if isinstance(kind, T.NumericType) else "leave it out"
        raise UsageError(f"overlap: the watermark {watermark!r} is {kind.simpleString().upper()}, which has no {duration}; {instead}")
    return Overlap(float(int(duration[:-1]) * _SECONDS[duration[-1]]))


BYTES = "\\x"
"""The prefix of bytes that are written as text, followed by hexadecimal digits, as in PostgreSQL."""

_DAY = r"^\d{4}-\d{2}-\d{2}"
_DATE = rf"{_DAY}([ T]00:00(:00(\.0+)?)?)?$"
_LOCAL = rf"{_DAY}([ T]\d{{2}}:\d{{2}}(:\d{{2}}(\.\d{{1,9}})?)?)?(Z|[+-]00(:?00)?)?$"
_INSTANT = rf"{_DAY}([ T]\d{{2}}:\d{{2}}(:\d{{2}}(\.\d{{1,9}})?)?)?\s*(Z|[+-]\d{{2}}(:?\d{{2}})?)?$"
_ZONE = r"\d{2}:\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"


@dataclass(frozen=True)
class CastResult:
    """A value of the wanted type, null where it does not fit, and whether it does not fit."""

    value: Column
    is_misfit: Column


def cast_value(value: Column, actual: T.DataType, wanted: T.DataType, timezone: str = "UTC") -> CastResult:
    """Return a column of type ``actual`` as ``wanted``."""
    if is_wider(actual, wanted) or actual.simpleString() == wanted.simpleString():
        return CastResult(value.cast(wanted), F.lit(False))
    text = format_value(value, actual)
    return CastResult(text, F.lit(False)) if isinstance(wanted, T.StringType) else parse_text(text, wanted, timezone)


def format_value(value: Column, actual: T.DataType) -> Column:
    """Return the text of a value, from which the same value can be read."""
    if isinstance(actual, T.BinaryType):
        return F.concat(F.lit(BYTES), F.lower(F.hex(value)))
    nested = isinstance(actual, T.StructType | T.ArrayType | T.MapType)
    return F.to_json(value, {"ignoreNullFields": "false"}) if nested else value.cast("string")


def parse_text(text: Column, wanted: T.DataType, timezone: str = "UTC") -> CastResult:
    """Parse a text as ``wanted``; times without a zone are in ``timezone``, bytes as ``BYTES`` and digits, nested values as JSON."""
    if isinstance(wanted, T.ArrayType):
        return _parse_array(text, wanted, timezone)
    value = _parse_scalar(text, wanted, timezone)
    return CastResult(value, text.isNotNull() & value.isNull())


def _parse_scalar(text: Column, wanted: T.DataType, timezone: str) -> Column:
    if isinstance(wanted, T.StringType):
        return text
    if isinstance(wanted, T.BinaryType):
        return F.when(F.startswith(text, F.lit(BYTES)), F.try_to_binary(F.substring(text, 3, 1 << 30), F.lit("hex"))).otherwise(
            text.cast("binary")
        )
    if isinstance(wanted, T.IntegralType):
        exact = text.try_cast(T.DecimalType(38, 18))
        return F.coalesce(text.try_cast(wanted), F.when(exact == F.floor(exact), exact.try_cast(wanted)))
    if isinstance(wanted, T.DecimalType):
        return F.when(_fits_scale(text, wanted), text.try_cast(wanted))
    if isinstance(wanted, T.FloatType | T.DoubleType):
        return F.when(~text.rlike(r"\d\s*[dDfF]\s*$"), text.try_cast(wanted))  # Java accepts the letter as part of a number
    if isinstance(wanted, T.DateType):
        return F.when(text.rlike(_DATE), text.try_cast(wanted))  # Spark ignores whatever follows the day
    if isinstance(wanted, T.TimestampNTZType):
        return F.when(text.rlike(_LOCAL), text.try_cast(wanted))
    if isinstance(wanted, T.TimestampType):
        local = text.try_cast(wanted)
        instant = local if timezone == "UTC" else F.when(text.rlike(_ZONE), local).otherwise(F.to_utc_timestamp(local, timezone))
        return F.when(text.rlike(_INSTANT), instant)
    if isinstance(wanted, T.StructType):
        return _parse_struct(text, wanted, timezone)
    if isinstance(wanted, T.MapType):
        return F.from_json(text, wanted.simpleString(), {"timeZone": timezone})
    return F.try_parse_json(text) if isinstance(wanted, T.VariantType) else text.try_cast(wanted)


def _fits_scale(text: Column, wanted: T.DecimalType) -> Column:
    """Return true for a number whose decimals fit the type's scale; Spark would round others."""
    decimals = F.length(F.regexp_extract(text, r"\.(\d*?)0*\s*$", 1)) <= wanted.scale
    powers = text.try_cast("double") == text.try_cast(wanted).cast("double")
    return F.when(text.rlike("[eE]"), powers).otherwise(decimals)


def _parse_struct(text: Column, wanted: T.StructType, timezone: str) -> Column:
    corrupt = " does_not_fit"
    checked = T.StructType([*wanted.fields, T.StructField(corrupt, T.StringType())])
    parsed = F.from_json(text, checked, {"columnNameOfCorruptRecord": corrupt, "timeZone": timezone})
    return F.when(parsed[corrupt].isNull() & parsed.isNotNull(), parsed.dropFields(corrupt))


def _parse_array(text: Column, wanted: T.ArrayType, timezone: str) -> CastResult:
    """Parse an array element by element; one element that does not fit makes the whole array a misfit."""
    texts = F.from_json(text, "array<string>")
    values = F.transform(texts, lambda element: parse_text(element, wanted.elementType, timezone).value)
    has_misfit = F.exists(texts, lambda element: parse_text(element, wanted.elementType, timezone).is_misfit)
    is_misfit = text.isNotNull() & (texts.isNull() | has_misfit)
    return CastResult(F.when(~is_misfit, values), is_misfit)


_KEEP_NULLS = {"ignoreNullFields": "false"}
_JSON = " json"


@dataclass(frozen=True)
class SourceColumn:
    """A column of the source: its name, its value in the frame, the type of the value, and the type to show to users."""

    name: str
    value: Column
    type: T.DataType
    declared_type: T.DataType


def list_columns(frame: DataFrame) -> list[SourceColumn]:
    """Return the columns of a frame."""
    return [SourceColumn(part.name, column(part.name), part.dataType, part.dataType) for part in frame.schema.fields]


def build_row_records(frame: DataFrame, given: Sequence[SourceColumn], schema: T.StructType, source: Source, place: str) -> Records:
    """Make records of rows.

    Rules that reject a row: ``cast:<column>`` (a value does not fit the schema's type), ``not_finite:<column>``. The raw text is the row as
    a JSON object. Columns that are not in the schema go to ``_rescued``.
    """
    matched = match_names([part.name for part in given], schema)
    by_name = {name: part for part, name in zip(given, matched, strict=True) if name is not None}
    whole = F.to_json(F.struct(*[part.value.alias(part.name) for part in given]), _KEEP_NULLS)
    unknown = [part.value.alias(part.name) for part, name in zip(given, matched, strict=True) if name is None]
    values = {name: cast_value(part.value, part.type, schema[name].dataType, source.timezone) for name, part in by_name.items()}
    floating = [name for name in by_name if isinstance(schema[name].dataType, T.FloatType | T.DoubleType)]
    rules = collect_rules(
        [
            *[rule(f"cast:{name}", values[name].is_misfit) for name in schema.names if name in values],
            *[rule(f"not_finite:{name}", is_not_finite(values[name].value)) for name in floating],
        ]
    )
    absent = F.lit(None)
    parsed = frame.select(
        *[(values[part.name].value if part.name in values else absent.cast(part.dataType)).alias(part.name) for part in schema.fields],
        (F.to_json(F.struct(*unknown), _KEEP_NULLS) if unknown else absent.cast("string")).alias(RESCUED),
        rules.alias(RULES),
        whole.alias(_JSON),
    )
    digest = row_hash(F.col(_JSON).cast("binary"))
    added = record_columns(F.col(_JSON), rescued=F.col(RESCUED), source=F.lit(place), digest=digest)
    return Records(
        parsed.select(*[column(name) for name in schema.names], *added),
        notes=describe_renamings([part.name for part in given]),
        differences=_differences(given, matched, schema, source, place),
    )


def find_column(name: str, names: Sequence[str], what: str, place: str) -> str:
    """Return the name in the spelling of the place; the comparison ignores case.

    Raises:
        UsageError: the place has no such column.
    """
    match = name if name in names else next((other for other in names if other.lower() == name.lower()), None)
    if match is None:
        raise UsageError(f"{what}: {place} has no column {name!r}{did_you_mean(name, names)}; it has {', '.join(names[:20])}")
    return match


def _differences(
    given: Sequence[SourceColumn], matched: Sequence[str | None], schema: T.StructType, source: Source, place: str
) -> tuple[Difference, ...]:
    """Return the differences between the place's columns and the schema; types are compared only with inferred ones."""
    differences = []
    for part, name in zip(given, matched, strict=True):
        declared = part.declared_type.simpleString().upper()
        if name is None:
            differences.append(Difference("new", part.name, (place,), actual=declared))
        elif source.schema_ is None and not _keeps_values(part.declared_type, schema[name].dataType):
            differences.append(Difference("type", name, (place,), actual=declared, expected=schema[name].dataType.simpleString().upper()))
    missing = [name for name in schema.names if name not in matched]
    differences += [Difference("missing", name, (place,), expected=schema[name].dataType.simpleString().upper()) for name in missing]
    return tuple(differences)


def _keeps_values(actual: T.DataType, wanted: T.DataType) -> bool:
    return is_wider(actual, wanted) or actual.simpleString() == wanted.simpleString()
