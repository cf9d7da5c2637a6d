"""Values made to fit the types of a schema; one that does not fit is told, never rounded, cut or turned into null in silence."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.sources.schemas import is_wider

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
