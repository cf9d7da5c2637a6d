"""Profiles of tables, and expectations suggested from them as YAML, with references to other tables."""

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
    """The known bronze and silver tables, each with the tables that it reads."""

    reads: Mapping[str, frozenset[str]]

    def list_derived(self, tables: Collection[str]) -> set[str]:
        """Return the tables that are built from these, directly or through others."""
        reached = set(tables)
        while more := {table for table, reads in self.reads.items() if table not in reached and reads & reached}:
            reached |= more
        return reached - set(tables)

    def list_copied(self, table: str) -> Iterator[str]:
        """Yield the single table that this one reads, the single one that that one reads, and so on."""
        visited = {table}
        while len(reads := self.reads.get(table, frozenset())) == 1:
            [table] = reads
            if table in visited:
                return
            visited.add(table)
            yield table


def read_declared_lineage(spec: Spec) -> Lineage:
    """Return the lineage that a spec declares."""
    sources = {f"bronze.{name}": frozenset[str]() for name in spec.pipeline.sources}
    return Lineage({**sources, **{f"silver.{name}": frozenset(spec.table_inputs(name)) for name in spec.pipeline.tables}})


def read_recorded_lineage(lake: Lake, table: str) -> Lineage:
    """Return the lineage of the pipelines that have made ``table`` or its bronze or silver namesake, by their last runs; starts no JVM.

    It is empty where the ledger has no such pipeline.
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
    """The profile of one table at one version, and the profiled frame."""

    profile_id: str
    table: str
    version: int
    rows: int
    columns: tuple[ColumnProfile, ...]
    frame: DataFrame

    def to_rows(self) -> list[ProfileRow]:
        """Return the rows of ``ops.profiles``, one per column; nested values are JSON."""
        return [
            ProfileRow(profile_id=self.profile_id, table_name=self.table, table_version=self.version, position=place, **_row(each))
            for place, each in enumerate(self.columns)
        ]


def profile_table(
    spark: SparkSession, lake: Lake, table: str, version: int | None = None, columns: Sequence[str] = (), *, exact_cells: int = EXACT_CELLS
) -> TableProfile:
    """Profile a table, or some of its columns, and write ``ops.profiles``: one row per column.

    Raises:
        UsageError: the lake has no such table or version, or the table no such column.
        LakeError: files of the table are missing.
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
    selected = rows.select(*[column(name) for name in columns or rows.columns])
    with raise_step_error(f"profile of {table}"):
        column_profiles = profile(selected, exact_cells=exact_cells)
    id_ = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    table_profile = TableProfile(id_, table, at, column_profiles[0].rows if column_profiles else 0, tuple(column_profiles), selected)
    lake.ledger.append(table_profile.to_rows())
    return table_profile


def _row(each: ColumnProfile) -> dict[str, Any]:
    summary = each.summary
    top = None if each.top_values is None else [{"value": value, "rows": n} for value, n in each.top_values]
    is_instant = each.type in _INSTANTS
    bins = each.histogram and [
        {"low": _format_bin_end(b.low, is_instant), "high": _format_bin_end(b.high, is_instant), "rows": b.rows} for b in each.histogram
    ]
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


def _format_bin_end(value: float, is_instant: bool) -> float | str:
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
class ReferenceSuggestions:
    """The references to suggest, by column, and those that lack too many values, which are only mentioned."""

    proposed: Mapping[str, Match] = field(default_factory=dict)
    mentioned: Mapping[str, Match] = field(default_factory=dict)


