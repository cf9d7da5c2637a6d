"""The rules of a table, with the data that they need besides its rows: other tables at pinned versions, and its own last version."""

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
    """The rules of one table: row rules with the values that they look up, and table rules with their measures."""

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
        """Return True where there are no rules."""
        return not self.rows and not self.whole

    def annotate(self, rows: DataFrame, beside: Sequence[str] = ()) -> DataFrame:
        """Annotate the rows with their verdicts; columns ``beside`` are not part of a row."""
        return annotate_rows(rows, self.rows, self.references, self.latest, beside)


def build_table_rules(context: StepContext, name: str, table: Table, rows: DataFrame) -> TableRules:
    """Build the rules of a table, and check each against its columns.

    Raises:
        StepError: a rule names a missing column, or one of an unsupported type; the rule is named.
    """
    for key, names in (("key", table.key), ("latest_by", [table.latest_by] if table.latest_by else [])):
        _check_columns(f"{name}: `{key}`", names, rows)
    rules = build_rules(table.expectations, table.key)
    check_rules(name, rules, rows)
    whole = select_table_rules(table.expectations)
    references = {}
    for rule in rules:
        if rule.looks_up:
            references[rule.name] = _read_reference(context, name, rule, table.expectations[rule.name].reads, rows)
    return TableRules(
        name=name,
        key=tuple(table.key),
        rows=tuple(rules),
        references=references,
        latest=Latest(tuple(table.key), table.latest_by) if table.latest_by else None,
        whole=whole,
        actions={rule: table.expectations[rule].on_violation for rule in whole},
        measures=_list_measures(name, whole, rows),
        referenced={rule: _measure_reference(context, name, rule, kind) for rule, kind in whole.items() if kind.reads is not None},
    )


def check_rules(name: str, rules: Sequence[Rule], rows: DataFrame) -> None:
    """Check row rules against the columns that they name.

    Raises:
        StepError: as for `build_table_rules`.
    """
    for rule in rules:
        place = f"{name}: expectation {rule.name!r} ({rule.described})"
        _check_columns(place, rule.columns, rows)
        if rule.is_broken is not None and not rule.looks_up:
            with raise_step_error(place):
                rows.select(rule.is_broken)


def record_expectations(
    context: StepContext, table: str, rules: Sequence[Rule], counts: ViolationCounts, verdicts: Sequence[TableVerdict] = ()
) -> None:
    """Write the results of a table's rules in this run to ``ops.expectations``, one row per rule."""
    rows = [ExpectationRow(**context.run_columns, table_name=table, **row) for row in build_expectation_rows(rules, counts, verdicts)]
    context.lake.ledger.put(ExpectationRow, rows, where={"run_id": context.run_id, "table_name": table})


def describe_unchanged_table(context: StepContext, table: str) -> str:
    """Return a clause about the table after a refusal: it is not written, or stays at its version."""
    version = context.lake.version(table)
    return f"{table} is not written; " if version is None else f"{table} stays at version {version}; "


def judge_table_rules(context: StepContext, rules: TableRules, counts: ViolationCounts, checked: DataFrame) -> list[TableVerdict]:
    """Evaluate the table rules; ``checked`` are the annotated rows."""
    version = context.lake.version(rules.name)
    distances = _measure_distances(context, rules, checked, version)
    return judge_table(rules.whole, rules.actions, counts, Comparisons(datetime.now(UTC), rules.referenced, distances, version))


def _measure_distances(context: StepContext, rules: TableRules, checked: DataFrame, version: int | None) -> dict[str, float | None]:
    """Measure the drift of each compared column from the last version, None where that has no such column or no rows."""
    compared = {name: rule.compared_column for name, rule in rules.whole.items() if rule.compared_column is not None}
    distances: dict[str, float | None] = dict.fromkeys(compared)
    if version is None or not compared:
        return distances
    before = context.lake.read(context.spark, rules.name, version)
    shared = {name: watched_column for name, watched_column in compared.items() if watched_column in before.columns}
    columns = [column(watched_column).alias(name) for name, watched_column in shared.items()]
    if columns:
        drifts = measure_drift(before.select(*columns), select_kept_rows(checked).select(*columns), list(shared))
        distances |= {drift.column: drift.value for drift in drifts}
    return distances


def _read_reference(context: StepContext, name: str, rule: Rule, reads: tuple[str, str] | None, rows: DataFrame) -> DataFrame:
    """Read the values that a rule looks up, as one column."""
    place = f"{name}: expectation {rule.name!r} ({rule.described})"
    assert reads is not None
    values = _read_column(context, place, reads)
    own_type, reference_type = rows.schema[rule.columns[0]].dataType, values.schema.fields[0].dataType
    if not _are_comparable(own_type, reference_type):
        raise StepError(
            f"{place}: {rule.columns[0]} is {_format_type(own_type)} and the reference {_format_type(reference_type)}; "
            "cast one of them to the other's type"
        )
    return values


def _are_comparable(one: T.DataType, reference_type: T.DataType) -> bool:
    return one == reference_type or all(isinstance(kind, T.NumericType) for kind in (one, reference_type))


def _read_column(context: StepContext, place: str, reads: tuple[str, str]) -> DataFrame:
    """Read one column of another table at its pinned version."""
    table, column_name = reads
    if table not in context.inputs:
        raise StepError(f"{place}: {table} is no input of this step; known here: {', '.join(sorted(context.inputs)) or 'none'}")
    values = context.lake.read(context.spark, table, context.inputs[table])
    _check_columns(f"{place}: {table}", [column_name], values)
    return values.select(column(column_name))


def _list_measures(name: str, rules: Mapping[str, TableKind], rows: DataFrame) -> dict[str, Measure]:
    """Return the measures that are computed in the pass that counts the rows."""
    measures = {}
    for rule, kind in rules.items():
        place = f"{name}: expectation {rule!r} ({kind.name})"
        _check_columns(place, kind.columns, rows)
        with _name_rule_in_errors(place):
            measure = kind.measure(rows)
        if measure is not None:
            measures[rule] = measure
    return measures


def _measure_reference(context: StepContext, name: str, rule: str, kind: TableKind) -> Number:
    """Compute the measure of another table's column; without rows it is 0."""
    assert kind.reads is not None
    place = f"{name}: expectation {rule!r} ({kind.name})"
    values = _read_column(context, place, kind.reads)
    with _name_rule_in_errors(place):
        measure = kind.measure_reference(values)
    row = values.agg(measure.combine(measure.values)).first()
    return 0 if row is None or row[0] is None else row[0]


@contextmanager
def _name_rule_in_errors(place: str) -> Iterator[None]:
    """Name the rule in step errors of the block."""
    try:
        yield
    except StepError as error:
        raise StepError(f"{place}: {error}") from (error.__cause__ or error)


def _check_columns(place: str, names: Sequence[str], rows: DataFrame) -> None:
    for name in names:
        if name not in rows.columns:
            near = did_you_mean(name, rows.columns)
            raise StepError(f"{place}: there is no column {name!r}{near or ';'} it has {', '.join(rows.columns)}")


def _format_type(kind: T.DataType) -> str:
    return kind.simpleString().upper()
