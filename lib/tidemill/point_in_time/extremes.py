"""The least and the greatest value of a window: what leaves a window cannot be subtracted from them, so they look at the whole of it."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from tidemill.columns import double_literal
from tidemill.cuts import Number
from tidemill.point_in_time.pieces import Pieces
from tidemill.point_in_time.sides import FACT, Asked, Unit


def moments(facts: DataFrame, keys: Sequence[str], values: Sequence[str], widest: Number, pieces: Pieces) -> DataFrame:
    """Return the facts as events at their own time, each with ``moment``: its time, when it was known, and its values.

    Where a key is cut, a fact is in each piece that the widest window after it reaches.
    """
    moment = F.struct("time", F.col("at").alias("known"), *values).alias("moment")
    found = facts.select(*keys, F.col("time").alias("at"), F.lit(FACT).alias("side"), moment)
    if not pieces.cuts:
        return found.withColumn("piece", F.lit(0))
    first, last = pieces.of(keys), pieces.of(keys, at="until")
    reach = found.withColumn("until", F.col("at") + F.lit(widest)).select("*", F.explode(F.sequence(first, last)).alias("piece"))
    return reach.drop("until")


def extremes(wanted: Sequence[tuple[str, str]], widths: Sequence[Number], asked: Asked, unit: Unit) -> list[Column]:
    """Return the columns ``min v0:1``: of each function and value over each window that ends before the event."""
    stream = Window.partitionBy("piece", *asked.keys).orderBy("at")
    columns = []
    for function, value in wanted:
        for number, width in enumerate(widths):
            if asked.known_at is None and unit.time == "bigint":
                found = (F.min if function == "min" else F.max)(f"moment.{value}").over(stream.rangeBetween(-int(width), -1))
            else:
                seen = _seen(width, asked.keys, unit).getField(value)
                found = (F.array_min if function == "min" else F.array_max)(seen)
            columns.append(found.alias(f"{function} {value}:{number}"))
    return columns


def _seen(width: Number, keys: Sequence[str], unit: Unit) -> Column:
    """Return the moments of a window one by one: those of the same instant, or not yet known, have to be told apart."""
    # Fractions are looked for a little farther back, and then compared as where they leave a running sum.
    reach = f"{int(width)}L" if unit.time == "bigint" else double_literal(width * 1.000001)
    order = f"PARTITION BY piece, {', '.join(keys)} ORDER BY at RANGE BETWEEN {reach} PRECEDING AND CURRENT ROW"
    return F.filter(
        F.expr(f"collect_list(moment) OVER ({order})"),
        lambda fact: (fact.time < F.col("at")) & (fact.known <= F.col("at")) & (F.col("at") <= F.try_add(fact.time, F.lit(width))),
    )
