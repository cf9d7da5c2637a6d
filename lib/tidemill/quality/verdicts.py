"""Rows judged by rules: counted in one pass, then kept, quarantined or dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.quality.rules import Rule, column

BROKEN = "__broken_rules"
FATE = "__fate"
KEPT, QUARANTINED, DROPPED = "kept", "quarantined", "dropped"
_SAMPLES = 3
_KEEP_NULLS = {"ignoreNullFields": "false"}


@dataclass(frozen=True)
class Tally:
    """How many rows there are, what becomes of them, and how many break each rule.

    ``repeated_keys`` are the values of the key that stand in more than one kept row, ``repeating_rows`` those rows beyond the first.
    """

    rows: int
    kept: int
    quarantined: int
    dropped: int
    failed: Mapping[str, int]
    repeated_keys: int
    repeating_rows: int


def judged(df: DataFrame, rules: Sequence[Rule]) -> DataFrame:
    """Return the rows with ``__broken_rules`` (names, in the order of the rules) and ``__fate``.

    A row that breaks a rule to quarantine and one to drop is quarantined, so that nothing is lost that was to be looked at.
    """
    names = [F.when(rule.is_broken, F.lit(rule.name)) for rule in rules]
    broken = F.array_compact(F.array(*names)) if names else F.array().cast("array<string>")
    fate = F.when(_breaks(rules, "quarantine"), F.lit(QUARANTINED)).when(_breaks(rules, "drop"), F.lit(DROPPED)).otherwise(F.lit(KEPT))
    return df.select("*", broken.alias(BROKEN)).select("*", fate.alias(FATE))


def tally(rows: DataFrame, rules: Sequence[Rule], key: Sequence[str]) -> Tally:
    """Count judged rows in one pass."""
    counts = [F.count(F.lit(1)).alias("rows")]
    counts += [F.count_if(F.col(FATE) == fate).alias(fate) for fate in (KEPT, QUARANTINED, DROPPED)]
    counts += [F.count_if(F.array_contains(BROKEN, rule.name)).alias(f"rule_{place}") for place, rule in enumerate(rules)]
    names = ["rows", KEPT, QUARANTINED, DROPPED, *(f"rule_{place}" for place in range(len(rules)))]
    if key:
        # A count of each key first: the same pass then tells the keys that repeat.
        repeats = F.when(F.col(KEPT) > 1, F.col(KEPT))
        groups = rows.groupBy(*[column(name) for name in key]).agg(*counts)
        totals = [F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in names]
        found = groups.agg(*totals, F.count(repeats).alias("repeated"), F.coalesce(F.sum(repeats), F.lit(0)).alias("repeating")).first()
    else:
        found = rows.agg(*counts, F.lit(0).alias("repeated"), F.lit(0).alias("repeating")).first()
    assert found is not None  # an aggregate without groups always has one row
    return Tally(
        rows=found["rows"],
        kept=found[KEPT],
        quarantined=found[QUARANTINED],
        dropped=found[DROPPED],
        failed={rule.name: found[f"rule_{place}"] for place, rule in enumerate(rules)},
        repeated_keys=found["repeated"],
        repeating_rows=found["repeating"] - found["repeated"],
    )


def kept_rows(rows: DataFrame) -> DataFrame:
    """Return the rows that pass, as they were before they were judged."""
    return rows.where(F.col(FATE) == KEPT).drop(BROKEN, FATE)


def quarantined_rows(rows: DataFrame) -> DataFrame:
    """Return the quarantined rows: ``raw``, all columns as a JSON object with its nulls, and ``rules``, all that the row breaks."""
    columns = [column(name) for name in rows.columns if name not in (BROKEN, FATE)]
    raw = F.to_json(F.struct(*columns), _KEEP_NULLS)
    return rows.where(F.col(FATE) == QUARANTINED).select(raw.alias("raw"), F.col(BROKEN).alias("rules"))


def samples(rows: DataFrame, rule: str, key: Sequence[str]) -> list[str]:
    """Return up to three rows that break the rule: their keys as JSON, or the whole row where the table has no key."""
    names = list(key) or [name for name in rows.columns if name not in (BROKEN, FATE)]
    found = rows.where(F.array_contains(BROKEN, rule)).select(_as_json(names).alias("sample")).limit(_SAMPLES)
    return [row["sample"][:200] for row in found.collect()]


def repeated_keys(rows: DataFrame, key: Sequence[str]) -> list[str]:
    """Return up to three values of the key that stand in more than one kept row, as JSON."""
    groups = rows.where(F.col(FATE) == KEPT).groupBy(*[column(name) for name in key]).count().where("count > 1")
    ordered = groups.orderBy(*[column(name) for name in key]).select(_as_json(key).alias("sample")).limit(_SAMPLES)
    return [row["sample"] for row in ordered.collect()]


def _as_json(names: Sequence[str]) -> Column:
    return F.to_json(F.struct(*[column(name) for name in names]), _KEEP_NULLS)


def _breaks(rules: Sequence[Rule], action: str) -> Column:
    names = [F.lit(rule.name) for rule in rules if rule.action == action]
    return F.arrays_overlap(F.col(BROKEN), F.array(*names)) if names else F.lit(False)
