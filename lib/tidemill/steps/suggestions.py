"""Expectations for a table that was profiled, as YAML; what a profile does not tell is looked up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.column_names import PROVENANCE
from tidemill.columns import column
from tidemill.quality.key_columns import key_candidates
from tidemill.quality.pasteable import as_yaml
from tidemill.quality.suggestions import suggestions, told_match
from tidemill.steps.lineage import Lineage, recorded_lineage
from tidemill.steps.profile_table import TableProfile
from tidemill.steps.reference_search import find_references

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tidemill.lake import Lake


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
