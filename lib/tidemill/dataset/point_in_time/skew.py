"""Keys with very many events, cut into pieces of time, so that no task has to take all of one.

What is known at the beginning of a piece is carried into it as events of its own: one for each piece, so a cut costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from tidemill.dataset.exact_quantiles import Number

# Events of one key that one task takes without a cut, at least; and the most pieces of all keys together.
PIECE = 1_000_000
MOST_PIECES = 2048
_TRACKED = 16_384


@dataclass(frozen=True)
class Pieces:
    """Where hot keys are cut: the hash of each (of its key columns' values) and the instants at which a new piece begins."""

    cuts: dict[int, tuple[Number, ...]]

    def of(self, keys: Sequence[str], at: str = "at") -> Column:
        """Return the piece (INT, from 0) of an event; 0 where its key is not cut."""
        if not self.cuts:
            return F.lit(0)
        cuts = self._by_key(keys)
        return F.coalesce(F.array_size(F.filter(cuts, lambda cut: cut <= F.col(at))), F.lit(0))

    def last(self, keys: Sequence[str]) -> Column:
        """Return the last piece of a hot key; null where a key is not cut."""
        return F.array_size(self._by_key(keys))

    def _by_key(self, keys: Sequence[str]) -> Column:
        kind = "array<bigint>" if all(isinstance(cut, int) for cuts in self.cuts.values() for cut in cuts) else "array<double>"
        pairs = [(F.lit(key).cast("bigint"), F.lit(list(cuts)).cast(kind)) for key, cuts in self.cuts.items()]
        literals = [part for pair in pairs for part in pair]
        return F.element_at(F.create_map(*literals), code(keys))

    def is_hot(self, keys: Sequence[str]) -> Column:
        """Return true for keys that are cut."""
        return code(keys).isin(list(self.cuts))


def code(keys: Sequence[str]) -> Column:
    """Return a BIGINT for the key columns; two keys of one code are cut alike, which harms nothing."""
    return F.xxhash64(*[F.col(key) for key in keys])


def find_pieces(sides: Sequence[DataFrame], keys: Sequence[str], piece: int = PIECE) -> Pieces:
    """Return where to cut the hot keys of ``sides``: frames with the key columns and ``at``.

    Two aggregates over narrow columns, the second only where there is a hot key. Where the cuts lie changes no result.
    """
    narrow = reduce(DataFrame.unionByName, [side.where("at IS NOT NULL").select(*keys, "at") for side in sides])
    events = narrow.select(code(keys).alias("code"), "at")
    counted = F.expr(f"approx_top_k(code, {MOST_PIECES}, {_TRACKED})")
    found = events.agg(F.count("*").alias("rows"), counted.alias("top")).collect()[0]
    target = max(piece, 2 * found["rows"] // MOST_PIECES)
    hot = {item["item"]: item["count"] for item in found["top"] or () if item["count"] > 2 * target}
    if not hot:
        return Pieces({})
    wanted = {item: -(-count // target) for item, count in hot.items()}
    most = max(wanted.values())
    shares = F.lit([number / most for number in range(1, most)])
    spread = events.where(F.col("code").isin(list(hot))).groupBy("code").agg(F.percentile_approx("at", shares, 10_000).alias("cuts"))
    cuts = {}
    for row in spread.collect():
        pieces = wanted[row["code"]]
        picked = [row["cuts"][max(most * number // pieces - 1, 0)] for number in range(1, pieces)]
        cuts[row["code"]] = tuple(sorted(set(picked)))
    return Pieces({key: found for key, found in cuts.items() if found})


def carried(per_piece: DataFrame, keys: Sequence[str], pieces: Pieces, running: Sequence[Callable[[WindowSpec], Column]]) -> DataFrame:
    """Return, for each piece of a hot key but its first, what the earlier pieces come to.

    ``per_piece`` has a row a key and ``piece``; ``running`` make the columns from the window of a piece and all before it.
    """
    order = Window.partitionBy(*keys).orderBy("piece")
    so_far = order.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    following = F.coalesce(F.lead("piece").over(order), pieces.last(keys))
    summed = per_piece.select(*keys, "piece", following.alias("until"), *[make(so_far) for make in running])
    # Pieces without facts of their own are told as well: each row serves the pieces behind it up to the next row's.
    reached = F.when(F.col("until") > F.col("piece"), F.sequence(F.col("piece") + 1, F.col("until")))
    return summed.withColumn("piece", F.explode(reached)).drop("until")
