"""Expectations for a table that was profiled, as YAML; what a profile does not tell is looked up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.column_names import PROVENANCE
from tidemill.columns import column
from tidemill.lake.catalog import list_tables
from tidemill.quality.profiling.keys import key_candidates, key_columns
from tidemill.quality.profiling.references import MISSING, TOLD, Match, Reference, best_matches, evident_matches, look_up, pairs, repeating
from tidemill.quality.profiling.suggestions import as_yaml, suggestions, told_match
from tidemill.quoting import split_name
from tidemill.runtime.spark_errors import raise_step_error
from tidemill.steps.profile import Lineage, TableProfile, recorded_lineage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from tidemill.lake import Lake


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
            references += [Reference(table, key) for key in key_columns(tables[table])]
    asked = pairs([each for each in made.columns if each.column not in PROVENANCE], references, unique)
    if not asked:
        return FoundReferences()
    with raise_step_error(f"references of {made.table}"):
        found = evident_matches(look_up(made.frame, asked, tables))
        twice = repeating([match.pair.reference for match in found], tables)
    found = [match for match in found if match.pair.reference.name not in twice]
    proposed, told = best_matches(found, MISSING), best_matches(found, TOLD)
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
    unique = _unique(made, key_candidates(columns))
    references = find_references(spark, lake, made, unique, recorded_lineage(lake, made.table) if lineage is None else lineage)
    found = suggestions(columns, unique, datetime.now(UTC), references.proposed)
    head = [f"Suggested from {made.table} at version {made.version}, {made.rows:,} rows. All of it holds there and only warns; judge each."]
    if not made.rows:
        head.append("The table is empty, so there is nothing to suggest.")
    elif not unique:
        head.append("No single column tells its rows apart, so there is no key here.")
    for name, match in references.told.items():
        head.append(f"{name}: no reference is suggested; {told_match(match)}.")
    seen = f"{made.rows:,} different values in {made.rows:,} rows, no null"
    return as_yaml(head, unique[:1], seen, found)


def _unique(made: TableProfile, candidates: Sequence[str]) -> list[str]:
    """Return the candidates that hold no value twice; what the profile has only estimated is counted, all in one pass."""
    if all(each.is_exact for each in made.columns) or not candidates:
        return list(candidates)
    row = made.frame.agg(*[F.count_distinct(column(name)).alias(f"c{place}") for place, name in enumerate(candidates)]).first()
    assert row is not None  # an aggregate without groups always has one row
    return [name for place, name in enumerate(candidates) if row[f"c{place}"] == made.rows]
