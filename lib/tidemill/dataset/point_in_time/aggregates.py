"""Point-in-time aggregates: aggregates over the rows of a table, in time windows that end at each row's event time.

A fact counts in a window of width ``w`` for the rows whose event time is later than the fact's time, at most ``w`` later, and not earlier
than the fact was known. So each fact enters the stream of events once and leaves it once per window; running sums give the aggregates.
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
from tidemill.dataset.point_in_time.join_spec import FACT, LATE, PROBE, JoinSpec, Unit
from tidemill.dataset.point_in_time.skew import EVENTS_PER_PARTITION, SkewPartitions, carry_forward, find_skew_partitions
from tidemill.dataset.time_axis import to_duration
from tidemill.errors import Fault, did_you_mean
from tidemill.quoting import format_double
from tidemill.spec.models import Aggregate, AggregateMeasure, column_name, column_names, parse_measures


def moment_events(facts: DataFrame, keys: Sequence[str], values: Sequence[str], widest: Number, partitions: SkewPartitions) -> DataFrame:
    """Return the facts as events at their own time, each with ``moment``: its time, when it was known, and its values.

    Where a key is split, a fact is in each skew partition that the widest window after it reaches.
    """
    moment = F.struct("time", F.col("at").alias("known"), *values).alias("moment")
    events = facts.select(*keys, F.col("time").alias("at"), F.lit(FACT).alias("side"), moment)
    if not partitions.cuts:
        return events.withColumn("skew_partition", F.lit(0))
    first, last = partitions.of(keys), partitions.of(keys, at="until")
    reach = events.withColumn("until", F.col("at") + F.lit(widest)).select("*", F.explode(F.sequence(first, last)).alias("skew_partition"))
    return reach.drop("until")


def extreme_columns(extremes: Sequence[tuple[str, str]], widths: Sequence[Number], join: JoinSpec, unit: Unit) -> list[Column]:
    """Return a column such as ``min v0:1`` for each function and value and each window that ends before the event."""
    stream = Window.partitionBy("skew_partition", *join.keys).orderBy("at")
    columns = []
    for function, value in extremes:
        for number, width in enumerate(widths):
            if join.known_at is None and unit.time == "bigint":
                extreme = (F.min if function == "min" else F.max)(f"moment.{value}").over(stream.rangeBetween(-int(width), -1))
            else:
                in_window = _window_moments(width, join.keys, unit).getField(value)
                extreme = (F.array_min if function == "min" else F.array_max)(in_window)
            columns.append(extreme.alias(f"{function} {value}:{number}"))
    return columns


def _window_moments(width: Number, keys: Sequence[str], unit: Unit) -> Column:
    """Return the moments of a window as an array, without those of the same instant and those not yet known."""
    # For fractional times the range is slightly wider; the filter below then compares exactly as the running sums do.
    reach = f"{int(width)}L" if unit.time == "bigint" else format_double(width * 1.000001)
    order = f"PARTITION BY skew_partition, {', '.join(keys)} ORDER BY at RANGE BETWEEN {reach} PRECEDING AND CURRENT ROW"
    return F.filter(
        F.expr(f"collect_list(moment) OVER ({order})"),
        lambda fact: (fact.time < F.col("at")) & (fact.known <= F.col("at")) & (F.col("at") <= F.try_add(fact.time, F.lit(width))),
    )


def _join_spec(name: str, block: Aggregate, event_time: str) -> JoinSpec:
    return JoinSpec(f"aggregates.{name}" if name else "aggregates", block.by, event_time, block.time, block.known_at)


def aggregate_names(name: str, block: Aggregate, known: Sequence[str]) -> dict[str, str]:
    """Return the name in the dataset of each column: its own, prefixed with the block's name if the dataset has that name already."""
    present = {other.lower() for other in (*known, "split", "fold")}
    names = column_names(block.features, block.windows)
    return {column: f"{name}_{column}" if name and column.lower() in present else column for column in names}


def aggregate_faults(name: str, block: Aggregate, event_time: str, rows: DataFrame, table: DataFrame) -> list[Fault]:
    """Return every fault of a block against the columns of both sides."""
    join = _join_spec(name, block, event_time)
    faults = join.faults(rows, table)
    known = {column.lower(): column for column in table.columns}
    for feature, measure in parse_measures(block.features).items():
        for column in measure.columns:
            if column.lower() not in known:
                message = f"column {column!r} is not in {block.over}{did_you_mean(column, table.columns)}"
                faults.append(join.fault(f"features.{feature}", message))
    if faults:
        return faults
    for feature, measure in parse_measures(block.features).items():
        kind = table.select(F.expr(measure.of)).schema[0].dataType if measure.is_arithmetic else None
        if kind is not None and not isinstance(kind, T.NumericType | T.BooleanType):
            message = f"{measure.function} needs a number, and {measure.of} is of type {kind.simpleString()}; CAST it"
            faults.append(join.fault(f"features.{feature}", message))
    names = list(aggregate_names(name, block, rows.columns).values())
    twice = [new for new in names if [other.lower() for other in (*rows.columns, *names)].count(new.lower()) > 1]
    if twice:
        faults.append(join.fault("features", f"would give the dataset a second column {twice[0]!r}; rename the feature"))
    return faults


