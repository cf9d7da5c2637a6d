"""What was known of each example at its own time: the lookups and aggregates of the dataset's block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.dataset.point_in_time import aggregate_faults, aggregated, looked_up, lookup_faults, taken, tied
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
    """Give ``frame`` with the columns that lookups and aggregates add, cached for the length of the block, and notes.

    Raises:
        SpecError: a column is not there or has a type that does not fit, or a name would be there twice.
        StepError: the rows are not as many as before.
    """
    declared = context.spec.pipeline.dataset
    if not declared.looks_into:
        with cache_frame(frame):
            yield frame, ()
        return
    tables = {table: context.lake.read(context.spark, table, context.inputs[table]) for table in declared.looks_into}
    faults = _faults(frame, declared, tables)
    if faults:
        raise SpecError(faults)
    with ExitStack() as held:
        with cache_frame(frame):
            rows = frame.count()
            known = held.enter_context(cache_frame(_with_columns(frame, declared, tables)))
            ties = {name: tied(name) for name in declared.lookups}
            found = known.agg(F.count("*"), *[F.count_if(quote_name(column)) for column in ties.values()]).collect()[0]
        if found[0] != rows:
            raise StepError(f"dataset: {rows:,} rows came out of lookups and aggregates as {found[0]:,}; nothing was written")
        yield known.drop(*ties.values()), _notes(declared, dict(zip(ties, found[1:], strict=True)))


def add_history(context: StepContext, frame: DataFrame) -> DataFrame:
    """Return rows of the dataset's SQL with the columns that its lookups and aggregates add.

    Raises:
        SpecError: a column is not there or has a type that does not fit, or a name would be there twice.
    """
    declared = context.spec.pipeline.dataset
    if not declared.looks_into:
        return frame
    tables = {table: context.lake.read(context.spark, table, context.inputs[table]) for table in declared.looks_into}
    _refuse(_faults(frame, declared, tables))
    return _with_columns(frame, declared, tables).drop(*[tied(name) for name in declared.lookups])


def known_then(context: StepContext, rows: DataFrame) -> DataFrame:
    """Give rows to score the columns that the dataset's lookups and aggregates add, as of each row's own event time.

    What the rows bring already stays as it is; what cannot be looked up, as they lack its columns, is left to the model to miss.
    """
    declared = context.spec.pipeline.dataset
    event_time, known = str(declared.event_time), rows
    for name, lookup in declared.lookups.items():
        table = context.lake.read(context.spark, lookup.table, context.inputs[lookup.table])
        is_there = set(taken(lookup, table.columns)) <= set(rows.columns)
        if event_time in rows.columns and not is_there and not lookup_faults(name, lookup, event_time, known, table):
            known = looked_up(known, table, name, lookup, event_time, probes=rows).drop(tied(name))
    for name, block in declared.aggregate_blocks.items():
        table = context.lake.read(context.spark, block.over, context.inputs[block.over])
        is_there = set(column_names(block.features, block.windows)) <= set(rows.columns)
        if event_time in rows.columns and not is_there and not aggregate_faults(name, block, event_time, known, table):
            known = aggregated(known, table, name, block, event_time, probes=rows)
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
    """Add the columns, one lookup or block after the other; what an earlier one adds counts as there for the names of a later one."""
    known, event_time = frame, str(declared.event_time)
    for name, lookup in declared.lookups.items():
        _refuse(lookup_faults(name, lookup, event_time, known, tables[lookup.table]))
        known = looked_up(known, tables[lookup.table], name, lookup, event_time, probes=frame)
    for name, block in declared.aggregate_blocks.items():
        _refuse(aggregate_faults(name, block, event_time, known, tables[block.over]))
        known = aggregated(known, tables[block.over], name, block, event_time, probes=frame)
    return known


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise SpecError(faults)


def _notes(declared: Dataset, ties: dict[str, int]) -> tuple[str, ...]:
    return tuple(
        f"lookup {name}: for {count:,} rows {declared.lookups[name].table} has different rows of the same {declared.lookups[name].time},"
        " and a hash chose; say with `latest_by` which one counts"
        for name, count in ties.items()
        if count
    )
