"""What a column holds, by its type, and which columns are never features."""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import is_added

_MARKS = ("split", "fold")


def is_reserved(name: str, exclude: Collection[str]) -> bool:
    """Return True for a column that is never a feature: one of ``exclude``, a mark such as split, or one that tidemill adds."""
    return name in exclude or name in _MARKS or is_added(name)


def kind_of(kind: T.DataType) -> str:
    """Return numeric (booleans too), datetime, string or other."""
    if isinstance(kind, T.NumericType | T.BooleanType):
        return "numeric"
    if isinstance(kind, T.DateType | T.TimestampType | T.TimestampNTZType):
        return "datetime"
    return "string" if isinstance(kind, T.StringType) else "other"


def group_of(kind: T.DataType) -> str:
    """Return the group that a column of this type may be in: numeric, boolean, datetime, string, words, numbers, or other."""
    if isinstance(kind, T.BooleanType):
        return "boolean"
    if isinstance(kind, T.ArrayType):
        return {"numeric": "numbers", "string": "words"}.get(kind_of(kind.elementType), "other")
    return kind_of(kind)


def one_row(df: DataFrame, figures: list[Column]) -> tuple[int, list[object]]:
    """Return the number of rows and each figure, in one aggregate."""
    row = df.agg(F.count("*"), *[figure.alias(f"f{place}") for place, figure in enumerate(figures)]).collect()[0]
    return int(row[0]), list(row[1:])
