"""Point-in-time lookups: for each row the latest row of a table that was known at its event time."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import is_added
from tidemill.columns import column as col
from tidemill.columns import is_hashable
from tidemill.dataset.point_in_time.sides import FACT, PROBE, Asked
from tidemill.dataset.point_in_time.skew import PIECE, Pieces, carried, find_pieces
from tidemill.dataset.time_axis import span
from tidemill.errors import Fault, did_you_mean
from tidemill.spec.models import Lookup


def _asked(name: str, lookup: Lookup, event_time: str) -> Asked:
    return Asked(f"lookups.{name}", lookup.by, event_time, lookup.time, lookup.known_at)


def taken(lookup: Lookup, columns: Sequence[str]) -> list[str]:
    """Return the columns that are taken: those asked for, or all but those of ``by`` and those that tidemill has added."""
    if lookup.columns is not None:
        return list(lookup.columns)
    return [name for name in columns if name not in lookup.by and not is_added(name)]


def new_names(name: str, lookup: Lookup, columns: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Return the name in the dataset of each column that is taken: its own, with the prefix where that is there already."""
    prefix = f"{name}_" if lookup.prefix is None else lookup.prefix
    present = {other.lower() for other in (*known, "split", "fold")}
    return {column: prefix + column if column.lower() in present else column for column in taken(lookup, columns)}


def lookup_faults(name: str, lookup: Lookup, event_time: str, rows: DataFrame, table: DataFrame) -> list[Fault]:
    """Return every fault of a lookup against the columns of both sides."""
    asked = _asked(name, lookup, event_time)
    faults = asked.faults(rows, table)
    for field, names in (("latest_by", lookup.order), ("columns", lookup.columns or ())):
        for column in names:
            if column not in table.columns:
                faults.append(asked.fault(field, f"column {column!r} is not in {lookup.table}{did_you_mean(column, table.columns)}"))
            elif field == "latest_by" and not is_hashable(table.schema[column].dataType):
                kind = table.schema[column].dataType.simpleString()
                faults.append(asked.fault(field, f"{column} is of type {kind}, which has no order"))
    if faults:
        return faults
    names = list(new_names(name, lookup, table.columns, rows.columns).values())
    twice = [new for new in names if [other.lower() for other in (*rows.columns, *names)].count(new.lower()) > 1]
    if twice:
        message = f"would give the dataset a second column {twice[0]!r}; choose another `prefix`, or take fewer `columns`"
        faults.append(asked.fault("prefix" if lookup.prefix else "columns", message))
    return faults


def looked_up(
    rows: DataFrame, table: DataFrame, name: str, lookup: Lookup, event_time: str, *, probes: DataFrame | None = None, piece: int = PIECE
) -> DataFrame:
    """Add the columns of the latest row of ``table`` that was known at ``event_time``, null where there is none.

    Of the rows with ``time <= event_time`` (and ``known_at <= event_time``), and not older than ``at_most``, the one with the greatest
    ``time`` is taken, of equal ones that with the greatest ``latest_by``. Rows that are equal there too are told apart by a hash of what is
    taken, so that the same one is taken each time; the column ``tied(name)`` BOOLEAN, the last, says where that was so.

    ``rows`` come out in the same number: a row without a key or a time has nulls. ``probes`` may be given for them where they are looked
    at before: any frame with their columns of ``by`` and ``event_time``.
    """
    asked = _asked(name, lookup, event_time)
    unit = asked.unit(rows, table)
    names = new_names(name, lookup, table.columns, rows.columns)
    taken_row = F.struct(*[col(old).alias(new) for old, new in names.items()])
    mark = F.xxhash64(*[_hashable(old, table.schema[old].dataType) for old in names]) if names else F.lit(0).cast("bigint")
    order = F.struct(*[col(column).alias(f"o{number}") for number, column in enumerate(lookup.order)], F.lit(0).alias("o"))
    facts = asked.facts(table, unit, order.alias("order"), mark.alias("mark"), taken_row.alias("taken"))
    asking = asked.probes(rows, unit)
    pieces = find_pieces([asked.probes(rows if probes is None else probes, unit), facts], asked.keys, piece)
    events = _events(asking, facts, asked.keys, pieces)
    so_far = Window.partitionBy("piece", *asked.keys).orderBy("at", "side").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    known = events.select(
        "row",
        "at",
        "side",
        F.max_by("fact", _rank()).over(so_far).alias("found"),
        F.max_by("fact.mark", _rank(reverse=True)).over(so_far).alias("other"),
    )
    is_found = F.col("at").isNotNull() & F.col("found").isNotNull()
    if lookup.at_most is not None:
        widest = span(lookup.at_most, table.schema[lookup.time].dataType, f"lookups.{name}.at_most")
        # A difference that does not fit its type is wider than any `at_most`.
        is_found = is_found & F.coalesce(F.try_subtract("at", "found.time") <= F.lit(widest), F.lit(False))
    columns = [F.when(is_found, col_of("found.taken", new)).alias(new) for new in names.values()]
    is_tied = F.coalesce(is_found & (F.col("found.mark") != F.col("other")), F.lit(False))
    kept = [col_of("row", column).alias(column) for column in rows.columns]
    return known.where(F.col("side") == PROBE).select(*kept, *columns, is_tied.alias(tied(name)))


