"""Keys with very many events, cut into partitions of time, so that no task has to take all of one.

What is known at the beginning of a skew partition is added to it as events: one per skew partition, so splitting costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from tidemill.dataset.exact_quantiles import Number

# The most events of one key that are not split, at least; and the most skew partitions of all keys together.
EVENTS_PER_PARTITION = 1_000_000
MAX_PARTITIONS = 2048
_TRACKED_KEYS = 16_384


@dataclass(frozen=True)
class SkewPartitions:
    """Where hot keys are split: the hash of each key and the instants at which a new skew partition begins."""

    cuts: dict[int, tuple[Number, ...]]

    def of(self, keys: Sequence[str], at: str = "at") -> Column:
        """Return the skew partition (INT, from 0) of an event; 0 where its key is not split."""
        if not self.cuts:
            return F.lit(0)
        cuts = self._by_key(keys)
        return F.coalesce(F.array_size(F.filter(cuts, lambda cut: cut <= F.col(at))), F.lit(0))

    def last(self, keys: Sequence[str]) -> Column:
        """Return the last skew partition of a hot key; null where a key is not split."""
        return F.array_size(self._by_key(keys))

    def _by_key(self, keys: Sequence[str]) -> Column:
        kind = "array<bigint>" if all(isinstance(cut, int) for cuts in self.cuts.values() for cut in cuts) else "array<double>"
        pairs = [(F.lit(key).cast("bigint"), F.lit(list(cuts)).cast(kind)) for key, cuts in self.cuts.items()]
        literals = [part for pair in pairs for part in pair]
        return F.element_at(F.create_map(*literals), code(keys))

    def is_hot(self, keys: Sequence[str]) -> Column:
        """Return true for keys that are split."""
        return code(keys).isin(list(self.cuts))


def code(keys: Sequence[str]) -> Column:
    """Return a BIGINT hash of the key columns; two keys of one hash are split alike, which changes no result."""
    return F.xxhash64(*[F.col(key) for key in keys])


def find_skew_partitions(
    sides: Sequence[DataFrame], keys: Sequence[str], events_per_partition: int = EVENTS_PER_PARTITION
) -> SkewPartitions:
    """Return where to split the hot keys of ``sides``: frames with the key columns and ``at``.

    Two aggregates over narrow columns, the second only if there is a hot key. The place of the cuts changes no result.
    """
    narrow = reduce(DataFrame.unionByName, [side.where("at IS NOT NULL").select(*keys, "at") for side in sides])
    events = narrow.select(code(keys).alias("code"), "at")
    counted = F.expr(f"approx_top_k(code, {MAX_PARTITIONS}, {_TRACKED_KEYS})")
    sizes = events.agg(F.count("*").alias("rows"), counted.alias("top")).collect()[0]
    target = max(events_per_partition, 2 * sizes["rows"] // MAX_PARTITIONS)
    hot = {item["item"]: item["count"] for item in sizes["top"] or () if item["count"] > 2 * target}
    if not hot:
        return SkewPartitions({})
    partition_counts = {item: -(-count // target) for item, count in hot.items()}
    most = max(partition_counts.values())
    shares = F.lit([number / most for number in range(1, most)])
    spread = events.where(F.col("code").isin(list(hot))).groupBy("code").agg(F.percentile_approx("at", shares, 10_000).alias("cuts"))
    cuts = {}
    for row in spread.collect():
        count = partition_counts[row["code"]]
        picked = [row["cuts"][max(most * number // count - 1, 0)] for number in range(1, count)]
        cuts[row["code"]] = tuple(sorted(set(picked)))
    return SkewPartitions({key: instants for key, instants in cuts.items() if instants})


def carry_forward(
    per_partition: DataFrame, keys: Sequence[str], partitions: SkewPartitions, running: Sequence[Callable[[WindowSpec], Column]]
) -> DataFrame:
    """Return, for each skew partition of a hot key but its first, the totals of the earlier ones.

    ``per_partition`` has one row per key and ``skew_partition``; ``running`` makes the columns, given the window of a skew partition and
    all earlier ones.
    """
    order = Window.partitionBy(*keys).orderBy("skew_partition")
    so_far = order.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    following = F.coalesce(F.lead("skew_partition").over(order), partitions.last(keys))
    summed = per_partition.select(*keys, "skew_partition", following.alias("until"), *[make(so_far) for make in running])
    # Skew partitions without facts get totals too: each row serves the ones after it, up to the next row's.
    reached = F.when(F.col("until") > F.col("skew_partition"), F.sequence(F.col("skew_partition") + 1, F.col("until")))
    return summed.withColumn("skew_partition", F.explode(reached)).drop("until")
