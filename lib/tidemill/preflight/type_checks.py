"""Checks of the types of the columns that a spec names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tidemill.errors import Fault
from tidemill.preflight.expression_types import Kind, expression_type, type_group
from tidemill.preflight.queries import Columns
from tidemill.preflight.tables import TableColumns
from tidemill.spec.loading.document import Key, dotted_key
from tidemill.spec.models import Features, parse_measure

_TIME_GROUPS = ("datetime", "numeric")
_INVALID_LABELS = (Kind.ARRAY, Kind.MAP, Kind.STRUCT, Kind.BINARY)
_INVALID_IDS = (Kind.ARRAY, Kind.MAP, Kind.STRUCT, Kind.VARIANT)
_UNORDERED = (Kind.MAP, Kind.VARIANT)


@dataclass(frozen=True)
class _Use:
    """A column that the spec names at ``path``, its type, and whether that is accepted; ``expected`` and ``remedy`` are for the message."""

    path: tuple[Key, ...]
    name: str
    kind: exp.DataType | None
    fits: bool
    expected: str
    remedy: str = "CAST it in the SQL, or name another column"


def type_faults(tables: TableColumns) -> Iterator[Fault]:
    """Yield a fault for each column whose type is known and would be refused by the run."""
    tree = tables.spec.tree
    if tree is None:
        return
    for part in (_dataset_uses, _history_uses, _feature_uses):
        for use in part(tables):
            if use.kind is not None and not use.fits:
                file, line = tree.nearest(dotted_key(use.path)).fault_place()
                message = f"column {use.name!r} is of type {use.kind.sql(dialect='databricks')}; expected {use.expected}: {use.remedy}"
                yield Fault(file, line, dotted_key(use.path), message)


def _use_in_groups(path: tuple[Key, ...], name: str, columns: Columns | None, groups: Collection[str], expected: str) -> _Use:
    """Return the use of a column whose type must be in one of the groups."""
    kind = None if columns is None else columns.get(name)
    group = type_group(kind)
    return _Use(path, name, kind, group is None or group in groups, expected)


def _use_not_of_types(path: tuple[Key, ...], name: str, columns: Columns | None, refused: Collection[object], expected: str) -> _Use:
    """Return the use of a column that may have any type but those."""
    kind = None if columns is None else columns.get(name)
    return _Use(path, name, kind, kind is None or kind.this not in refused, expected)


def _dataset_uses(tables: TableColumns) -> Iterator[_Use]:
    pipeline, columns = tables.spec.pipeline, tables.dataset()
    dataset, training = pipeline.dataset, pipeline.training
    task = f"`task: {training.task}`"
    if dataset.label is not None and pipeline.task_kind.has_numeric_label:
        yield _use_in_groups(("dataset", "label"), dataset.label, columns, ("numeric",), f"a number for {task}")
    elif dataset.label is not None:
        yield _use_not_of_types(
            ("dataset", "label"), dataset.label, columns, _INVALID_LABELS, f"a string, a number or a boolean for {task}"
        )
    if dataset.weight is not None:
        yield _use_in_groups(("dataset", "weight"), dataset.weight, columns, ("numeric",), "a number")
    for name in dataset.key:
        yield _use_not_of_types(("dataset", "key"), name, columns, _UNORDERED, "a type whose values can be compared")
    for key, column in (("user", training.user), ("item", training.item)):
        if column is not None:
            yield _use_not_of_types(("training", key), column, columns, _INVALID_IDS, "an id: a string, a number or a date")
    rule = dataset.split_rule()
    follows_time = rule.by == "time" or rule.folds_rule in ("time", "expanding") or dataset.lookups or dataset.aggregate_blocks
    if dataset.event_time is not None and follows_time:
        yield _use_in_groups(("dataset", "event_time"), dataset.event_time, columns, _TIME_GROUPS, "TIMESTAMP, DATE or a number")


def _history_uses(tables: TableColumns) -> Iterator[_Use]:
    """Yield the columns that lookups and aggregates compare: times with ``event_time``, and ``by`` columns with those of the dataset."""
    dataset, rows = tables.spec.pipeline.dataset, tables.dataset()
    for name, lookup in dataset.lookups.items():
        path: tuple[Key, ...] = ("dataset", "lookups", name)
        facts = tables.of(lookup.table)
        yield from _join_uses(path, lookup.by, (lookup.time, lookup.known_at), str(dataset.event_time), rows, facts)
        for column in lookup.order:
            yield _use_not_of_types((*path, "latest_by"), column, facts, _UNORDERED, "a type whose values have an order")
    for name, block in dataset.aggregate_blocks.items():
        path = ("dataset", "aggregates", *([name] if name else []))
        facts = tables.of(block.over)
        yield from _join_uses(path, block.by, (block.time, block.known_at), str(dataset.event_time), rows, facts)
        for feature, text in block.features.items():
            yield from _measure_uses((*path, "features", feature), text, facts)


def _join_uses(
    path: tuple[Key, ...], by: Sequence[str], times: tuple[str, str | None], event_time: str, rows: Columns | None, facts: Columns | None
) -> Iterator[_Use]:
    event_group = type_group((rows or {}).get(event_time))
    for key, column in zip(("time", "known_at"), times, strict=True):
        if column is None:
            continue
        use = _use_in_groups((*path, key), column, facts, _TIME_GROUPS, "TIMESTAMP, DATE or a number")
        yield use
        if use.fits and event_group in _TIME_GROUPS and type_group(use.kind) is not None:
            what = "a time" if event_group == "datetime" else "a number"
            yield _use_in_groups((*path, key), column, facts, (event_group,), f"{what}, as event_time {event_time} is one")
    for column in by:
        here, there = (rows or {}).get(column), (facts or {}).get(column)
        if here is not None:
            expected = f"what can be compared with {here.sql(dialect='databricks')}, its type in the dataset"
            yield _Use((*path, "by"), column, there, _is_comparable(here, there), expected, "CAST one of them in the SQL")


def _is_comparable(here: exp.DataType, there: exp.DataType | None) -> bool:
    """Return False if values of the two types certainly cannot be compared."""
    groups = {type_group(here), type_group(there)}
    return None in groups or "other" in groups or len(groups) == 1


def _measure_uses(path: tuple[Key, ...], text: str, facts: Columns | None) -> Iterator[_Use]:
    """Yield the argument of an arithmetic feature."""
    try:
        measure = parse_measure(text)
        tree = sqlglot.parse_one(measure.of, dialect="databricks") if measure.is_arithmetic and facts else None
    except (ValueError, SqlglotError, RecursionError):
        return  # the spec's own checks say so
    if tree is not None and facts is not None:
        types = {name.lower(): kind for name, kind in facts.items()}
        kind = expression_type(tree, lambda column: None if column.table else types.get(column.name.lower()))
        fits = type_group(kind) in (None, "numeric", "boolean")
        yield _Use(path, measure.of, kind, fits, f"a number for {measure.function}", "CAST it")


def _feature_uses(tables: TableColumns) -> Iterator[_Use]:
    features, columns = tables.spec.pipeline.features, tables.dataset()
    if not isinstance(features, Features):
        return
    for group in features.groups:
        for path, block in group.placed_blocks(features):
            if group.kind.accepts is None:
                continue
            for name in block.columns:
                yield _use_in_groups((*path, group.kind.columns_key), name, columns, group.kind.accepts, group.kind.expected)
