"""What the rules of a table need beyond its rows: other tables at their pinned versions, and the table's own last version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import DataFrame
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.errors import StepError, did_you_mean
from tidemill.lake.ops import ExpectationRow
from tidemill.monitoring.drift import measure_drift
from tidemill.quality.expectations.kinds import Measure, Number, TableKind
from tidemill.quality.expectations.quarantine import build_expectation_rows
from tidemill.quality.expectations.row_rules import Latest, ViolationCounts, annotate_rows, select_kept_rows
from tidemill.quality.expectations.rules import Rule, build_rules
from tidemill.quality.expectations.table_rules import Comparisons, TableVerdict, judge_table, select_table_rules
from tidemill.runtime.spark_errors import raise_step_error
from tidemill.spec.models import Table
from tidemill.steps.result import StepContext


@dataclass(frozen=True)
class TableRules:
    """All that is asked of one table: rules for its rows, with the values they look up, and rules for the whole, with their measures."""

    name: str
    key: tuple[str, ...]
    rows: tuple[Rule, ...]
    references: Mapping[str, DataFrame]
    latest: Latest | None
    whole: Mapping[str, TableKind]
    actions: Mapping[str, str]
    measures: Mapping[str, Measure]
    referenced: Mapping[str, Number]

    @property
    def is_empty(self) -> bool:
        """Return True where nothing is asked."""
        return not self.rows and not self.whole

    def judged(self, rows: DataFrame, beside: Sequence[str] = ()) -> DataFrame:
        """Return the rows with their verdicts; columns that are ``beside`` are no part of them."""
        return annotate_rows(rows, self.rows, self.references, self.latest, beside)


def rules_for(context: StepContext, name: str, table: Table, rows: DataFrame) -> TableRules:
    """Return the rules of a table, each tried on its columns.

    Raises:
        StepError: a rule names a column that is not there, or one of a type that it cannot judge; the rule is named.
    """
    for key, names in (("key", table.key), ("latest_by", [table.latest_by] if table.latest_by else [])):
        _require(f"{name}: `{key}`", names, rows)
    rules = build_rules(table.expectations, table.key)
    require_rules(name, rules, rows)
    whole = select_table_rules(table.expectations)
    references = {}
    for rule in rules:
        if rule.looks_up:
            references[rule.name] = _reference(context, name, rule, table.expectations[rule.name].reads, rows)
    return TableRules(
        name=name,
        key=tuple(table.key),
        rows=tuple(rules),
        references=references,
        latest=Latest(tuple(table.key), table.latest_by) if table.latest_by else None,
        whole=whole,
        actions={rule: table.expectations[rule].on_violation for rule in whole},
        measures=_measures(name, whole, rows),
        referenced={rule: _measured_elsewhere(context, name, rule, kind) for rule, kind in whole.items() if kind.reads is not None},
    )


def require_rules(name: str, rules: Sequence[Rule], rows: DataFrame) -> None:
    """Try rules for rows on the columns that they judge.

    Raises:
        StepError: as for ``rules_for``.
    """
    for rule in rules:
        place = f"{name}: expectation {rule.name!r} ({rule.described})"
        _require(place, rule.columns, rows)
        if rule.is_broken is not None and not rule.looks_up:
            with raise_step_error(place):
                rows.select(rule.is_broken)


def record_expectations(
    context: StepContext, table: str, rules: Sequence[Rule], counts: ViolationCounts, verdicts: Sequence[TableVerdict] = ()
) -> None:
    """Write what the rules of a table found in this run to ops.expectations, a row each."""
    rows = [ExpectationRow(**context.run_columns, table_name=table, **row) for row in build_expectation_rows(rules, counts, verdicts)]
    context.lake.ledger.put(ExpectationRow, rows, where={"run_id": context.run_id, "table_name": table})


def what_stays(context: StepContext, table: str) -> str:
    """Return what becomes of a table that is refused, as the middle of a sentence."""
    version = context.lake.version(table)
    return f"{table} is not written; " if version is None else f"{table} stays at version {version}; "


def verdicts_of(context: StepContext, rules: TableRules, counts: ViolationCounts, checked: DataFrame) -> list[TableVerdict]:
    """Return whether the rules for the whole table hold; ``checked`` are its judged rows."""
    version = context.lake.version(rules.name)
    distances = _distances(context, rules, checked, version)
    return judge_table(rules.whole, rules.actions, counts, Comparisons(datetime.now(UTC), rules.referenced, distances, version))


def _distances(context: StepContext, rules: TableRules, checked: DataFrame, version: int | None) -> dict[str, float | None]:
    """Return how far each watched column lies from the last version, None where that has no such column or no rows."""
    watched = {name: rule.compared_column for name, rule in rules.whole.items() if rule.compared_column is not None}
    distances: dict[str, float | None] = dict.fromkeys(watched)
    if version is None or not watched:
        return distances
    before = context.lake.read(context.spark, rules.name, version)
    shared = {name: watched_column for name, watched_column in watched.items() if watched_column in before.columns}
    columns = [column(watched_column).alias(name) for name, watched_column in shared.items()]
    if columns:
        found = measure_drift(before.select(*columns), select_kept_rows(checked).select(*columns), list(shared))
        distances |= {drift.column: drift.value for drift in found}
    return distances


def _reference(context: StepContext, name: str, rule: Rule, reads: tuple[str, str] | None, rows: DataFrame) -> DataFrame:
    """Return the values that a rule looks up, as one column."""
    place = f"{name}: expectation {rule.name!r} ({rule.described})"
    assert reads is not None
    values = _elsewhere(context, place, reads)
    mine, other = rows.schema[rule.columns[0]].dataType, values.schema.fields[0].dataType
    if not _is_alike(mine, other):
        raise StepError(
            f"{place}: {rule.columns[0]} is {_typed(mine)} and the reference {_typed(other)}; cast one of them to the other's type"
        )
    return values


def _is_alike(one: T.DataType, other: T.DataType) -> bool:
    return one == other or all(isinstance(kind, T.NumericType) for kind in (one, other))


def _elsewhere(context: StepContext, place: str, reads: tuple[str, str]) -> DataFrame:
    """Return one column of another table at its pinned version."""
    table, wanted = reads
    if table not in context.inputs:
        raise StepError(f"{place}: {table} is no input of this step; known here: {', '.join(sorted(context.inputs)) or 'none'}")
    values = context.lake.read(context.spark, table, context.inputs[table])
    _require(f"{place}: {table}", [wanted], values)
    return values.select(column(wanted))


def _measures(name: str, rules: Mapping[str, TableKind], rows: DataFrame) -> dict[str, Measure]:
    """Return what is measured in the pass that counts the rows."""
    measures = {}
    for rule, kind in rules.items():
        place = f"{name}: expectation {rule!r} ({kind.name})"
        _require(place, kind.columns, rows)
        with _at(place):
            measure = kind.measure(rows)
        if measure is not None:
            measures[rule] = measure
    return measures


def _measured_elsewhere(context: StepContext, name: str, rule: str, kind: TableKind) -> Number:
    """Return the measure of another table's column; of no rows it is 0."""
    assert kind.reads is not None
    place = f"{name}: expectation {rule!r} ({kind.name})"
    values = _elsewhere(context, place, kind.reads)
    with _at(place):
        measure = kind.measure_reference(values)
    row = values.agg(measure.combine(measure.values)).first()
    return 0 if row is None or row[0] is None else row[0]


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Name the rule in what is raised inside the block."""
    try:
        yield
    except StepError as error:
        raise StepError(f"{place}: {error}") from (error.__cause__ or error)


def _require(place: str, names: Sequence[str], rows: DataFrame) -> None:
    for name in names:
        if name not in rows.columns:
            near = did_you_mean(name, rows.columns)
            raise StepError(f"{place}: there is no column {name!r}{near or ';'} it has {', '.join(rows.columns)}")


def _typed(kind: T.DataType) -> str:
    return kind.simpleString().upper()
