"""The slices of a row: values of columns, pairs of columns, bins of numbers; a slice is called ``column=value``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.columns import column

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from tidemill.spec.models.evaluation import Slice

MAX_VALUES = 1000
"""The most slices that are measured of one declared slice."""


def slice_titles(declared: Slice) -> list[str]:
    """Return the columns of a declared slice, of which its slices are named."""
    return [declared] if isinstance(declared, str) else list(declared)


def name_slices(declared: Sequence[Slice]) -> Column:
    """Return the names of the slices that a row is in, one for each declared slice, after its place: ARRAY<STRING>.

    ``0:carrier=UA``; of a pair ``carrier=UA, origin=JFK``; of bins ``distance=[0, 500)``, with ``(-inf, 0)`` and ``[1000, inf)`` outside
    the edges. A missing value is ``carrier=null``.
    """
    named = [F.concat(F.lit(f"{place}:"), _name(each)) for place, each in enumerate(declared)]
    return F.array(*named).cast("array<string>")


def split_name(name: str) -> tuple[int, str]:
    """Return the place of the declared slice, and the name of the slice as users see it."""
    place, _, title = name.partition(":")
    return int(place), title


def limit_slices(rows: DataFrame, declared: Sequence[Slice], most: int = MAX_VALUES) -> tuple[DataFrame, tuple[str, ...]]:
    """Return the rows with those slices alone that have the most rows, ``most`` of each declared slice, and a note on the others.

    ``rows`` have the column ``slices`` of `name_slices`; one more query counts about how many there are.
    """
    places = range(len(declared))
    counted = rows.agg(*[F.approx_count_distinct(F.get("slices", F.lit(place))).alias(str(place)) for place in places]).first()
    counts = list(counted) if counted is not None and declared else []
    notes = []
    for place, count in zip(places, counts, strict=True):
        if count <= most * _SURELY_FEWER:
            continue
        name = F.get("slices", F.lit(place)).alias("slice")
        largest = rows.groupBy(name).agg(F.count("*").alias("n")).orderBy(F.desc("n"), "slice").limit(most + 1).collect()
        if len(largest) <= most:
            continue
        kept = F.array(*[F.lit(row["slice"]) for row in largest[:most]])
        rows = rows.withColumn("slices", F.filter("slices", partial(_is_kept, place, kept)))
        title = ", ".join(slice_titles(declared[place]))
        notes.append(f"slices of {title}: about {count:,} values; the {most:,} with the most rows are measured")
    return rows, tuple(notes)


_SURELY_FEWER = 0.8  # the count of distinct values is exact to a few per cent


def _is_kept(place: int, kept: Column, name: Column) -> Column:
    return ~name.startswith(f"{place}:") | F.array_contains(kept, name)


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
