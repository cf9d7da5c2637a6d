"""Rows that bring their own types as records, and the watermark up to which they have been read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE, describe_renamings
from tidemill.columns import column
from tidemill.errors import UsageError, did_you_mean
from tidemill.sources.records import IS_HEADER, RAW, RULES, Difference, Records, broken, is_not_finite, row_hash, rule
from tidemill.sources.schema.types import is_wider, matched_names
from tidemill.spec.models import Source

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NUMBERS = (T.ByteType, T.ShortType, T.IntegerType, T.LongType, T.DecimalType, T.FloatType, T.DoubleType)
_TIMES = (T.DateType, T.TimestampType, T.TimestampNTZType)


@dataclass(frozen=True)
class Position:
    """The greatest watermark that was seen: the column, its type as SQL writes it, and the value as text, exact.

    A timestamp is in UTC and says so (``2026-01-02 03:04:05.123456+00``); one without a zone has none.
    """

    watermark: str
    type: str
    value: str

    def to_json(self) -> str:
        """Return the position as it is kept with the commit."""
        return json.dumps(asdict(self))

    @classmethod
    def behind(cls, text: str | None, watermark: str, kind: T.DataType) -> Position | None:
        """Return the kept position; None where there is none, or where it tells of another column or type: all is read again then."""
        if text is None:
            return None
        try:
            found = cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise UsageError(f"the position {text!r} is not one of a watermark; load it once with `load: full`") from error
        return found if (found.watermark, found.type) == (watermark, kind.simpleString()) else None


@dataclass(frozen=True)
class Overlap:
    """How far behind the watermark late rows are looked for: seconds for a time, a plain number for numbers."""

    amount: float = 0

    @property
    def text(self) -> str:
        """The amount as SQL writes it."""
        return str(int(self.amount)) if self.amount == int(self.amount) else repr(self.amount)


def overlap_of(duration: str | None, number: str | None, kind: T.DataType, watermark: str) -> Overlap:
    """Return the overlap of ``overlap:`` (such as ``10m``) or ``options.overlap`` (a number), whichever fits the watermark's type.

    Raises:
        UsageError: the one that is given does not fit.
    """
    if number is not None:
        if not isinstance(kind, _NUMBERS):
            raise UsageError(f"options.overlap: the watermark {watermark!r} is {kind.simpleString().upper()}; write `overlap: 10m`")
        try:
            return Overlap(float(number))
        except ValueError as error:
            raise UsageError(f"options.overlap: expected a number, found {number!r}") from error
    if duration is None:
        return Overlap()
    if not isinstance(kind, _TIMES):
        instead = "write `options: {overlap: 1000}`" if isinstance(kind, _NUMBERS) else "leave it out"
        raise UsageError(f"overlap: the watermark {watermark!r} is {kind.simpleString().upper()}, which has no {duration}; {instead}")
    return Overlap(float(int(duration[:-1]) * _SECONDS[duration[-1]]))


BYTES = "\\x"
"""What bytes begin with where they are written as text, hexadecimal digits behind it: as PostgreSQL does."""

_DAY = r"^\d{4}-\d{2}-\d{2}"
_DATE = rf"{_DAY}([ T]00:00(:00(\.0+)?)?)?$"
_LOCAL = rf"{_DAY}([ T]\d{{2}}:\d{{2}}(:\d{{2}}(\.\d{{1,9}})?)?)?(Z|[+-]00(:?00)?)?$"
_INSTANT = rf"{_DAY}([ T]\d{{2}}:\d{{2}}(:\d{{2}}(\.\d{{1,9}})?)?)?\s*(Z|[+-]\d{{2}}(:?\d{{2}})?)?$"
_ZONE = r"\d{2}:\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"
_INTEGRAL = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)


@dataclass(frozen=True)
class Fitted:
    """A value of the wanted type, and whether there was one that does not fit it; the value is null then."""

    value: Column
    is_misfit: Column


def fitted(given: Column, found: T.DataType, wanted: T.DataType, timezone: str = "UTC") -> Fitted:
    """Return a column of type ``found`` as ``wanted``."""
    if is_wider(found, wanted) or found.simpleString() == wanted.simpleString():
        return Fitted(given.cast(wanted), F.lit(False))
    text = as_text(given, found)
    return Fitted(text, F.lit(False)) if isinstance(wanted, T.StringType) else from_text(text, wanted, timezone)


def as_text(given: Column, found: T.DataType) -> Column:
    """Return the text of a value, from which the same value can be read."""
    if isinstance(found, T.BinaryType):
        return F.concat(F.lit(BYTES), F.lower(F.hex(given)))
    nested = isinstance(found, T.StructType | T.ArrayType | T.MapType)
    return F.to_json(given, {"ignoreNullFields": "false"}) if nested else given.cast("string")


def from_text(text: Column, wanted: T.DataType, timezone: str = "UTC") -> Fitted:
    """Return what a text means as ``wanted``.

    A time without a zone is one of ``timezone``. Bytes are written as ``BYTES`` and hexadecimal digits, arrays and structs as JSON.
    """
    if isinstance(wanted, T.ArrayType):
        return _array(text, wanted, timezone)
    value = _scalar(text, wanted, timezone)
    return Fitted(value, text.isNotNull() & value.isNull())


def _scalar(text: Column, wanted: T.DataType, timezone: str) -> Column:
    if isinstance(wanted, T.StringType):
        return text
    if isinstance(wanted, T.BinaryType):
        return F.when(F.startswith(text, F.lit(BYTES)), F.try_to_binary(F.substring(text, 3, 1 << 30), F.lit("hex"))).otherwise(
            text.cast("binary")
        )
    if isinstance(wanted, _INTEGRAL):
        exact = text.try_cast(T.DecimalType(38, 18))
        return F.coalesce(text.try_cast(wanted), F.when(exact == F.floor(exact), exact.try_cast(wanted)))
    if isinstance(wanted, T.DecimalType):
        return F.when(_is_exact(text, wanted), text.try_cast(wanted))
    if isinstance(wanted, T.FloatType | T.DoubleType):
        return F.when(~text.rlike(r"\d\s*[dDfF]\s*$"), text.try_cast(wanted))  # Java takes the letter for a part of the number
    if isinstance(wanted, T.DateType):
        return F.when(text.rlike(_DATE), text.try_cast(wanted))  # Spark takes what follows the day, "BC" even, for nothing
    if isinstance(wanted, T.TimestampNTZType):
        return F.when(text.rlike(_LOCAL), text.try_cast(wanted))
    if isinstance(wanted, T.TimestampType):
        local = text.try_cast(wanted)
        instant = local if timezone == "UTC" else F.when(text.rlike(_ZONE), local).otherwise(F.to_utc_timestamp(local, timezone))
        return F.when(text.rlike(_INSTANT), instant)
    if isinstance(wanted, T.StructType):
        return _struct(text, wanted, timezone)
    if isinstance(wanted, T.MapType):
        return F.from_json(text, wanted.simpleString(), {"timeZone": timezone})
    return F.try_parse_json(text) if isinstance(wanted, T.VariantType) else text.try_cast(wanted)


def _is_exact(text: Column, wanted: T.DecimalType) -> Column:
    """Return true for a number whose decimals the type has room for; Spark would round it."""
    decimals = F.length(F.regexp_extract(text, r"\.(\d*?)0*\s*$", 1)) <= wanted.scale
    powers = text.try_cast("double") == text.try_cast(wanted).cast("double")
    return F.when(text.rlike("[eE]"), powers).otherwise(decimals)


def _struct(text: Column, wanted: T.StructType, timezone: str) -> Column:
    corrupt = " does_not_fit"
    checked = T.StructType([*wanted.fields, T.StructField(corrupt, T.StringType())])
    parsed = F.from_json(text, checked, {"columnNameOfCorruptRecord": corrupt, "timeZone": timezone})
    return F.when(parsed[corrupt].isNull() & parsed.isNotNull(), parsed.dropFields(corrupt))


def _array(text: Column, wanted: T.ArrayType, timezone: str) -> Fitted:
    """Return the array whose elements are each made to fit; one that does not makes the whole a misfit."""
    texts = F.from_json(text, "array<string>")
    values = F.transform(texts, lambda element: from_text(element, wanted.elementType, timezone).value)
    has_misfit = F.exists(texts, lambda element: from_text(element, wanted.elementType, timezone).is_misfit)
    is_misfit = text.isNotNull() & (texts.isNull() | has_misfit)
    return Fitted(F.when(~is_misfit, values), is_misfit)


_KEEP_NULLS = {"ignoreNullFields": "false"}
_JSON = " json"


@dataclass(frozen=True)
class Given:
    """A column of the place: its name there, the column of the frame that holds it, that one's type, and the type to tell people."""

    name: str
    value: Column
    found: T.DataType
    declared: T.DataType


