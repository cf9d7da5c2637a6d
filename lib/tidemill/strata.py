"""Rows dealt out class by class in exact proportions, by a hash of their keys: what scikit-learn calls stratified."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from tidemill.errors import ExpectationRefused

MOST_CLASSES = 1000
_NO_CLASS = "\0"  # rows without a label are dealt out as a class of their own


def dealt(df: DataFrame, label: Column, code: Column, shares: Sequence[float], *, what: str, turn: bool = False) -> Column:
    """Return the part (INT, from 0) of each row: of every class, the part ``p`` gets ``shares[p]`` of the rows, to the nearest row.

    In a class, the rows with the least ``code`` are the first part's. ``code`` is a BIGINT hash of the key, so where a row falls depends on
    the set of rows and on nothing else. ``turn`` begins each class at another part, so that odd rows do not all fall to the same one.

    Raises:
        ExpectationRefused: there are more classes than can be.
    """
    named = F.coalesce(label.cast("string"), F.lit(_NO_CLASS))
    bounds = _bounds(df.select(named.alias("class"), code.alias("code")), shares)
    names = sorted({name for name, _ in bounds})
    if len(names) > MOST_CLASSES + 1:
        raise ExpectationRefused(
            f"dataset: `stratified: true` deals rows out by the classes of {what}, which has more than {MOST_CLASSES:,};"
            " leave it out, or map the classes in the SQL"
        )
    codes: dict[str, list[int]] = {name: [] for name in names}
    for name, bound in bounds:
        if bound is not None:
            codes[name].append(bound)
    literals = [part for name in names for part in (F.lit(name), F.lit(codes[name]).cast("array<bigint>"))]
    if not literals:
        return F.lit(0)
    part = F.array_size(F.filter(F.element_at(F.create_map(*literals), named), lambda bound: bound <= code))
    if not turn:
        return part
    first = F.element_at(F.create_map(*[F.lit(part) for pair in zip(names, range(len(names)), strict=True) for part in pair]), named)
    return F.pmod(part + first, F.lit(len(shares))).cast("int")


def _bounds(rows: DataFrame, shares: Sequence[float]) -> list[tuple[str, int | None]]:
    """Return, for each class, the code of the first row of each part but the first; null where a part would begin behind all rows."""
    # The leading bits cut a class into stretches of the order, so that no task has to sort the whole of one.
    narrow = rows.select("class", "code", F.shiftright("code", 54).alias("stretch"))
    order = Window.partitionBy("class").orderBy("stretch")
    counted = narrow.groupBy("class", "stretch").agg(F.count("*").alias("n"))
    offsets = counted.select(
        "class", "stretch",
        F.coalesce(F.sum("n").over(order.rowsBetween(Window.unboundedPreceding, -1)), F.lit(0)).alias("before"),
        F.sum("n").over(Window.partitionBy("class")).alias("total"),
    )  # fmt: skip
    behind = [round(sum(shares[:number]), 12) for number in range(1, len(shares))]
    ranked = narrow.withColumn("rank", F.row_number().over(Window.partitionBy("class", "stretch").orderBy("code")) - 1)
    joined = ranked.join(offsets, ["class", "stretch"]).withColumn("rank", F.col("rank") + F.col("before"))
    begins = F.array(*[F.floor(F.col("total") * F.lit(share) + 0.5).cast("bigint") for share in behind])
    first = joined.withColumn("begins", begins)
    # A class is known by its first row; two parts that begin at one row are two bounds.
    at = first.where((F.col("rank") == 0) | F.array_contains("begins", F.col("rank")))
    several = at.select("class", "code", F.array_size(F.filter("begins", lambda begin: begin == F.col("rank"))).alias("times"))
    found = several.limit((MOST_CLASSES + 2) * (len(shares) + 1)).collect()
    return [(row["class"], row["code"] if row["times"] else None) for row in found for _ in range(max(row["times"], 1))]
