"""Columns by their exact names."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from tidemill.lake.names import quoted


def column(name: str) -> Column:
    """Return the column of exactly this name, dots and all."""
    return F.col(quoted(name))