def given_columns(frame: DataFrame) -> list[Given]:
    """Return the columns of a frame as they are."""
    return [Given(part.name, column(part.name), part.dataType, part.dataType) for part in frame.schema.fields]


def row_records(frame: DataFrame, given: Sequence[Given], schema: T.StructType, source: Source, place: str) -> Records:
    """Return the records of the rows.

    A row is refused for ``cast:<column>`` (a value that does not fit the schema's type) and ``not_finite:<column>``. Its raw text is the
    row as a JSON object. Columns that the schema lacks go to ``_rescued``.
    """
    matched = matched_names([part.name for part in given], schema)
    by_name = {name: part for part, name in zip(given, matched, strict=True) if name is not None}
    whole = F.to_json(F.struct(*[part.value.alias(part.name) for part in given]), _KEEP_NULLS)
    unknown = [part.value.alias(part.name) for part, name in zip(given, matched, strict=True) if name is None]
    values = {name: fitted(part.value, part.found, schema[name].dataType, source.timezone) for name, part in by_name.items()}
    floating = [name for name in by_name if isinstance(schema[name].dataType, T.FloatType | T.DoubleType)]
    rules = broken(
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
    return Records(
        parsed.select(
            *[column(name) for name in schema.names],
            F.lit(place).alias(SOURCE_FILE),
            row_hash(F.col(_JSON).cast("binary")).alias(ROW_HASH),
            RESCUED,
            RULES,
            F.col(_JSON).alias(RAW),
            F.lit(False).alias(IS_HEADER),
        ),
        notes=describe_renamings([part.name for part in given]),
        differences=_differences(given, matched, schema, source, place),
    )


def known_column(name: str, names: Sequence[str], what: str, place: str) -> str:
    """Return the name as the place writes it; upper and lower case are not told apart.

    Raises:
        UsageError: the place has no such column.
    """
    found = name if name in names else next((other for other in names if other.lower() == name.lower()), None)
    if found is None:
        raise UsageError(f"{what}: {place} has no column {name!r}{did_you_mean(name, names)}; it has {', '.join(names[:20])}")
    return found


def _differences(
    given: Sequence[Given], matched: Sequence[str | None], schema: T.StructType, source: Source, place: str
) -> tuple[Difference, ...]:
    """Return where the place does not have the schema's columns; types are compared only with those once found there, not declared."""
    found = []
    for part, name in zip(given, matched, strict=True):
        told = part.declared.simpleString().upper()
        if name is None:
            found.append(Difference("new", part.name, (place,), found=told))
        elif source.schema_ is None and not _is_kept(part.declared, schema[name].dataType):
            found.append(Difference("type", name, (place,), found=told, expected=schema[name].dataType.simpleString().upper()))
    missing = [name for name in schema.names if name not in matched]
    found += [Difference("missing", name, (place,), expected=schema[name].dataType.simpleString().upper()) for name in missing]
    return tuple(found)


def _is_kept(found: T.DataType, wanted: T.DataType) -> bool:
    return is_wider(found, wanted) or found.simpleString() == wanted.simpleString()
