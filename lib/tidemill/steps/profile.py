"""Expectations for a table that was profiled, as YAML; what a profile does not tell is looked up."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from tidemill.column_names import PROVENANCE
from tidemill.columns import column
from tidemill.errors import TableNotFound, UsageError, did_you_mean
from tidemill.lake.catalog import list_tables
from tidemill.lake.ops import ProfileRow, StepRow
from tidemill.lake.repair import refuse_faults
from tidemill.quality.profiling.keys import find_key_candidates, profile_key_candidates
from tidemill.quality.profiling.profile import EXACT_CELLS, ColumnProfile, profile
from tidemill.quality.profiling.references import (
    MISSING,
    TOLD,
    Match,
    Reference,
    find_repeating_references,
    look_up,
    pair_columns,
    select_best_matches,
    select_evident_matches,
)
from tidemill.quality.profiling.suggestions import describe_match, format_yaml, suggest_expectations
from tidemill.quoting import split_name
from tidemill.runtime.spark_errors import raise_step_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from tidemill.lake import Lake
    from tidemill.spec import Spec


_LAYERS = {"ingest": "bronze", "prepare": "silver"}
_DONE = ("SUCCEEDED", "SKIPPED")


@dataclass(frozen=True)
class Lineage:
    """The bronze and silver tables that are known, each with those it reads."""

    reads: Mapping[str, frozenset[str]]

    def below(self, tables: Collection[str]) -> set[str]:
        """Return the tables that are made of these, however many tables lie between."""
        found = set(tables)
        while more := {table for table, reads in self.reads.items() if table not in found and reads & found}:
            found |= more
        return found - set(tables)

    def copied(self, table: str) -> Iterator[str]:
        """Yield the only table that this one reads, the only one which that reads, and so on."""
        seen = {table}
        while len(reads := self.reads.get(table, frozenset())) == 1:
            [table] = reads
            if table in seen:
                return
            seen.add(table)
            yield table


def declared_lineage(spec: Spec) -> Lineage:
    """Return the lineage that a spec declares."""
    sources = {f"bronze.{name}": frozenset[str]() for name in spec.pipeline.sources}
    return Lineage({**sources, **{f"silver.{name}": frozenset(spec.table_inputs(name)) for name in spec.pipeline.tables}})


def recorded_lineage(lake: Lake, table: str) -> Lineage:
    """Return the lineage of the pipelines that have made ``table`` or its bronze or silver namesake, as they ran last; starts no JVM.

    It is empty where the ledger knows of no such pipeline.
    """
    noun = split_name(table)[1]
    rows = [row for row in lake.ledger.read(StepRow) if row.state in _DONE]
    pipelines = {row.pipeline for row in rows if row.node in {f"{step}.{noun}" for step in _LAYERS}}
    reads: dict[str, frozenset[str]] = {}
    for row in rows:
        step, _, item = str(row.node).partition(".")
        if row.pipeline in pipelines and step in _LAYERS:
            reads[f"{_LAYERS[step]}.{item}"] = frozenset(row.inputs or ())
    return Lineage(reads)


_INSTANTS = ("date", "timestamp", "timestamp_ntz")


@dataclass(frozen=True)
class TableProfile:
    """The profile of one table at one version, and the frame that it was made of."""

    profile_id: str
    table: str
    version: int
    rows: int
    columns: tuple[ColumnProfile, ...]
    frame: DataFrame

    def to_rows(self) -> list[ProfileRow]:
        """Return the rows of ops.profiles, one a column; what is nested is JSON."""
        return [
            ProfileRow(profile_id=self.profile_id, table_name=self.table, table_version=self.version, position=place, **_row(each))
            for place, each in enumerate(self.columns)
        ]


def profile_table(
    spark: SparkSession, lake: Lake, table: str, version: int | None = None, columns: Sequence[str] = (), *, exact_cells: int = EXACT_CELLS
) -> TableProfile:
    """Profile a table, or some of its columns, and write ``ops.profiles``: one row a column.

    Raises:
        UsageError: the lake has no such table or version, or the table no such column.
        LakeError: the table has lost what a step wrote.
    """
    if (latest := lake.version(table)) is None:
        raise UsageError(f'{table} is not in {lake.root}; `tidemill sql "SHOW TABLES IN {table.partition(".")[0]}"` lists what is')
    at = latest if version is None else version
    refuse_faults(lake, [table])
    try:
        rows = lake.read(spark, table, at)
    except TableNotFound as error:
        raise UsageError(str(error)) from error
    for name in columns:
        if name not in rows.columns:
            raise UsageError(f"{table} has no column {name!r}{did_you_mean(name, rows.columns) or ';'} it has {', '.join(rows.columns)}")
    chosen = rows.select(*[column(name) for name in columns or rows.columns])
    with raise_step_error(f"profile of {table}"):
        found = profile(chosen, exact_cells=exact_cells)
    id_ = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    made = TableProfile(id_, table, at, found[0].rows if found else 0, tuple(found), chosen)
    lake.ledger.append(made.to_rows())
    return made


def _row(each: ColumnProfile) -> dict[str, Any]:
    summary = each.summary
    top = None if each.top_values is None else [{"value": value, "rows": n} for value, n in each.top_values]
    is_instant = each.type in _INSTANTS
    bins = each.histogram and [{"low": _end(b.low, is_instant), "high": _end(b.high, is_instant), "rows": b.rows} for b in each.histogram]
    quantiles = None if summary.quantiles is None else {f"{share:g}": value for share, value in summary.quantiles.items()}
    plain = ("min", "max", "mean", "stddev", "zeros", "negatives", "not_finite", "empty", "min_length", "max_length", "mean_length")
    return {
        "column_name": each.column,
        "type": each.type,
        "rows": each.rows,
        "nulls": each.nulls,
        "distinct_values": each.distinct,
        "is_distinct_exact": None if each.distinct is None else each.is_exact,
        **{name: getattr(summary, name) for name in plain},
        "quantiles": _json(quantiles),
        "top_values": _json(top),
        "are_top_values_exact": None if top is None else each.is_exact,
        "histogram": _json(bins),
    }


def _end(value: float, is_instant: bool) -> float | str:
    """Return the end of a bin; of an instant in ISO 8601, where Python has such a year."""
    if not is_instant:
        return value
    try:
        return datetime.fromtimestamp(value / 1e6, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return value


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class FoundReferences:
    """The references to propose, each by its column, and those that lack too many values for that but are worth a remark."""

    proposed: Mapping[str, Match] = field(default_factory=dict)
    told: Mapping[str, Match] = field(default_factory=dict)


def find_references(spark: SparkSession, lake: Lake, made: TableProfile, unique: Sequence[str], lineage: Lineage) -> FoundReferences:
    """Return the columns of other bronze and silver tables, at their latest versions, that hold the values of columns of this one.

    One pass over each of the other tables tells which of their columns may be keys; what the profiles do not rule out is then looked up
    in one more, and what was found is asked for repeated values in a last one.
    """
    tables: dict[str, DataFrame] = {}
    references: list[Reference] = []
    for table in other_tables(lake, made.table, lineage):
        rows = lake.read(spark, table)
        tables[table] = rows.select(*[column(name) for name in rows.columns if name not in PROVENANCE])
        with raise_step_error(f"profile of {table}"):
            references += [Reference(table, key) for key in profile_key_candidates(tables[table])]
    asked = pair_columns([each for each in made.columns if each.column not in PROVENANCE], references, unique)
    if not asked:
        return FoundReferences()
    with raise_step_error(f"references of {made.table}"):
        found = select_evident_matches(look_up(made.frame, asked, tables))
        twice = find_repeating_references([match.pair.reference for match in found], tables)
    found = [match for match in found if match.pair.reference.name not in twice]
    proposed, told = select_best_matches(found, MISSING), select_best_matches(found, TOLD)
    return FoundReferences(proposed, {name: match for name, match in told.items() if name not in proposed})


def other_tables(lake: Lake, table: str, lineage: Lineage) -> list[str]:
    """Return the tables that ``table`` may refer to.

    These are not its bronze or silver namesake, not what is made of it (it would have to be made before it is judged), and not what it
    is a mere copy of. Where lineage is known, they are tables of the same pipeline, so that a spec may name them.
    """
    noun = split_name(table)[1]
    own = {f"{layer}.{noun}" for layer in ("bronze", "silver")}
    barred = {table, *own, *lineage.below({table, *own}), *lineage.copied(table), *lineage.copied(f"silver.{noun}")}
    there = list_tables(lake, ("silver", "bronze"))
    quarantines = {f"{name}_quarantine" for name in there}
    return [name for name in there if name not in barred and name not in quarantines and (not lineage.reads or name in lineage.reads)]


def suggestions_for(spark: SparkSession, lake: Lake, made: TableProfile, lineage: Lineage | None = None) -> str:
    """Return YAML to paste under ``tables.<name>:``: a key where one column is one, and expectations that hold for this data.

    ``lineage`` says which other tables its columns may refer to; by default what the ledger has seen of this table's pipelines.
    """
    columns = [each for each in made.columns if each.column not in PROVENANCE]
    unique = _unique(made, find_key_candidates(columns))
    references = find_references(spark, lake, made, unique, recorded_lineage(lake, made.table) if lineage is None else lineage)
    found = suggest_expectations(columns, unique, datetime.now(UTC), references.proposed)
    head = [f"Suggested from {made.table} at version {made.version}, {made.rows:,} rows. All of it holds there and only warns; judge each."]
    if not made.rows:
        head.append("The table is empty, so there is nothing to suggest.")
    elif not unique:
        head.append("No single column tells its rows apart, so there is no key here.")
    for name, match in references.told.items():
        head.append(f"{name}: no reference is suggested; {describe_match(match)}.")
    seen = f"{made.rows:,} different values in {made.rows:,} rows, no null"
    return format_yaml(head, unique[:1], seen, found)


def _unique(made: TableProfile, candidates: Sequence[str]) -> list[str]:
    """Return the candidates that hold no value twice; what the profile has only estimated is counted, all in one pass."""
    if all(each.is_exact for each in made.columns) or not candidates:
        return list(candidates)
    row = made.frame.agg(*[F.count_distinct(column(name)).alias(f"c{place}") for place, name in enumerate(candidates)]).first()
    assert row is not None  # an aggregate without groups always has one row
    return [name for place, name in enumerate(candidates) if row[f"c{place}"] == made.rows]
