"""Values of columns looked up in keys of other tables: each pair counted exactly, all of them in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.quality.references import Match, Pair, Reference

_TOLD = 3


def look_up(df: DataFrame, pairs: Sequence[Pair], tables: Mapping[str, DataFrame]) -> list[Match]:
    """Return how far each reference holds the values of its column, null passed over; ``tables`` are the references', by name.

    A value that stands in ``df`` many times is looked up once. Texts and whole numbers are the same as text where they are equal.
    """
    references = list(dict.fromkeys(pair.reference.name for pair in pairs))
    names = list(dict.fromkeys(pair.column.column for pair in pairs))
    asked = [[references.index(pair.reference.name) for pair in pairs if pair.column.column == name] for name in names]
    cells = [F.struct(F.lit(place).alias("place"), column(name).cast("string").alias("value")) for place, name in enumerate(names)]
    values = df.select(F.explode(F.array(*cells)).alias("cell")).select("cell.*").where("value IS NOT NULL")
    counted = values.groupBy("place", "value").agg(F.count(F.lit(1)).alias("n"))
    of_place = F.array(*[F.array(*[F.lit(number) for number in numbers]) for numbers in asked])
    wanted = counted.select("place", "value", "n", F.explode(of_place[F.col("place")]).alias("key"))
    known = _values({pair.reference.name: pair.reference for pair in pairs}, tables).select("key", "value", F.lit(True).alias("is_known"))
    is_missing = F.col("is_known").isNull()
    missing = F.expr(f"min_by(value, named_struct('is_known', is_known IS NOT NULL, 'rank', -n, 'value', value), {_TOLD})")
    found = (
        wanted.join(known, on=["key", "value"], how="left")
        .groupBy("place", "key")
        .agg(
            F.count(F.lit(1)).alias("values"),
            F.count_if(is_missing).alias("missing_values"),
            F.coalesce(F.sum(F.when(is_missing, F.col("n"))), F.lit(0)).alias("missing_rows"),
            missing.alias("missing"),
        )
    )
    rows = {(names[row["place"]], references[row["key"]]): row for row in found.collect()}
    matches = []
    for pair in pairs:
        row = rows[pair.column.column, pair.reference.name]
        examples = tuple(row["missing"][: row["missing_values"]])
        matches.append(Match(pair, row["values"], row["missing_values"], row["missing_rows"], examples))
    return matches


def repeating(references: Sequence[Reference], tables: Mapping[str, DataFrame]) -> set[str]:
    """Return the names of the references that hold a value twice, and so are no keys."""
    by_name = {reference.name: reference for reference in references}
    counts = _values(by_name, tables).groupBy("key").agg(F.max("times").alias("times")) if by_name else None
    names = list(by_name)
    return {names[row["key"]] for row in counts.collect() if row["times"] > 1} if counts is not None else set()


def _values(references: Mapping[str, Reference], tables: Mapping[str, DataFrame]) -> DataFrame:
    """Return the values of all references as text with the number of the reference, each once, and how often it stands there."""
    found = [
        tables[reference.table].select(F.lit(number).alias("key"), column(reference.profile.column).cast("string").alias("value"))
        for number, reference in enumerate(references.values())
    ]
    return reduce(DataFrame.unionAll, found).groupBy("key", "value").agg(F.count(F.lit(1)).alias("times"))
