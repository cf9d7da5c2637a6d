"""References for the columns of a table, searched for among the other tables of its lake."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tidemill.column_names import PROVENANCE
from tidemill.columns import column
from tidemill.lake.catalog import tables_of
from tidemill.lake.names import split_name
from tidemill.quality.key_columns import key_columns
from tidemill.quality.look_up import look_up, repeating
from tidemill.quality.references import MISSING, TOLD, Match, Reference, best_matches, evident_matches, pairs
from tidemill.spark_errors import as_step_error
from tidemill.steps.lineage import Lineage
from tidemill.steps.profile_table import TableProfile

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
        with as_step_error(f"profile of {table}"):
            references += [Reference(table, key) for key in key_columns(tables[table])]
    asked = pairs([each for each in made.columns if each.column not in PROVENANCE], references, unique)
    if not asked:
        return FoundReferences()
    with as_step_error(f"references of {made.table}"):
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
    there = tables_of(lake, ("silver", "bronze"))
    quarantines = {f"{name}_quarantine" for name in there}
    return [name for name in there if name not in barred and name not in quarantines and (not lineage.reads or name in lineage.reads)]