def tied(name: str) -> str:
    """Return the name of the column that says where only a hash decided; with spaces, so that no other column has it."""
    return f"tied in {name}"


def col_of(struct: str, field: str) -> Column:
    """Return a field of a struct by its exact name."""
    return F.col(struct).getField(field)


def _rank(*, reverse: bool = False) -> Column:
    """Return the order of facts, null for rows that ask; ``reverse`` puts those that only their hash tells apart the other way round."""
    mark = F.bitwise_not(F.col("fact.mark")) if reverse else F.col("fact.mark")
    return F.when(F.col("fact").isNotNull(), F.struct(F.col("fact.time"), F.col("fact.order"), mark.alias("mark")))


def _events(asking: DataFrame, facts: DataFrame, keys: Sequence[str], pieces: Pieces) -> DataFrame:
    """Lay the two sides on one another: the keys, ``piece``, ``at``, ``side``, ``fact`` and ``row``, one of which is null."""
    fact = F.struct("time", "order", "mark", "taken").alias("fact")
    known = facts.select(*keys, "at", F.lit(FACT).alias("side"), pieces.of(keys).alias("piece"), fact)
    # Rows that cannot find anything need not come together; left alone, they would all be one key.
    piece = F.when(F.col("at").isNull(), -1 - F.spark_partition_id()).otherwise(pieces.of(keys))
    events = asking.select(*keys, "at", F.lit(PROBE).alias("side"), piece.alias("piece"), "row").unionByName(
        known, allowMissingColumns=True
    )
    if not pieces.cuts:
        return events
    best = (
        known.where(pieces.is_hot(keys))
        .groupBy(*keys, "piece")
        .agg(F.max_by("fact", _rank()).alias("fact"), F.max_by("fact", _rank(reverse=True)).alias("other"))
    )
    running = [
        lambda over: F.max_by("fact", _rank()).over(over).alias("fact"),
        lambda over: F.max_by("other", F.struct("other.time", "other.order", F.bitwise_not("other.mark"))).over(over).alias("other"),
    ]
    told = carried(best, keys, pieces, running)
    # Both ends of a tie are carried, so that it is seen behind the cut too.
    both = told.select(*keys, "piece", F.explode(F.array("fact", "other")).alias("fact"))
    begin = both.select(*keys, "piece", F.col("fact.time").alias("at"), F.lit(FACT).alias("side"), "fact")
    return events.unionByName(begin, allowMissingColumns=True)


def _hashable(name: str, kind: T.DataType) -> Column:
    return col(name) if is_hashable(kind) else F.to_json(F.struct(col(name)))
