"""How often each value of a column stands in it: counted exactly, all columns in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.quality.summaries import TOP

COUNTED = (T.NumericType, T.StringType, T.BooleanType, T.DateType, T.TimestampType, T.TimestampNTZType)
"""The types whose values are counted."""


@dataclass(frozen=True)
class Frequencies:
    """The number of different values, and the most frequent ones: by their count, then by their text."""

    distinct: int
    top_values: tuple[tuple[str, int], ...]


def frequencies(df: DataFrame, fields: Sequence[T.StructField]) -> dict[int, Frequencies]:
    """Return the frequencies of each column whose values are counted, by its place in ``fields``."""
    counted = {place: field for place, field in enumerate(fields) if isinstance(field.dataType, COUNTED)}
    if not counted:
        return {}
    cells = [F.struct(F.lit(place).alias("place"), as_text(field).alias("value")) for place, field in counted.items()]
    values = df.select(F.explode(F.array(*cells)).alias("cell")).select("cell.*").where("value IS NOT NULL")
    counts = values.groupBy("place", "value").agg(F.count(F.lit(1)).alias("n"))
    top = F.expr(f"min_by(named_struct('value', value, 'n', n), named_struct('rank', -n, 'value', value), {TOP})")
    found = counts.groupBy("place").agg(F.count(F.lit(1)).alias("distinct"), top.alias("top")).collect()
    by_place = {row["place"]: Frequencies(row["distinct"], tuple((value, n) for value, n in row["top"])) for row in found}
    return {place: by_place.get(place, Frequencies(0, ())) for place in counted}


def as_text(field: T.StructField) -> Column:
    """Return the values as text, the same text for the same value: -0.0 is 0.0."""
    values = column(field.name)
    return (values + F.lit(0.0).cast(field.dataType) if isinstance(field.dataType, T.FractionalType) else values).cast("string")
