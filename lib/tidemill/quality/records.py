"""Records of a source held to rules as they are read: in the pass that writes them, before anything is committed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.quality.rules import Rule, all_known, passes
from tidemill.quality.verdicts import BROKEN, Tally

_HOLDS, _REFUSED = "__holds", "__is_refused"


def held(df: DataFrame, rules: Sequence[Rule], is_whole: Column, refused_for: str, noted: str) -> DataFrame:
    """Return the records with the rules that they break: all of them in ``refused_for`` where one of these quarantines, else in ``noted``.

    Both are ``ARRAY<STRING>``; ``refused_for`` is there already, ``noted`` is new and null for a record that breaks none. Records that
    are not ``is_whole`` (their reader refuses them) are not judged. A good record costs one condition that has all the others in it.
    """
    others = [name for name in df.columns if name != refused_for]
    checked = df.select("*", F.when(is_whole, all_hold(rules)).otherwise(F.lit(True)).alias(_HOLDS))
    names = [F.when(rule.is_broken, F.lit(rule.name)).otherwise(F.lit("")) for rule in rules if rule.is_broken is not None]
    told = checked.select("*", F.when(~F.col(_HOLDS), F.array_remove(F.array(*names), "")).alias(BROKEN))
    strict = F.array(*[F.lit(rule.name) for rule in rules if rule.action == "quarantine"]).cast("array<string>")
    is_refused = F.coalesce(F.arrays_overlap(F.col(BROKEN), strict), F.lit(False))
    return told.select(
        *[column(name) for name in others],
        F.when(is_refused, F.col(BROKEN)).otherwise(F.col(refused_for)).alias(refused_for),
        F.when(~is_refused, F.col(BROKEN)).alias(noted),
    )


def tally_records(df: DataFrame, rules: Sequence[Rule], kept: int, refused_for: str, noted: str) -> Tally:
    """Count what becomes of the records that were judged, and how many break each rule, in one pass over those that break one.

    ``kept`` is the number of good ones, those in ``noted`` among them.
    """
    names = F.array(*[F.lit(rule.name) for rule in rules])
    is_refused = F.coalesce(F.arrays_overlap(F.col(refused_for), names), F.lit(False))
    told = df.where(F.col(refused_for).isNotNull() | F.col(noted).isNotNull()).select(
        is_refused.alias(_REFUSED), F.when(is_refused, F.col(refused_for)).otherwise(F.col(noted)).alias(BROKEN)
    )
    counts = [F.count_if(F.array_contains(BROKEN, rule.name)).alias(f"rule_{place}") for place, rule in enumerate(rules)]
    row = told.agg(F.count_if(_REFUSED).alias("quarantined"), *counts).first()
    assert row is not None  # an aggregate without groups always has one row
    failed = {rule.name: row[f"rule_{place}"] for place, rule in enumerate(rules)}
    return Tally(kept + row["quarantined"], kept, row["quarantined"], 0, failed, 0, 0)


def all_hold(rules: Sequence[Rule]) -> Column:
    """Return true where a record breaks none of the rules; it holds only inside ``errors_count_as_violations``."""
    checks = [rule.told for rule in rules if rule.kind == "check"]
    known = [all_known(rule.columns) for rule in rules if rule.kind == "not_null"]
    return reduce(and_, [*known, *([passes(*checks)] if checks else [])])