@dataclass(frozen=True)
class _Plan:
    """What one block computes: the widths of its windows, its measures, and how each of their values is summed."""

    block: Aggregate
    widths: tuple[Number, ...]
    measures: dict[str, AggregateMeasure]
    values: dict[str, str]  # SQL → the name of its column among the facts
    fixed: dict[str, FixedPoint]

    def addends(self) -> dict[str, Column]:
        """Return what a fact adds to each running sum, by name."""
        addends = {"n": F.lit(1).cast("bigint")}
        for measure in self.measures.values():
            value = self.values.get(measure.of)
            if value is None or measure.is_extreme:
                continue
            addends[f"n {value}"] = F.col(value).isNotNull().cast("bigint")
            if measure.function in ("sum", "avg"):
                addends[f"s {value}"] = _or_zero(self.fixed[value].addend(F.col(value)))
            if measure.function == "stddev":
                addends |= {f"{part} {value}": _or_zero(addend) for part, addend in self.fixed[value].squares(F.col(value)).items()}
        return addends

    def figure(self, measure: AggregateMeasure, number: int) -> Column:
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


def add_aggregates(
    rows: DataFrame,
    table: DataFrame,
    name: str,
    block: Aggregate,
    event_time: str,
    *,
    probes: DataFrame | None = None,
    events_per_partition: int = EVENTS_PER_PARTITION,
) -> DataFrame:
    """Add a column for each feature and window, such as ``flights_1d``, over the earlier facts that were known.

    A fact counts where ``event_time - window <= time < event_time`` and ``known_at <= event_time``; one whose ``time`` or ``known_at`` is
    null never counts. Without any fact a count is 0 and everything else null. Values that are null, NaN or infinite do not count.

    Every row of ``rows`` stays; a row without a key or a time has nulls. ``probes`` is as in ``add_lookup``.
    """
    join = _join_spec(name, block, event_time)
    unit = join.unit(rows, table)
    plan, facts = _plan_block(join, block, unit, rows, table)
    probe_rows = join.probes(rows, unit)
    partitions = find_skew_partitions([join.probes(rows if probes is None else probes, unit), facts], join.keys, events_per_partition)
    events = _events(probe_rows, facts, join.keys, plan, partitions)
    stream = Window.partitionBy("skew_partition", *join.keys).orderBy("at", "side")
    so_far = stream.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    sums = [
        F.sum(_signed_addend(addend, number)).over(so_far).alias(f"{addend}:{number}")
        for addend in plan.addends()
        for number in range(len(plan.widths))
    ]
    extremes = {(measure.function, plan.values[measure.of]) for measure in plan.measures.values() if measure.is_extreme}
    summed = events.select("row", "at", "side", *sums, *extreme_columns(sorted(extremes), plan.widths, join, unit))
    new = aggregate_names(name, block, rows.columns)
    figures = [
        F.when(F.col("at").isNotNull(), plan.figure(measure, number)).alias(new[column_name(feature, window)])
        for feature, measure in plan.measures.items()
        for number, window in enumerate(block.windows)
    ]
    row_columns = [F.col("row").getField(column).alias(column) for column in rows.columns]
    return summed.where(F.col("side") == PROBE).select(*row_columns, *figures)


def _plan_block(join: JoinSpec, block: Aggregate, unit: Unit, rows: DataFrame, table: DataFrame) -> tuple[_Plan, DataFrame]:
    by_feature = parse_measures(block.features)
    values = {text: f"v{number}" for number, text in enumerate(dict.fromkeys(m.of for m in by_feature.values() if m.of))}
    columns = [_value(F.expr(text), table.select(F.expr(text)).schema[0].dataType).alias(name) for text, name in values.items()]
    facts = join.facts(table, unit, *columns)
    arithmetic = sorted({values[measure.of] for measure in by_feature.values() if measure.is_arithmetic})
    kind = table.schema[block.time].dataType
    widths = tuple(to_duration(window, kind, f"{join.key}.windows") for window in block.windows)
    return _Plan(block, widths, by_feature, values, fixed_points(facts.select(arithmetic))), facts


