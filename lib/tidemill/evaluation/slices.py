"""The slices of a row: values of columns, pairs of columns, bins of numbers; a slice is called ``column=value``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.columns import column

if TYPE_CHECKING:
    from pyspark.sql import Column

    from tidemill.spec.models.evaluation import Slice

MAX_VALUES = 1000
"""The most slices that are measured of one declared slice."""


def slice_titles(declared: Slice) -> list[str]:
    """Return the columns of a declared slice, of which its slices are named."""
    return [declared] if isinstance(declared, str) else list(declared)


def name_slices(declared: Sequence[Slice]) -> Column:
    """Return the names of the slices that a row is in, one for each declared slice: ARRAY<STRING>.

    ``carrier=UA``; of a pair ``carrier=UA, origin=JFK``; of bins ``distance=[0, 500)``, with ``(-inf, 0)`` and ``[1000, inf)`` outside
    the edges. A missing value is ``carrier=null``.
    """
    return F.array(*[_name(each) for each in declared]).cast("array<string>")


def _name(declared: Slice) -> Column:
    if isinstance(declared, dict):
        ((name, edges),) = declared.items()
        return F.concat(F.lit(f"{name}="), _name_bin(column(name), edges))
    parts = [F.concat(F.lit(f"{name}="), F.coalesce(column(name).cast("string"), F.lit("null"))) for name in slice_titles(declared)]
    return F.concat_ws(", ", *parts)


def _name_bin(value: Column, edges: Sequence[float]) -> Column:
    number = value.cast("double")
    named = F.when(number.isNull() | F.isnan(number), "null").when(number < edges[0], f"(-inf, {edges[0]:g})")
    for low, high in pairwise(edges):
        named = named.when(number < high, f"[{low:g}, {high:g})")
    return named.otherwise(f"[{edges[-1]:g}, inf)")
