"""Point-in-time lookups: for each row the latest row of a table that was known at its event time."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import is_added
from tidemill.columns import column as col
from tidemill.columns import is_hashable
from tidemill.dataset.point_in_time.join_spec import FACT, PROBE, JoinSpec
from tidemill.dataset.point_in_time.skew import EVENTS_PER_PARTITION, SkewPartitions, carry_forward, find_skew_partitions
from tidemill.dataset.time_axis import to_duration
from tidemill.errors import Fault, did_you_mean
from tidemill.spec.models import Lookup


def _join_spec(name: str, lookup: Lookup, event_time: str) -> JoinSpec:
    return JoinSpec(f"lookups.{name}", lookup.by, event_time, lookup.time, lookup.known_at)


def lookup_columns(lookup: Lookup, columns: Sequence[str]) -> list[str]:
    """Return the columns that a lookup takes: the declared ones, or all but those of ``by`` and those that tidemill adds."""
    if lookup.columns is not None:
        return list(lookup.columns)
    return [name for name in columns if name not in lookup.by and not is_added(name)]


def new_names(name: str, lookup: Lookup, columns: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Return the name in the dataset of each column taken: its own, prefixed if the dataset has that name already."""
    prefix = f"{name}_" if lookup.prefix is None else lookup.prefix
    present = {other.lower() for other in (*known, "split", "fold")}
    return {column: prefix + column if column.lower() in present else column for column in lookup_columns(lookup, columns)}


def lookup_faults(name: str, lookup: Lookup, event_time: str, rows: DataFrame, table: DataFrame) -> list[Fault]:
    """Return every fault of a lookup against the columns of both sides."""
    join = _join_spec(name, lookup, event_time)
    faults = join.faults(rows, table)
    for field, names in (("latest_by", lookup.order), ("columns", lookup.columns or ())):
        for column in names:
            if column not in table.columns:
                faults.append(join.fault(field, f"column {column!r} is not in {lookup.table}{did_you_mean(column, table.columns)}"))
            elif field == "latest_by" and not is_hashable(table.schema[column].dataType):
                kind = table.schema[column].dataType.simpleString()
                faults.append(join.fault(field, f"{column} is of type {kind}, which has no order"))
    if faults:
        return faults
    names = list(new_names(name, lookup, table.columns, rows.columns).values())
    twice = [new for new in names if [other.lower() for other in (*rows.columns, *names)].count(new.lower()) > 1]
    if twice:
        message = f"would give the dataset a second column {twice[0]!r}; choose another `prefix`, or take fewer `columns`"
        faults.append(join.fault("prefix" if lookup.prefix else "columns", message))
    return faults


