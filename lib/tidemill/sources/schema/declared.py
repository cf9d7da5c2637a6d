"""Schemas of sources: as declared, and as names that a Delta table can have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from tidemill.column_names import is_added, table_columns
from tidemill.errors import SourceError, UsageError
from tidemill.runtime.spark_errors import format_spark_error

_WIDER: dict[type[T.DataType], tuple[type[T.DataType], ...]] = {
    T.ByteType: (T.ShortType, T.IntegerType, T.LongType, T.FloatType, T.DoubleType),
    T.ShortType: (T.IntegerType, T.LongType, T.FloatType, T.DoubleType),
    T.IntegerType: (T.LongType, T.DoubleType),
    T.FloatType: (T.DoubleType,),
    T.DateType: (T.TimestampNTZType,),
}
_DIGITS: dict[type[T.DataType], int] = {T.ByteType: 3, T.ShortType: 5, T.IntegerType: 10, T.LongType: 19}


class NothingToInfer(SourceError):
    """The files can be read, but no record in them tells of a column."""


def parsed_schema(spark: SparkSession, text: str) -> T.StructType:
    """Return the schema that ``text`` declares: DDL, or Spark's JSON of a schema; every column may be null.

    Raises:
        UsageError: the text is neither.
        SourceError: it names a column twice, or uses a name of tidemill's own.
    """
    try:
        is_json = text.lstrip().startswith("{")
        schema = T.StructType.fromJson(json.loads(text)) if is_json else spark.createDataFrame([], text).schema
    except (PySparkException, ValueError, KeyError) as error:
        raise UsageError(f'`schema` is neither DDL ("id INT, name STRING") nor Spark\'s JSON: {format_spark_error(error)}') from error
    return checked_schema(schema.fields)


def checked_schema(fields: Iterable[T.StructField]) -> T.StructType:
    """Return the fields as a schema in which every column may be null.

    Raises:
        SourceError: a name stands twice (Delta does not tell case apart), or is one of tidemill's own.
    """
    schema = T.StructType([T.StructField(field.name, field.dataType, True) for field in fields])
    if not schema.names:
        raise SourceError("no column is declared or found; give `schema:`")
    seen: dict[str, str] = {}
    for name in schema.names:
        if name.lower() in seen:
            raise SourceError(f"columns {seen[name.lower()]!r} and {name!r} are one name to Delta; declare `schema:` without one of them")
        seen[name.lower()] = name
        if is_added(name):
            raise SourceError(f"column {name!r} has a name that tidemill uses itself; rename it in the files or leave it out of `schema:`")
    return schema


def matched_names(names: Sequence[str], schema: T.StructType) -> list[str | None]:
    """Return for each name of a file the schema's column it means, None for one that the schema lacks.

    An exact name comes first, then the name that Delta would have been given, then one that differs in case alone.
    """
    exact, lower = set(schema.names), {name.lower(): name for name in schema.names}
    taken: set[str] = set()
    matched: list[str | None] = [None] * len(names)
    for candidates in (list(names), table_columns(names), [lower.get(name.lower(), "") for name in table_columns(names)]):
        for place, name in enumerate(candidates):
            if matched[place] is None and name in exact and name not in taken:
                matched[place] = name
                taken.add(name)
    return matched


def is_wider(found: T.DataType, wanted: T.DataType) -> bool:
    """Return True where every value of ``found`` is one of ``wanted`` too."""
    if found == wanted:
        return True
    if isinstance(found, T.DecimalType) and isinstance(wanted, T.DecimalType):
        return wanted.scale >= found.scale and wanted.precision - wanted.scale >= found.precision - found.scale
    if isinstance(found, T.NullType):
        return True
    if isinstance(wanted, T.DecimalType) and type(found) in _DIGITS:
        return wanted.precision - wanted.scale >= _DIGITS[type(found)]
    return isinstance(wanted, _WIDER.get(type(found), ()))


def widest(one: T.DataType, other: T.DataType) -> T.DataType:
    """Return the narrower of the two types that holds the values of both; STRING where neither does."""
    if is_wider(one, other):
        return other
    if is_wider(other, one):
        return one
    numeric = (T.IntegerType, T.LongType, T.DoubleType, T.DecimalType)
    return T.DoubleType() if isinstance(one, numeric) and isinstance(other, numeric) else T.StringType()


def wider_types(kind: T.DataType) -> list[T.DataType]:
    """Return the types that a column of this type may be widened to, the narrowest first.

    DOUBLE holds a BIGINT only up to 2^53, so whoever widens to it looks at the values that are there.
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
