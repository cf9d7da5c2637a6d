"""The types of the columns that a spec names: each must be one that the step which uses the column accepts."""

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
from tidemill.spec.loading.document import Key, dotted
from tidemill.spec.models import Features, parse_measure

_TIMES = ("datetime", "numeric")
_NO_LABEL = (Kind.ARRAY, Kind.MAP, Kind.STRUCT, Kind.BINARY)
_NO_ID = (Kind.ARRAY, Kind.MAP, Kind.STRUCT, Kind.VARIANT)
_NO_ORDER = (Kind.MAP, Kind.VARIANT)


@dataclass(frozen=True)
class _Use:
    """A column that the spec names at ``path``: its type, and whether that fits; ``expected`` and ``remedy`` are said where it does not."""

    path: tuple[Key, ...]
    name: str
    kind: exp.DataType | None
    fits: bool
    expected: str
    remedy: str = "CAST it in the SQL, or name another column"


def type_faults(tables: TableColumns) -> Iterator[Fault]:
    """Yield a fault for each column whose type is known and is one that the run would refuse."""
    tree = tables.spec.tree
    if tree is None:
        return
    for part in (_of_dataset, _of_history, _of_features):
        for use in part(tables):
            if use.kind is not None and not use.fits:
                file, line = tree.nearest(dotted(use.path)).fault_place()
                message = f"column {use.name!r} is of type {use.kind.sql(dialect='databricks')}; expected {use.expected}: {use.remedy}"
                yield Fault(file, line, dotted(use.path), message)


def _in_groups(path: tuple[Key, ...], name: str, columns: Columns | None, groups: Collection[str], expected: str) -> _Use:
    """Return a use of a column that must hold what one of the groups says."""
    kind = None if columns is None else columns.get(name)
    group = type_group(kind)
    return _Use(path, name, kind, group is None or group in groups, expected)


def _not_of(path: tuple[Key, ...], name: str, columns: Columns | None, refused: Collection[object], expected: str) -> _Use:
    """Return a use of a column that may be of any type but those."""
    kind = None if columns is None else columns.get(name)
    return _Use(path, name, kind, kind is None or kind.this not in refused, expected)


def _of_dataset(tables: TableColumns) -> Iterator[_Use]:
    pipeline, columns = tables.spec.pipeline, tables.dataset()
    dataset, training = pipeline.dataset, pipeline.training
    task = f"`task: {training.task}`"
    if dataset.label is not None and pipeline.task_kind.has_numeric_label:
        yield _in_groups(("dataset", "label"), dataset.label, columns, ("numeric",), f"a number for {task}")
    elif dataset.label is not None:
        yield _not_of(("dataset", "label"), dataset.label, columns, _NO_LABEL, f"a string, a number or a boolean for {task}")
    if dataset.weight is not None:
        yield _in_groups(("dataset", "weight"), dataset.weight, columns, ("numeric",), "a number")
    for name in dataset.key:
        yield _not_of(("dataset", "key"), name, columns, _NO_ORDER, "a type whose values can be compared")
    for key, column in (("user", training.user), ("item", training.item)):
        if column is not None:
            yield _not_of(("training", key), column, columns, _NO_ID, "an id: a string, a number or a date")
    rule = dataset.split_rule()
    follows_time = rule.by == "time" or rule.folds_rule in ("time", "expanding") or dataset.lookups or dataset.aggregate_blocks
    if dataset.event_time is not None and follows_time:
        yield _in_groups(("dataset", "event_time"), dataset.event_time, columns, _TIMES, "TIMESTAMP, DATE or a number")


def _of_history(tables: TableColumns) -> Iterator[_Use]:
    """Yield what lookups and aggregates compare: times with ``event_time``, and the columns of ``by`` with those of the dataset."""
    dataset, rows = tables.spec.pipeline.dataset, tables.dataset()
    for name, lookup in dataset.lookups.items():
        path: tuple[Key, ...] = ("dataset", "lookups", name)
        facts = tables.of(lookup.table)
        yield from _of_sides(path, lookup.by, (lookup.time, lookup.known_at), str(dataset.event_time), rows, facts)
        for column in lookup.order:
            yield _not_of((*path, "latest_by"), column, facts, _NO_ORDER, "a type whose values have an order")
    for name, block in dataset.aggregate_blocks.items():
        path = ("dataset", "aggregates", *([name] if name else []))
        facts = tables.of(block.over)
        yield from _of_sides(path, block.by, (block.time, block.known_at), str(dataset.event_time), rows, facts)
        for feature, text in block.features.items():
            yield from _of_measure((*path, "features", feature), text, facts)


def _of_sides(
    path: tuple[Key, ...], by: Sequence[str], times: tuple[str, str | None], event_time: str, rows: Columns | None, facts: Columns | None
) -> Iterator[_Use]:
    asked = type_group((rows or {}).get(event_time))
    for key, column in zip(("time", "known_at"), times, strict=True):
        if column is None:
            continue
        use = _in_groups((*path, key), column, facts, _TIMES, "TIMESTAMP, DATE or a number")
        yield use
        if use.fits and asked in _TIMES and type_group(use.kind) is not None:
            what = "a time" if asked == "datetime" else "a number"
            yield _in_groups((*path, key), column, facts, (asked,), f"{what}, as event_time {event_time} is one")
    for column in by:
        here, there = (rows or {}).get(column), (facts or {}).get(column)
        if here is not None:
            expected = f"what can be compared with {here.sql(dialect='databricks')}, its type in the dataset"
            yield _Use((*path, "by"), column, there, _is_comparable(here, there), expected, "CAST one of them in the SQL")


def _is_comparable(here: exp.DataType, there: exp.DataType | None) -> bool:
    """Return False where values of two types are certainly not compared."""
    groups = {type_group(here), type_group(there)}
    return None in groups or "other" in groups or len(groups) == 1


def _of_measure(path: tuple[Key, ...], text: str, facts: Columns | None) -> Iterator[_Use]:
    """Yield what an arithmetic feature is of."""
    try:
        measure = parse_measure(text)
        tree = sqlglot.parse_one(measure.of, dialect="databricks") if measure.is_arithmetic and facts else None
    except (ValueError, SqlglotError, RecursionError):
        return  # the spec's own checks say so
    if tree is not None and facts is not None:
        types = {name.lower(): kind for name, kind in facts.items()}
        kind = expression_type(tree, lambda column: None if column.table else types.get(column.name.lower()))
        fits = type_group(kind) in (None, "numeric", "boolean")
        yield _Use(path, measure.of, kind, fits, f"a number, which {measure.function} is of", "CAST it")


def _of_features(tables: TableColumns) -> Iterator[_Use]:
    features, columns = tables.spec.pipeline.features, tables.dataset()
    if not isinstance(features, Features):
        return
    for group in features.groups:
        for path, block in group.placed_blocks(features):
            if group.kind.accepts is None:
                continue
            for name in block.columns:
                yield _in_groups((*path, group.kind.columns_key), name, columns, group.kind.accepts, group.kind.expected)