def find_references(
    spark: SparkSession, lake: Lake, table_profile: TableProfile, unique: Sequence[str], lineage: Lineage
) -> ReferenceSuggestions:
    """Return the columns of other bronze and silver tables, at their latest versions, that hold the values of columns of this one.

    A first pass over each of the other tables finds columns that may be keys; a second looks up the values of columns that the profiles do
    not rule out; a last one checks the matches for repeated values.
    """
    tables: dict[str, DataFrame] = {}
    references: list[Reference] = []
    for table in list_candidate_tables(lake, table_profile.table, lineage):
        rows = lake.read(spark, table)
        tables[table] = rows.select(*[column(name) for name in rows.columns if name not in PROVENANCE])
        with raise_step_error(f"profile of {table}"):
            references += [Reference(table, key) for key in profile_key_candidates(tables[table])]
    pairs = pair_columns([each for each in table_profile.columns if each.column not in PROVENANCE], references, unique)
    if not pairs:
        return ReferenceSuggestions()
    with raise_step_error(f"references of {table_profile.table}"):
        matches = select_evident_matches(look_up(table_profile.frame, pairs, tables))
        repeating = find_repeating_references([match.pair.reference for match in matches], tables)
    matches = [match for match in matches if match.pair.reference.name not in repeating]
    proposed, mentioned = select_best_matches(matches, MISSING), select_best_matches(matches, TOLD)
    return ReferenceSuggestions(proposed, {name: match for name, match in mentioned.items() if name not in proposed})


def list_candidate_tables(lake: Lake, table: str, lineage: Lineage) -> list[str]:
    """Return the tables that ``table`` may refer to.

    Left out are its bronze or silver namesake, tables that are built from it (they would be needed before it), and tables that it copies.
    Where lineage is known, only tables of the same pipeline remain, so that a spec may name them.
    """
    noun = split_name(table)[1]
    own = {f"{layer}.{noun}" for layer in ("bronze", "silver")}
    excluded = {table, *own, *lineage.list_derived({table, *own}), *lineage.list_copied(table), *lineage.list_copied(f"silver.{noun}")}
    existing = list_tables(lake, ("silver", "bronze"))
    quarantines = {f"{name}_quarantine" for name in existing}
    return [name for name in existing if name not in excluded and name not in quarantines and (not lineage.reads or name in lineage.reads)]


def suggest_yaml(spark: SparkSession, lake: Lake, table_profile: TableProfile, lineage: Lineage | None = None) -> str:
    """Return YAML for ``tables.<name>:``: a key where one column is unique, and expectations that hold for this data.

    ``lineage`` decides which other tables its columns may refer to; by default that of the ledger.
    """
    columns = [each for each in table_profile.columns if each.column not in PROVENANCE]
    unique = _select_unique(table_profile, find_key_candidates(columns))
    references = find_references(
        spark, lake, table_profile, unique, read_recorded_lineage(lake, table_profile.table) if lineage is None else lineage
    )
    expectations = suggest_expectations(columns, unique, datetime.now(UTC), references.proposed)
    origin = f"{table_profile.table} at version {table_profile.version}, {table_profile.rows:,} rows"
    head = [f"Suggested from {origin}. All of it holds there and only warns; judge each."]
    if not table_profile.rows:
        head.append("The table is empty, so there is nothing to suggest.")
    elif not unique:
        head.append("No single column tells its rows apart, so there is no key here.")
    for name, match in references.mentioned.items():
        head.append(f"{name}: no reference is suggested; {describe_match(match)}.")
    evidence = f"{table_profile.rows:,} different values in {table_profile.rows:,} rows, no null"
    return format_yaml(head, unique[:1], evidence, expectations)


def _select_unique(table_profile: TableProfile, candidates: Sequence[str]) -> list[str]:
    """Return the candidates without repeated values; estimated counts are replaced by exact ones, in one pass."""
    if all(each.is_exact for each in table_profile.columns) or not candidates:
        return list(candidates)
    row = table_profile.frame.agg(*[F.count_distinct(column(name)).alias(f"c{place}") for place, name in enumerate(candidates)]).first()
    assert row is not None  # an aggregate without groups always has one row
    return [name for place, name in enumerate(candidates) if row[f"c{place}"] == table_profile.rows]
