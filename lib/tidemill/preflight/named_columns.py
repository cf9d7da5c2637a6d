"""Checks of the columns that a spec names outside of its SQL: each must exist in its table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidemill.errors import Fault, SpecError
from tidemill.lake import Lake
from tidemill.lake.aggregate_sql import METRIC_COLUMNS, parse_aggregate
from tidemill.preflight.queries import Columns, resolve_condition
from tidemill.preflight.tables import TableColumns, nearest_or_all
from tidemill.preflight.type_checks import type_faults
from tidemill.spec import Spec
from tidemill.spec.loading.document import Key, dotted_key
from tidemill.spec.models import Expectation, Features, parse_measure


@dataclass(frozen=True)
class NamedColumns:
    """Columns that the spec names at ``path``, in ``table`` with these columns; a condition is SQL over them."""

    path: tuple[Key, ...]
    names: Sequence[str]
    table: str
    columns: Columns | None
    is_condition: bool = False


_STEPS = {"sources": "ingest", "tables": "prepare", "evaluation": "evaluate", "scoring": "score", "monitoring": "monitor"}
"""The step of each block of the spec; other blocks belong to the dataset and the training."""


def refuse_unknown_columns(spec: Spec, lake: Lake, nodes: Collection[str] | None = None) -> None:
    """Refuse a spec that names columns known not to exist; ``nodes`` limits the check to these nodes.

    Raises:
        SpecError: the spec names unknown columns; it lists all of them.
    """
    faults = [fault for fault in column_faults(spec, lake) if nodes is None or not _nodes_of(fault.key).isdisjoint(nodes)]
    if faults:
        raise SpecError(faults)


def _nodes_of(key: str) -> set[str]:
    """Return the nodes that use a key of the spec."""
    block, _, rest = key.partition(".")
    step = _STEPS.get(block)
    if step in ("ingest", "prepare"):
        return {f"{step}.{rest.partition('.')[0]}"}
    return {"dataset", "train"} if step is None else {step}


def column_faults(spec: Spec, lake: Lake) -> list[Fault]:
    """Return a fault for each column named in SQL or a key that is known not to exist or to have a wrong type."""
    tables = TableColumns(spec, lake)
    parts = (_source_columns, _table_columns, _dataset_columns, _history_columns, _feature_columns, _other_columns)
    named = [each for part in parts for each in part(tables)]
    faults = [fault for each in named for fault in _faults(spec, each)]
    in_order = dict.fromkeys([*tables.faults, *faults, *type_faults(tables)])
    return sorted(in_order, key=lambda fault: (fault.file != str(spec.file), fault.file, fault.line or 0))


def _faults(spec: Spec, named: NamedColumns) -> Iterator[Fault]:
    """Yield a fault for each name that its table lacks; names are case-sensitive, as in every step."""
    if named.columns is None or spec.tree is None:
        return
    known = list(named.columns)
    for name in named.names:
        if named.is_condition:
            missing = [unknown.name for unknown in resolve_condition(name, named.columns)]
        else:
            missing = [name] if name not in named.columns else []
        for column in dict.fromkeys(missing):
            file, line = spec.tree.nearest(dotted_key(named.path)).fault_place()
            yield Fault(file, line, dotted_key(named.path), f"column {column!r} is not in {named.table}{nearest_or_all(column, known)}")


def _source_columns(tables: TableColumns) -> Iterator[NamedColumns]:
    for name, source in tables.spec.pipeline.sources.items():
        table, path = f"bronze.{name}", ("sources", name)
        columns = tables.of(table)
        yield NamedColumns((*path, "key"), source.key, table, columns)
        yield NamedColumns((*path, "watermark"), [source.watermark] if source.watermark else [], table, columns)
        yield from _expectation_columns(path, source.expectations, table, columns, tables)


def _table_columns(tables: TableColumns) -> Iterator[NamedColumns]:
    for name, declared in tables.spec.pipeline.tables.items():
        table, path = f"silver.{name}", ("tables", name)
        columns = tables.of(table)
        yield NamedColumns((*path, "key"), declared.key, table, columns)
        yield NamedColumns((*path, "latest_by"), [declared.latest_by] if declared.latest_by else [], table, columns)
        yield from _expectation_columns(path, declared.expectations, table, columns, tables)


def _expectation_columns(
    path: tuple[Key, ...], expectations: Mapping[str, Expectation], table: str, columns: Columns | None, tables: TableColumns
) -> Iterator[NamedColumns]:
    for name, rule in expectations.items():
        here = (*path, "expectations", name)
        for use in rule.rule.uses:
            is_condition = use.is_expression and not (columns is not None and use.text in columns)
            yield NamedColumns((*here, *use.path), [use.text], table, columns, is_condition=is_condition)
        if rule.reads is not None:
            other, column = rule.reads
            yield NamedColumns((*here, *rule.rule.reads_path), [column], other, tables.of(other))


def _dataset_columns(tables: TableColumns) -> Iterator[NamedColumns]:
    pipeline = tables.spec.pipeline
    dataset, training = pipeline.dataset, pipeline.training
    columns, what = tables.dataset(), "the dataset"
    yield NamedColumns(("dataset", "key"), dataset.key, what, columns)
    rule = dataset.split
    single = {
        ("dataset", "label"): dataset.label,
        ("dataset", "event_time"): dataset.event_time,
        ("dataset", "weight"): dataset.weight,
        ("dataset", "split", "group"): rule.group if rule else None,
        ("dataset", "split", "column"): rule.column if rule else None,
        ("training", "user"): training.user,
        ("training", "item"): training.item,
    }
    for path, name in single.items():
        yield NamedColumns(path, [name] if name else [], what, columns)
    yield NamedColumns(("dataset", "exclude"), dataset.exclude, what, columns)


def _history_columns(tables: TableColumns) -> Iterator[NamedColumns]:
    """Yield the columns of lookups and aggregates: ``by`` on both sides, all others in their own tables."""
    dataset, rows = tables.spec.pipeline.dataset, tables.dataset_rows()
    for name, lookup in dataset.lookups.items():
        path: tuple[Key, ...] = ("dataset", "lookups", name)
        columns = tables.of(lookup.table)
        for key, names in (("by", lookup.by), ("time", [lookup.time]), ("known_at", [lookup.known_at]), ("latest_by", [*lookup.order])):
            yield NamedColumns((*path, key), [each for each in names if each], lookup.table, columns)
        yield NamedColumns((*path, "columns"), lookup.columns or [], lookup.table, columns)
        # A lookup may join by columns of earlier lookups.
        yield NamedColumns((*path, "by"), lookup.by, "the dataset", rows if len(dataset.lookups) == 1 else tables.dataset())
    for name, block in dataset.aggregate_blocks.items():
        path = ("dataset", "aggregates", *([name] if name else []))
        columns = tables.of(block.over)
        for key, names in (("by", block.by), ("time", [block.time]), ("known_at", [block.known_at])):
            yield NamedColumns((*path, key), [each for each in names if each], block.over, columns)
        yield NamedColumns((*path, "by"), block.by, "the dataset", tables.dataset())
        for feature, text in block.features.items():
            yield NamedColumns((*path, "features", feature), _measure_expressions(text), block.over, columns, is_condition=True)


def _measure_expressions(text: str) -> list[str]:
    try:
        measure = parse_measure(text)
    except ValueError:
        return []  # the spec's own checks say so
    return [measure.of] if measure.of else []


def _feature_columns(tables: TableColumns) -> Iterator[NamedColumns]:
    features, columns = tables.spec.pipeline.features, tables.dataset()
    if isinstance(features, Features):
        for group in features.groups:
            for path, block in group.placed_blocks(features):
                yield NamedColumns((*path, group.kind.columns_key), block.columns, "the dataset", columns)
        if features.checks is not None:
            yield NamedColumns(("features", "checks", "allow"), features.checks.allow, "the dataset", columns)
    yield NamedColumns(("training", "monotone"), list(tables.spec.pipeline.training.monotone), "the dataset", columns)


def _other_columns(tables: TableColumns) -> Iterator[NamedColumns]:
    pipeline = tables.spec.pipeline
    yield NamedColumns(("evaluation", "slices"), pipeline.evaluation.slice_columns, "the dataset", tables.dataset())
    for name, metric in pipeline.evaluation.metrics.items():
        if isinstance(metric, str):
            names = [each for each in parse_aggregate(metric).columns if each.lower() not in METRIC_COLUMNS]
            yield NamedColumns(("evaluation", "metrics", name), names, "the dataset", tables.dataset())
    scored = tables.scoring()
    what = "the rows to score"
    yield NamedColumns(("scoring", "keep"), pipeline.scoring.keep, what, scored)
    if pipeline.scoring.from_ or pipeline.scoring.sql:
        yield NamedColumns(("scoring", "sql" if pipeline.scoring.sql else "from"), pipeline.dataset.key, what, scored)
    yield NamedColumns(("monitoring", "freshness"), list(pipeline.monitoring.freshness), what, scored)
    labels = pipeline.monitoring.labels
    if labels is not None:
        columns = tables.of(labels.table)
        yield NamedColumns(("monitoring", "labels", "column"), [labels.column], labels.table, columns)
        yield NamedColumns(("monitoring", "labels", "by"), labels.by, labels.table, columns)