def add_lookup(
    rows: DataFrame,
    table: DataFrame,
    name: str,
    lookup: Lookup,
    event_time: str,
    *,
    probes: DataFrame | None = None,
    events_per_partition: int = EVENTS_PER_PARTITION,
) -> DataFrame:
    """Add the columns of the latest row of ``table`` that was known at ``event_time``, null where there is none.

    Of the rows with ``time <= event_time`` (and ``known_at <= event_time``), and not older than ``at_most``, it is the one with the
    greatest ``time``; of equal ones, that with the greatest ``latest_by``. If those are equal too, a hash of the taken columns decides, so
    that every run takes the same row; the last column, ``tie_column(name)`` BOOLEAN, is true where the hash decided.

    Every row of ``rows`` stays; a row without a key or a time has nulls. ``probes`` replaces ``rows`` where only their keys and times are
    read: any frame with the same values of ``by`` and ``event_time``.
    """
    join = _join_spec(name, lookup, event_time)
    unit = join.unit(rows, table)
    names = new_names(name, lookup, table.columns, rows.columns)
    taken_row = F.struct(*[col(old).alias(new) for old, new in names.items()])
    mark = F.xxhash64(*[_hashable(old, table.schema[old].dataType) for old in names]) if names else F.lit(0).cast("bigint")
    order = F.struct(*[col(column).alias(f"o{number}") for number, column in enumerate(lookup.order)], F.lit(0).alias("o"))
    facts = join.facts(table, unit, order.alias("order"), mark.alias("mark"), taken_row.alias("taken"))
    probe_rows = join.probes(rows, unit)
    partitions = find_skew_partitions([join.probes(rows if probes is None else probes, unit), facts], join.keys, events_per_partition)
    events = _events(probe_rows, facts, join.keys, partitions)
    so_far = (
        Window.partitionBy("skew_partition", *join.keys).orderBy("at", "side").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    known = events.select(
        "row",
        "at",
        "side",
        F.max_by("fact", _rank()).over(so_far).alias("latest"),
        F.max_by("fact.mark", _rank(reverse=True)).over(so_far).alias("other"),
    )
    has_match = F.col("at").isNotNull() & F.col("latest").isNotNull()
    if lookup.at_most is not None:
        widest = to_duration(lookup.at_most, table.schema[lookup.time].dataType, f"lookups.{name}.at_most")
        # If the difference overflows its type, it is wider than any `at_most`.
        has_match = has_match & F.coalesce(F.try_subtract("at", "latest.time") <= F.lit(widest), F.lit(False))
    columns = [F.when(has_match, col_of("latest.taken", new)).alias(new) for new in names.values()]
    is_tied = F.coalesce(has_match & (F.col("latest.mark") != F.col("other")), F.lit(False))
    row_columns = [col_of("row", column).alias(column) for column in rows.columns]
    return known.where(F.col("side") == PROBE).select(*row_columns, *columns, is_tied.alias(tie_column(name)))


def tie_column(name: str) -> str:
    """Return the name of the column that is true where only a hash decided; it has spaces, so that no other column has this name."""
    return f"tied in {name}"


def col_of(struct: str, field: str) -> Column:
    """Return a field of a struct by its exact name."""
    return F.col(struct).getField(field)


def _rank(*, reverse: bool = False) -> Column:
    """Return the order of facts, null for probe rows; ``reverse`` reverses the order of facts that differ in their hash alone."""
    mark = F.bitwise_not(F.col("fact.mark")) if reverse else F.col("fact.mark")
    return F.when(F.col("fact").isNotNull(), F.struct(F.col("fact.time"), F.col("fact.order"), mark.alias("mark")))


def _events(probe_rows: DataFrame, facts: DataFrame, keys: Sequence[str], partitions: SkewPartitions) -> DataFrame:
    """Return both sides as one stream: the keys, ``skew_partition``, ``at``, ``side``, and ``fact`` or ``row``; the other is null."""
    fact = F.struct("time", "order", "mark", "taken").alias("fact")
    known = facts.select(*keys, "at", F.lit(FACT).alias("side"), partitions.of(keys).alias("skew_partition"), fact)
    # Rows without a key or time match nothing: spread them, since otherwise they would all share one key.
    skew_partition = F.when(F.col("at").isNull(), -1 - F.spark_partition_id()).otherwise(partitions.of(keys))
    events = probe_rows.select(*keys, "at", F.lit(PROBE).alias("side"), skew_partition.alias("skew_partition"), "row").unionByName(
        known, allowMissingColumns=True
    )
    if not partitions.cuts:
        return events
    best = (
        known.where(partitions.is_hot(keys))
        .groupBy(*keys, "skew_partition")
        .agg(F.max_by("fact", _rank()).alias("fact"), F.max_by("fact", _rank(reverse=True)).alias("other"))
    )
    running = [
        lambda over: F.max_by("fact", _rank()).over(over).alias("fact"),
        lambda over: F.max_by("other", F.struct("other.time", "other.order", F.bitwise_not("other.mark"))).over(over).alias("other"),
    ]
    carried_facts = carry_forward(best, keys, partitions, running)
    # Both facts of a tie are carried, so that the tie shows in the next skew partition too.
    both = carried_facts.select(*keys, "skew_partition", F.explode(F.array("fact", "other")).alias("fact"))
    begin = both.select(*keys, "skew_partition", F.col("fact.time").alias("at"), F.lit(FACT).alias("side"), "fact")
    return events.unionByName(begin, allowMissingColumns=True)


def _hashable(name: str, kind: T.DataType) -> Column:
    return col(name) if is_hashable(kind) else F.to_json(F.struct(col(name)))
