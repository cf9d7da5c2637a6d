"""Point-in-time aggregates: figures over the rows of a table in windows of time that end at each row's event time.

A fact counts in a window of width ``w`` for the rows whose event time ``t`` is later than its time, not later than its time plus ``w``, and
not earlier than it was known. So each fact enters the stream of events once and leaves it once a window, and a running sum is the figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.dataset.exact_quantiles import Number
from tidemill.dataset.point_in_time.fixed_point import SQUARES, FixedPoint, fixed_points
from tidemill.dataset.point_in_time.sides import FACT, LATE, PROBE, Asked, Unit
from tidemill.dataset.point_in_time.skew import PIECE, Pieces, carried, find_pieces
from tidemill.dataset.time_axis import span
from tidemill.errors import Fault, did_you_mean
from tidemill.quoting import format_double
from tidemill.spec.models import Aggregate, Measure, column_name, column_names, measures


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
    reach = f"{int(width)}L" if unit.time == "bigint" else format_double(width * 1.000001)
    order = f"PARTITION BY piece, {', '.join(keys)} ORDER BY at RANGE BETWEEN {reach} PRECEDING AND CURRENT ROW"
    return F.filter(
        F.expr(f"collect_list(moment) OVER ({order})"),
        lambda fact: (fact.time < F.col("at")) & (fact.known <= F.col("at")) & (F.col("at") <= F.try_add(fact.time, F.lit(width))),
    )


def _asked(name: str, block: Aggregate, event_time: str) -> Asked:
    return Asked(f"aggregates.{name}" if name else "aggregates", block.by, event_time, block.time, block.known_at)


def aggregate_names(name: str, block: Aggregate, known: Sequence[str]) -> dict[str, str]:
    """Return the name in the dataset of each column: its own, with the block's name before it where that is there already."""
    present = {other.lower() for other in (*known, "split", "fold")}
    names = column_names(block.features, block.windows)
    return {column: f"{name}_{column}" if name and column.lower() in present else column for column in names}


def aggregate_faults(name: str, block: Aggregate, event_time: str, rows: DataFrame, table: DataFrame) -> list[Fault]:
    """Return every fault of a block against the columns of both sides."""
    asked = _asked(name, block, event_time)
    faults = asked.faults(rows, table)
    known = {column.lower(): column for column in table.columns}
    for feature, measure in measures(block.features).items():
        for column in measure.columns:
            if column.lower() not in known:
                message = f"column {column!r} is not in {block.over}{did_you_mean(column, table.columns)}"
                faults.append(asked.fault(f"features.{feature}", message))
    if faults:
        return faults
    for feature, measure in measures(block.features).items():
        kind = table.select(F.expr(measure.of)).schema[0].dataType if measure.is_arithmetic else None
        if kind is not None and not isinstance(kind, T.NumericType | T.BooleanType):
            message = f"{measure.function} is of numbers, and {measure.of} is of type {kind.simpleString()}; CAST it"
            faults.append(asked.fault(f"features.{feature}", message))
    names = list(aggregate_names(name, block, rows.columns).values())
    twice = [new for new in names if [other.lower() for other in (*rows.columns, *names)].count(new.lower()) > 1]
    if twice:
        faults.append(asked.fault("features", f"would give the dataset a second column {twice[0]!r}; name the feature otherwise"))
    return faults


