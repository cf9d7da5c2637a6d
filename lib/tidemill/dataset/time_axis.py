"""Times as numbers: dates, timestamps and plain numbers on one axis, on which only order and distance matter."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column as col
from tidemill.errors import Fault, SpecError
from tidemill.spec.models import microseconds


def is_date_or_time(kind: T.DataType) -> bool:
    """Return True for dates and timestamps, whose distances are durations."""
    return isinstance(kind, T.DateType | T.TimestampType | T.TimestampNTZType)


def to_time_axis(df: DataFrame, column: str, key: str = "event_time") -> Column:
    """Return the column as a BIGINT (times: microseconds since 1970) or, for fractional numbers, a DOUBLE; null where it is not finite.

    ``key`` is the key of the `dataset` block that names the column.

    Raises:
        SpecError: the column is neither a date, a timestamp nor a number.
    """
    kind = df.schema[column].dataType
    value = col(column)
    if is_date_or_time(kind):
        return F.unix_micros(value.cast("timestamp"))
    if isinstance(kind, T.IntegralType):
        return value.cast("bigint")
    if isinstance(kind, T.NumericType):
        number = value.cast("double")
        return F.when(F.abs(number) < F.lit(float("inf")), number)
    message = f"{column} is of type {kind.simpleString()}; expected TIMESTAMP, DATE or a number: CAST it in the SQL"
    raise SpecError([Fault("pipeline.yml", None, f"dataset.{key}", message)])


def to_duration(value: str | int | float, kind: T.DataType, key: str) -> int | float:
    """Return a duration of the spec in the unit of ``to_time_axis`` for a column of type ``kind``.

    Raises:
        SpecError: the spec gives a duration for a numeric time, or a number for a date or timestamp.
    """
    if isinstance(value, str) and is_date_or_time(kind):
        return microseconds(value)
    if isinstance(value, str) or is_date_or_time(kind):
        expected = "a duration such as 2h" if is_date_or_time(kind) else "a number, in the unit of the time"
        message = f"expected {expected}, because the time column is of type {kind.simpleString()}; found {value!r}"
        raise SpecError([Fault("pipeline.yml", None, f"dataset.{key}", message)])
    return value
