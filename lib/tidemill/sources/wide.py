"""Frames with very many columns, for which some of what Spark does takes time with the square of their number."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.lake.names import quoted

WIDE = 1000
"""From how many columns on care is taken."""

_ANY_NUMBER = 1 << 16


def is_wide(columns: Sequence[str] | T.StructType) -> bool:
    """Return True where there are so many columns that Spark is to be spared some work on them."""
    return len(columns) > WIDE


def spared(spark: SparkSession, schema: T.StructType) -> None:
    """Let the session interpret its expressions where the schema is wide: code for each of them takes seconds to compile."""
    if is_wide(schema):
        spark.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")


def apart(frame: DataFrame, columns: Sequence[str] | T.StructType) -> DataFrame:
    """Return a wide frame behind a node that does nothing, any other as it is.

    Spark asks of each select above another whether the two can be one, for each column by a look at all of them.
    """
    return frame.coalesce(_ANY_NUMBER) if is_wide(columns) else frame


def all_but(names: Sequence[str], of: str | None = None) -> Column:
    """Return every column but these; with ``of`` every field of that struct."""
    return F.expr(f"{'' if of is None else of + '.'}* EXCEPT ({', '.join(map(quoted, names))})")