@dataclass(frozen=True)
class _Plan:
    """What one block computes: the windows' widths, the measures, and how each value they are of is added up."""

    block: Aggregate
    widths: tuple[Number, ...]
    measures: dict[str, Measure]
    values: dict[str, str]  # SQL → the name of its column among the facts
    fixed: dict[str, FixedPoint]

    def addends(self) -> dict[str, Column]:
        """Return what a fact adds to running sums, by name."""
        found = {"n": F.lit(1).cast("bigint")}
        for measure in self.measures.values():
            value = self.values.get(measure.of)
            if value is None or measure.is_extreme:
                continue
            found[f"n {value}"] = F.col(value).isNotNull().cast("bigint")
            if measure.function in ("sum", "avg"):
                found[f"s {value}"] = _or_zero(self.fixed[value].addend(F.col(value)))
            if measure.function == "stddev":
                found |= {f"{part} {value}": _or_zero(addend) for part, addend in self.fixed[value].squares(F.col(value)).items()}
        return found

    def figure(self, measure: Measure, number: int) -> Column:
        """Return a measure over the window ``number`` from the running sums."""
        value = self.values.get(measure.of, "")

        def running(what: str) -> Column:
            return F.col(f"`{what} {value}:{number}`")

        if measure.function == "count":
            return F.coalesce(running("n") if value else F.col(f"`n:{number}`"), F.lit(0).cast("bigint"))
        if measure.is_extreme:
            return F.col(f"`{measure.function} {value}:{number}`")
        fixed, count = self.fixed[value], running("n")
        if measure.function == "stddev":
            return fixed.deviation({part: running(part) for part in SQUARES}, count)
        return F.when(count > 0, fixed.sum(running("s")) if measure.function == "sum" else fixed.mean(running("s"), count))


def aggregated(
    rows: DataFrame, table: DataFrame, name: str, block: Aggregate, event_time: str, *, probes: DataFrame | None = None, piece: int = PIECE
) -> DataFrame:
    """Add a column for each feature and window, such as ``flights_1d``: over the facts that were known, of the time before.

    A fact counts where ``event_time - window <= time < event_time`` and ``known_at <= event_time``; one whose ``time`` or ``known_at`` is
    null never does. No fact at all: a count is 0, everything else null. Values that are null, NaN or infinite do not count.

    ``rows`` come out in the same number: a row without a key or a time has nulls. ``probes``: as for ``looked_up``.
    """
    asked = _asked(name, block, event_time)
    unit = asked.unit(rows, table)
    plan, facts = _planned(asked, block, unit, rows, table)
    asking = asked.probes(rows, unit)
    pieces = find_pieces([asked.probes(rows if probes is None else probes, unit), facts], asked.keys, piece)
    events = _events(asking, facts, asked.keys, plan, pieces)
    stream = Window.partitionBy("piece", *asked.keys).orderBy("at", "side")
    so_far = stream.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    sums = [
        F.sum(_signed(addend, number)).over(so_far).alias(f"{addend}:{number}")
        for addend in plan.addends()
        for number in range(len(plan.widths))
    ]
    wanted = {(measure.function, plan.values[measure.of]) for measure in plan.measures.values() if measure.is_extreme}
    summed = events.select("row", "at", "side", *sums, *extremes(sorted(wanted), plan.widths, asked, unit))
    new = aggregate_names(name, block, rows.columns)
    figures = [
        F.when(F.col("at").isNotNull(), plan.figure(measure, number)).alias(new[column_name(feature, window)])
        for feature, measure in plan.measures.items()
        for number, window in enumerate(block.windows)
    ]
    kept = [F.col("row").getField(column).alias(column) for column in rows.columns]
    return summed.where(F.col("side") == PROBE).select(*kept, *figures)


def _planned(asked: Asked, block: Aggregate, unit: Unit, rows: DataFrame, table: DataFrame) -> tuple[_Plan, DataFrame]:
    found = measures(block.features)
    values = {text: f"v{number}" for number, text in enumerate(dict.fromkeys(m.of for m in found.values() if m.of))}
    columns = [_value(F.expr(text), table.select(F.expr(text)).schema[0].dataType).alias(name) for text, name in values.items()]
    facts = asked.facts(table, unit, *columns)
    arithmetic = sorted({values[measure.of] for measure in found.values() if measure.is_arithmetic})
    kind = table.schema[block.time].dataType
    widths = tuple(span(window, kind, f"{asked.key}.windows") for window in block.windows)
    return _Plan(block, widths, found, values, fixed_points(facts.select(arithmetic))), facts


def _value(value: Column, kind: T.DataType) -> Column:
    """Return a value as it is counted: a boolean as 0 or 1, what is not finite as null."""
    if isinstance(kind, T.BooleanType):
        return value.cast("int")
    if isinstance(kind, T.FloatType | T.DoubleType):
        return F.when(F.abs(value) < float("inf"), value)
    return value