def _value(value: Column, kind: T.DataType) -> Column:
    """Return a value as it is aggregated: a boolean as 0 or 1, NaN and infinity as null."""
    if isinstance(kind, T.BooleanType):
        return value.cast("int")
    if isinstance(kind, T.FloatType | T.DoubleType):
        return F.when(F.abs(value) < float("inf"), value)
    return value


def _or_zero(addend: Column) -> Column:
    return F.coalesce(addend, F.lit(0).cast(T.DecimalType(38, 0)))


def _signed_addend(addend: str, number: int) -> Column:
    """Return what an event adds to a sum over the window ``number``."""
    sign, value = F.col("signs")[number], F.col(f"`{addend}`")
    return F.when(sign == 1, value).when(sign == -1, -value)


def _events(probe_rows: DataFrame, facts: DataFrame, keys: Sequence[str], plan: _Plan, partitions: SkewPartitions) -> DataFrame:
    """Return both sides as one stream; a fact is an event when it enters, when it leaves each window, and once more for extremes."""
    addends = plan.addends()
    never = [F.lit(0)] * len(plan.widths)
    # If adding the width overflows, the fact never leaves.
    leaves = [F.coalesce(F.try_add("time", F.lit(width)), F.lit(2**63 - 1)) for width in plan.widths]
    is_counted = [F.col("at") <= leave for leave in leaves]  # it became known before it left the window
    side = F.when(F.col("at") > F.col("time"), FACT).otherwise(LATE)
    enters = F.struct(F.col("at").alias("at"), side.alias("side"), F.array(*[counted.cast("int") for counted in is_counted]).alias("signs"))
    moves = [F.when(F.greatest(*is_counted, F.lit(False)), enters)]
    for number, (leave, counted) in enumerate(zip(leaves, is_counted, strict=True)):
        signs = F.array(*never[:number], F.lit(-1), *never[number + 1 :])
        moves.append(F.when(counted, F.struct(leave.alias("at"), F.lit(LATE).alias("side"), signs.alias("signs"))))
    changes = (
        facts.select(
            *keys, *[addend.alias(what) for what, addend in addends.items()], F.explode(F.array_compact(F.array(*moves))).alias("move")
        )
        .select(*keys, "move.*", *[F.col(f"`{what}`") for what in addends])
        .withColumn("skew_partition", partitions.of(keys))
    )
    skew_partition = F.when(F.col("at").isNull(), -1 - F.spark_partition_id()).otherwise(partitions.of(keys))
    events = probe_rows.select(*keys, "at", F.lit(PROBE).alias("side"), skew_partition.alias("skew_partition"), "row").unionByName(
        changes, allowMissingColumns=True
    )
    if partitions.cuts:
        events = events.unionByName(_carry_sums(changes, keys, plan, partitions), allowMissingColumns=True)
    extreme = sorted({plan.values[measure.of] for measure in plan.measures.values() if measure.is_extreme})
    return (
        events.unionByName(moment_events(facts, keys, extreme, max(plan.widths), partitions), allowMissingColumns=True)
        if extreme
        else events
    )


def _carry_sums(changes: DataFrame, keys: Sequence[str], plan: _Plan, partitions: SkewPartitions) -> DataFrame:
    """Return the running sums with which each later skew partition of a hot key begins, one event per window."""
    sums = [(what, number) for what in plan.addends() for number in range(len(plan.widths))]
    per_partition = (
        changes.where(partitions.is_hot(keys))
        .groupBy(*keys, "skew_partition")
        .agg(*[F.sum(_signed_addend(what, number)).alias(f"{what}:{number}") for what, number in sums], F.min("at").alias("at"))
    )
    running = [partial(_running_column, F.sum, f"{what}:{number}") for what, number in sums] + [partial(_running_column, F.min, "at")]
    carried_sums = carry_forward(per_partition, keys, partitions, running)
    none = F.lit(0)
    by_window = [
        F.struct(
            F.array(*[F.lit(int(other == number)) for other in range(len(plan.widths))]).alias("signs"),
            *[F.coalesce(F.col(f"`{what}:{number}`"), none).alias(what) for what in plan.addends()],
        )
        for number in range(len(plan.widths))
    ]
    return carried_sums.select(
        *keys, "skew_partition", "at", F.lit(FACT).alias("side"), F.explode(F.array(*by_window)).alias("sum")
    ).select(*keys, "skew_partition", "at", "side", "sum.*")


def _running_column(function: Callable[[Column], Column], column: str, over: WindowSpec) -> Column:
    return function(F.col(f"`{column}`")).over(over).alias(column)
