"""Comparison of two tables: by digest first, and key by key where the digests differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

RELATIVE = 1e-12
"""Two floating-point numbers of a table count as the same within this share of the greater: sums depend on the order of their terms."""
_SAMPLES = 5


@dataclass(frozen=True)
class TableDifference:
    """How the rows of a table differ: counts, the columns that changed, and keys of a few such rows."""

    added: int = 0
    removed: int = 0
    changed: int = 0
    columns: tuple[str, ...] = ()
    sample: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the difference as a phrase."""
        counts = [(self.changed, "changed"), (self.added, "added"), (self.removed, "missing")]
        rows = ", ".join(f"{count:,} rows {word}" for count, word in counts if count)
        columns = f" in {', '.join(self.columns)}" if self.columns else ""
        sample = f", such as {'; '.join(self.sample)}" if self.sample else ""
        return f"{rows}{columns}{sample}"


def compare_rows(before: DataFrame, now: DataFrame, key: Sequence[str], *, exactly: Sequence[str] = ()) -> TableDifference | None:
    """Return how the rows of ``now`` differ from those of ``before``, None where they are the same in any order.

    Rows are matched by ``key``, which is unique in both; without a key whole rows are. Floating-point numbers may differ by ``RELATIVE`` of
    their size. With ``exactly`` only these columns are compared, besides the key.
    """
    names = [*key, *exactly] if exactly else before.columns
    gone, new = [name for name in names if name not in now.columns], [name for name in now.columns if name not in before.columns]
    if gone or (new and not exactly):
        return TableDifference(changed=before.count(), columns=(*(f"-{name}" for name in gone), *(f"+{name}" for name in new)))
    before, now = (frame.select(*[column(name) for name in names]) for frame in (before, now))
    if digest_rows(before) == digest_rows(now):
        return None
    return _compare_by_key(before, now, key) if key else _compare_whole_rows(before, now)


def digest_rows(frame: DataFrame) -> tuple[int, ...]:
    """Return a digest of the rows in any order: their number and two sums of independent 64-bit hashes."""
    hashed = [_hashable(frame, name) for name in frame.columns]
    sums = [F.sum(F.xxhash64(*hashed, F.lit(seed)).cast("decimal(38,0)")) for seed in (1, 2)]
    row = frame.agg(F.count("*"), *sums).first()
    return tuple(int(value or 0) for value in row) if row is not None else ()


def _hashable(frame: DataFrame, name: str) -> Column:
    """Return a column in a form that is hashed with its nulls, which the hash of several columns would skip."""
    return F.struct(column(name).isNull(), _comparable(frame, name, column(name)))


def _comparable(frame: DataFrame, name: str, value: Column) -> Column:
    """Return a value as text where Spark neither hashes nor compares its type."""
    kind = frame.schema[name].dataType
    return F.to_json(F.struct(value)) if isinstance(kind, T.VariantType) or "map<" in kind.simpleString() else value


def _compare_by_key(before: DataFrame, now: DataFrame, key: Sequence[str]) -> TableDifference | None:
    names = [name for name in before.columns if name not in key]
    keys = [column(name) for name in key]
    is_there = F.lit(True).alias("_is_there")
    sides = [
        frame.select(*keys, F.struct(is_there, *[column(name) for name in names]).alias(side))
        for frame, side in ((before, "_before"), (now, "_now"))
    ]
    joined = sides[0].join(sides[1], list(key), "full_outer")
    is_same = {name: _is_same(before, name) for name in names}
    both = F.col("_before").isNotNull() & F.col("_now").isNotNull()
    changes = [F.when(both & ~is_same[name], F.lit(name)) for name in names]
    differing = joined.select(
        *[column(name) for name in key],
        F.col("_before").isNull().alias("_added"),
        F.col("_now").isNull().alias("_removed"),
        F.array_compact(F.array(*changes, F.lit(None).cast("string"))).alias("_columns"),
    ).where(F.col("_added") | F.col("_removed") | (F.size("_columns") > 0))
    changed_columns = F.array_sort(F.array_distinct(F.flatten(F.collect_set("_columns"))))
    counts = differing.agg(
        F.count_if("_added").alias("added"),
        F.count_if("_removed").alias("removed"),
        F.count("*").alias("rows"),
        changed_columns.alias("columns"),
    ).first()
    if counts is None or not counts["rows"]:
        return None
    sample = differing.orderBy(*[column(name) for name in key]).limit(_SAMPLES).collect()
    shown = tuple(", ".join(f"{name}={row[name]}" for name in key) for row in sample)
    changed = counts["rows"] - counts["added"] - counts["removed"]
    return TableDifference(counts["added"], counts["removed"], changed, tuple(counts["columns"]), shown)


def _is_same(frame: DataFrame, name: str) -> Column:
    a, b = (F.col(side).getField(name) for side in ("_before", "_now"))
    same = _comparable(frame, name, a).eqNullSafe(_comparable(frame, name, b))
    if isinstance(frame.schema[name].dataType, T.DoubleType | T.FloatType):
        same = same | F.coalesce(F.abs(a - b) <= RELATIVE * F.greatest(F.abs(a), F.abs(b)), F.lit(False))
    return same


def _compare_whole_rows(before: DataFrame, now: DataFrame) -> TableDifference | None:
    """Compare tables without a key: each row counts as often as it is there."""
    hashed = [
        frame.select(F.xxhash64(*[_hashable(frame, name) for name in frame.columns]).alias("row"), F.lit(sign).alias("n"))
        for frame, sign in ((before, -1), (now, 1))
    ]
    totals = reduce(lambda a, b: a.unionByName(b), hashed).groupBy("row").agg(F.sum("n").alias("n"))
    counts = totals.agg(F.sum(F.greatest("n", F.lit(0))).alias("added"), F.sum(F.greatest(-F.col("n"), F.lit(0))).alias("removed")).first()
    if counts is None or not (counts["added"] or counts["removed"]):
        return None
    return TableDifference(added=int(counts["added"] or 0), removed=int(counts["removed"] or 0))
