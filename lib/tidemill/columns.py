"""Columns by their exact names."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.quoting import quote_name

NOT_SCORED = "_tidemill_not_scored"
"""A stage of a model may add this STRING: why it cannot score the row, null where it can."""


def column(name: str) -> Column:
    """Return the column of exactly this name, dots and all."""
    return F.col(quote_name(name))


def is_hashable(kind: T.DataType) -> bool:
    """Return True for types that have a hash and an order: there is no map and no variant in them."""
    if isinstance(kind, T.StructType):
        return all(is_hashable(part.dataType) for part in kind.fields)
    if isinstance(kind, T.ArrayType):
        return is_hashable(kind.elementType)
    return not isinstance(kind, T.MapType | T.VariantType)
