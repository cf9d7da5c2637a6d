"""Times as numbers: what dates, timestamps and plain numbers have in common where only their order and distance count."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column as col
from tidemill.errors import Fault, SpecError
from tidemill.spec.models import microseconds


def is_clock(kind: T.DataType) -> bool:
    """Return True for dates and timestamps, whose distances are durations."""
    return isinstance(kind, T.DateType | T.TimestampType | T.TimestampNTZType)


def instants(df: DataFrame, column: str, key: str = "event_time") -> Column:
    """Return the column as a BIGINT (microseconds since 1970 for times) or, for fractions, a DOUBLE; null where it is not finite.

    ``key`` is the key of the dataset's block that names the column.

    Raises:
        SpecError: the column's type has no order that time could follow.
    """
    kind = df.schema[column].dataType
    value = col(column)
    if is_clock(kind):
        return F.unix_micros(value.cast("timestamp"))
    if isinstance(kind, T.IntegralType):
        return value.cast("bigint")
    if isinstance(kind, T.NumericType):
        number = value.cast("double")
        return F.when(F.abs(number) < F.lit(float("inf")), number)
    message = f"{column} is of type {kind.simpleString()}; expected TIMESTAMP, DATE or a number: CAST it in the SQL"
    raise SpecError([Fault("pipeline.yml", None, f"dataset.{key}", message)])


def span(value: str | int | float, kind: T.DataType, key: str) -> int | float:
    """Return a stretch of time of the spec in the unit of ``instants`` for a column of type ``kind``.

    Raises:
        SpecError: a duration was given for a time that is a number, or the other way round.
    """
    if isinstance(value, str) and is_clock(kind):
        return microseconds(value)
    if isinstance(value, str) or is_clock(kind):
        expected = "a duration such as 2h" if is_clock(kind) else "a number, in the unit of the time"
        message = f"expected {expected}, as the time is of type {kind.simpleString()}; found {value!r}"
        raise SpecError([Fault("pipeline.yml", None, f"dataset.{key}", message)])
    return value
