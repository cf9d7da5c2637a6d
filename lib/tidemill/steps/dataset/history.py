"""The lookups and aggregates of the `dataset` block: what was known of each row at its event time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.dataset.point_in_time import add_aggregates, add_lookup, aggregate_faults, lookup_columns, lookup_faults, tie_column
from tidemill.errors import Fault, SpecError, StepError, did_you_mean
from tidemill.quoting import quote_name
from tidemill.runtime.caching import cache_frame
from tidemill.spec.models import column_names

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tidemill.spec.models import Dataset
    from tidemill.steps.result import StepContext


@contextmanager
def with_history(context: StepContext, frame: DataFrame) -> Iterator[tuple[DataFrame, tuple[str, ...]]]:
    """Yield ``frame`` with the columns that lookups and aggregates add, cached during the `with` block, and notes.

    Raises:
        SpecError: a column is missing or has a wrong type, or two columns would have one name.
        StepError: the number of rows has changed.
    """
    declared = context.spec.pipeline.dataset
    if not declared.joined_tables:
        with cache_frame(frame):
            yield frame, ()
        return
    tables = {table: context.lake.read(context.spark, table, context.inputs[table]) for table in declared.joined_tables}
    faults = _faults(frame, declared, tables)
    if faults:
        raise SpecError(faults)
    with ExitStack() as caches:
        with cache_frame(frame):
            rows = frame.count()
            known = caches.enter_context(cache_frame(_with_columns(frame, declared, tables)))
            ties = {name: tie_column(name) for name in declared.lookups}
            counts = known.agg(F.count("*"), *[F.count_if(quote_name(column)) for column in ties.values()]).collect()[0]
        if counts[0] != rows:
            raise StepError(f"dataset: {rows:,} rows came out of lookups and aggregates as {counts[0]:,}; nothing was written")
        yield known.drop(*ties.values()), _notes(declared, dict(zip(ties, counts[1:], strict=True)))


def add_history(context: StepContext, frame: DataFrame) -> DataFrame:
    """Return rows of the dataset's SQL with the columns that its lookups and aggregates add.

    Raises:
        SpecError: a column is missing or has a wrong type, or two columns would have one name.
    """
    declared = context.spec.pipeline.dataset
    if not declared.joined_tables:
        return frame
    tables = {table: context.lake.read(context.spark, table, context.inputs[table]) for table in declared.joined_tables}
    _refuse(_faults(frame, declared, tables))
    return _with_columns(frame, declared, tables).drop(*[tie_column(name) for name in declared.lookups])


def point_in_time_join(context: StepContext, rows: DataFrame) -> DataFrame:
    """Add the columns of the dataset's lookups and aggregates to rows to score, as of each row's event time.

    Columns that the rows have already stay as they are. What cannot be looked up, because the rows lack its columns, is left out: `predict`
    reports missing feature columns.
    """
    declared = context.spec.pipeline.dataset
    event_time, known = str(declared.event_time), rows
    for name, lookup in declared.lookups.items():
        table = context.lake.read(context.spark, lookup.table, context.inputs[lookup.table])
        is_there = set(lookup_columns(lookup, table.columns)) <= set(rows.columns)
        if event_time in rows.columns and not is_there and not lookup_faults(name, lookup, event_time, known, table):
            known = add_lookup(known, table, name, lookup, event_time, probes=rows).drop(tie_column(name))
    for name, block in declared.aggregate_blocks.items():
        table = context.lake.read(context.spark, block.over, context.inputs[block.over])
        is_there = set(column_names(block.features, block.windows)) <= set(rows.columns)
        if event_time in rows.columns and not is_there and not aggregate_faults(name, block, event_time, known, table):
            known = add_aggregates(known, table, name, block, event_time, probes=rows)
    return known


def _faults(frame: DataFrame, declared: Dataset, tables: dict[str, DataFrame]) -> list[Fault]:
    event_time = str(declared.event_time)
    if event_time not in frame.columns:
        message = f"column {event_time!r} is not in the dataset{did_you_mean(event_time, frame.columns)}"
        return [Fault("pipeline.yml", None, "dataset.event_time", message)]
    faults = []
    for name, lookup in declared.lookups.items():
        faults += lookup_faults(name, lookup, event_time, frame, tables[lookup.table])
    for name, block in declared.aggregate_blocks.items():
        faults += aggregate_faults(name, block, event_time, frame, tables[block.over])
    return faults


def _with_columns(frame: DataFrame, declared: Dataset, tables: dict[str, DataFrame]) -> DataFrame:
    """Add the columns, one lookup or block after the other; a later one sees the columns of the earlier ones."""
    known, event_time = frame, str(declared.event_time)
    for name, lookup in declared.lookups.items():
        _refuse(lookup_faults(name, lookup, event_time, known, tables[lookup.table]))
        known = add_lookup(known, tables[lookup.table], name, lookup, event_time, probes=frame)
    for name, block in declared.aggregate_blocks.items():
        _refuse(aggregate_faults(name, block, event_time, known, tables[block.over]))
        known = add_aggregates(known, tables[block.over], name, block, event_time, probes=frame)
    return known


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise SpecError(faults)


def _notes(declared: Dataset, ties: dict[str, int]) -> tuple[str, ...]:
    return tuple(
        f"lookup {name}: for {count:,} rows {declared.lookups[name].table} has different rows of the same {declared.lookups[name].time},"
        " and a hash chose one; set `latest_by` to choose"
        for name, count in ties.items()
        if count
    )