def _or_zero(addend: Column) -> Column:
    return F.coalesce(addend, F.lit(0).cast(T.DecimalType(38, 0)))


def _signed(addend: str, number: int) -> Column:
    """Return what an event adds to a sum over the window ``number``."""
    sign, value = F.col("signs")[number], F.col(f"`{addend}`")
    return F.when(sign == 1, value).when(sign == -1, -value)


def _events(asking: DataFrame, facts: DataFrame, keys: Sequence[str], plan: _Plan, pieces: Pieces) -> DataFrame:
    """Lay the two sides on one another: a fact is there when it enters, once for each window when it leaves, and as itself for extremes."""
    addends = plan.addends()
    never = [F.lit(0)] * len(plan.widths)
    # A time so late that adding to it does not fit stays until the end.
    leaves = [F.coalesce(F.try_add("time", F.lit(width)), F.lit(2**63 - 1)) for width in plan.widths]
    is_seen = [F.col("at") <= leave for leave in leaves]  # it is known before it is too old
    side = F.when(F.col("at") > F.col("time"), FACT).otherwise(LATE)
    enters = F.struct(F.col("at").alias("at"), side.alias("side"), F.array(*[seen.cast("int") for seen in is_seen]).alias("signs"))
    moves = [F.when(F.greatest(*is_seen, F.lit(False)), enters)]
    for number, (leave, seen) in enumerate(zip(leaves, is_seen, strict=True)):
        signs = F.array(*never[:number], F.lit(-1), *never[number + 1 :])
        moves.append(F.when(seen, F.struct(leave.alias("at"), F.lit(LATE).alias("side"), signs.alias("signs"))))
    changes = (
        facts.select(
            *keys, *[addend.alias(what) for what, addend in addends.items()], F.explode(F.array_compact(F.array(*moves))).alias("move")
        )
        .select(*keys, "move.*", *[F.col(f"`{what}`") for what in addends])
        .withColumn("piece", pieces.of(keys))
    )
    piece = F.when(F.col("at").isNull(), -1 - F.spark_partition_id()).otherwise(pieces.of(keys))
    events = asking.select(*keys, "at", F.lit(PROBE).alias("side"), piece.alias("piece"), "row").unionByName(
        changes, allowMissingColumns=True
    )
    if pieces.cuts:
        events = events.unionByName(_brought(changes, keys, plan, pieces), allowMissingColumns=True)
    extreme = sorted({plan.values[measure.of] for measure in plan.measures.values() if measure.is_extreme})
    return events.unionByName(moments(facts, keys, extreme, max(plan.widths), pieces), allowMissingColumns=True) if extreme else events


def _brought(changes: DataFrame, keys: Sequence[str], plan: _Plan, pieces: Pieces) -> DataFrame:
    """Return what the pieces of hot keys begin with: the running sums so far, as one event a window."""
    sums = [(what, number) for what in plan.addends() for number in range(len(plan.widths))]
    per_piece = (
        changes.where(pieces.is_hot(keys))
        .groupBy(*keys, "piece")
        .agg(*[F.sum(_signed(what, number)).alias(f"{what}:{number}") for what, number in sums], F.min("at").alias("at"))
    )
    running = [partial(_running, F.sum, f"{what}:{number}") for what, number in sums] + [partial(_running, F.min, "at")]
    told = carried(per_piece, keys, pieces, running)
    none = F.lit(0)
    by_window = [
        F.struct(
            F.array(*[F.lit(int(other == number)) for other in range(len(plan.widths))]).alias("signs"),
            *[F.coalesce(F.col(f"`{what}:{number}`"), none).alias(what) for what in plan.addends()],
        )
        for number in range(len(plan.widths))
    ]
    return told.select(*keys, "piece", "at", F.lit(FACT).alias("side"), F.explode(F.array(*by_window)).alias("sum")).select(
        *keys, "piece", "at", "side", "sum.*"
    )


def _running(function: Callable[[Column], Column], column: str, over: WindowSpec) -> Column:
    return function(F.col(f"`{column}`")).over(over).alias(column)
