"""Results of a table's rules, as messages and as rows of ops.expectations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import and_
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.quality.expectations.conditions import conditions_hold
from tidemill.quality.expectations.row_rules import BROKEN, ViolationCounts
from tidemill.quality.expectations.rules import KEY_RULE, Rule
from tidemill.quality.expectations.table_rules import TableVerdict

_HOLDS, _REFUSED = "__holds", "__is_refused"


def annotate_records(df: DataFrame, rules: Sequence[Rule], is_whole: Column, refused_for: str, noted: str) -> DataFrame:
    """Return the records with the rules that they break: all of them in ``refused_for`` where one of these quarantines, else in ``noted``.

    Both are ``ARRAY<STRING>``; ``refused_for`` is there already, ``noted`` is new and null for a record that breaks none. Records that
    are not ``is_whole`` (their reader refuses them) are not judged. A good record costs one condition that has all the others in it.
    """
    others = [name for name in df.columns if name != refused_for]
    checked = df.select("*", F.when(is_whole, rules_hold(rules)).otherwise(F.lit(True)).alias(_HOLDS))
    names = [F.when(rule.is_broken, F.lit(rule.name)).otherwise(F.lit("")) for rule in rules if rule.is_broken is not None]
    checked_rules = checked.select("*", F.when(~F.col(_HOLDS), F.array_remove(F.array(*names), "")).alias(BROKEN))
    strict = F.array(*[F.lit(rule.name) for rule in rules if rule.action == "quarantine"]).cast("array<string>")
    is_refused = F.coalesce(F.arrays_overlap(F.col(BROKEN), strict), F.lit(False))
    return checked_rules.select(
        *[column(name) for name in others],
        F.when(is_refused, F.col(BROKEN)).otherwise(F.col(refused_for)).alias(refused_for),
        F.when(~is_refused, F.col(BROKEN)).alias(noted),
    )


def count_record_violations(df: DataFrame, rules: Sequence[Rule], kept: int, refused_for: str, noted: str) -> ViolationCounts:
    """Count what becomes of the records that were judged, and how many break each rule, in one pass over those that break one.

    ``kept`` is the number of good ones, those in ``noted`` among them.
    """
    names = F.array(*[F.lit(rule.name) for rule in rules])
    is_refused = F.coalesce(F.arrays_overlap(F.col(refused_for), names), F.lit(False))
    violations = df.where(F.col(refused_for).isNotNull() | F.col(noted).isNotNull()).select(
        is_refused.alias(_REFUSED), F.when(is_refused, F.col(refused_for)).otherwise(F.col(noted)).alias(BROKEN)
    )
    counts = [F.count_if(F.array_contains(BROKEN, rule.name)).alias(f"rule_{place}") for place, rule in enumerate(rules)]
    row = violations.agg(F.count_if(_REFUSED).alias("quarantined"), *counts).first()
    assert row is not None  # an aggregate without groups always has one row
    failed = {rule.name: row[f"rule_{place}"] for place, rule in enumerate(rules)}
    return ViolationCounts(kept + row["quarantined"], kept, row["quarantined"], 0, failed, 0, 0)


def rules_hold(rules: Sequence[Rule]) -> Column:
    """Return true where a record breaks none of the rules; it holds only inside ``errors_count_as_violations``."""
    conditions = [rule.condition for rule in rules if rule.condition is not None]
    others = [~rule.is_broken for rule in rules if rule.condition is None and rule.is_broken is not None]
    return reduce(and_, [*others, *([conditions_hold(*conditions)] if conditions else [])])


def find_refusing_rules(rules: Sequence[Rule], counts: ViolationCounts) -> list[Rule]:
    """Return the rules that stop the table: ``fail`` when broken, and any but ``warn`` when broken by more rows than ``at_most``."""
    strict = [rule for rule in rules if rule.action == "fail" or (rule.action != "warn" and rule.at_most is not None)]
    return [rule for rule in strict if not _holds(rule, counts)]


def describe_refusal(table: str, rule: Rule, counts: ViolationCounts, samples: Sequence[str], stays: str = "") -> str:
    """Return why a rule for rows stops the table; ``stays`` says what becomes of it."""
    allowed = "" if rule.at_most is None else f", at most {_format_allowed(rule)} allowed"
    such_as = f", such as {', '.join(samples)}" if samples else ""
    return (
        f"{table}: expectation {rule.name!r} ({rule.described}) is broken by {counts.failed[rule.name]} of {counts.rows} rows "
        f"({_share(rule, counts):.2%}{allowed}){such_as}; {stays}correct the data upstream, or change the rule"
    )


def describe_table_refusal(table: str, verdict: TableVerdict, stays: str = "") -> str:
    """Return why a rule for the whole table stops it."""
    return (
        f"{table}: expectation {verdict.name!r} ({verdict.kind}: {verdict.expected}) does not hold: {verdict.found}; "
        f"{stays}correct the data upstream, or change the rule"
    )


def describe_repeated_key(table: str, key: Sequence[str], counts: ViolationCounts, samples: Sequence[str], stays: str = "") -> str:
    """Return why a repeated key stops the table."""
    return (
        f"{table}: {counts.repeated_keys} values of the key ({', '.join(key)}) occur in more than one row, such as {', '.join(samples)}; "
        f"{stays}keep one row a key: `latest_by: <column>` keeps the row with the greatest value there"
    )


def describe_violations(table: str, rules: Sequence[Rule], counts: ViolationCounts, verdicts: Sequence[TableVerdict] = ()) -> list[str]:
    """Return a remark for each rule that is broken."""
    done: dict[str, Callable[[Rule], str]] = {
        "warn": lambda rule: (
            "kept" + ("" if _holds(rule, counts) or rule.at_most is None else f", though at most {_format_allowed(rule)} may")
        ),
        "drop": lambda rule: "dropped",
        "quarantine": lambda rule: "quarantined",
        "fail": lambda rule: "kept, within `at_most`",
    }
    remarks = [
        f"{table}: {counts.failed[rule.name]} of {counts.rows} rows break {rule.name!r} ({done[rule.action](rule)})"
        for rule in rules
        if counts.failed[rule.name]
    ]
    return [
        *remarks,
        *(f"{table}: {verdict.name!r} wants {verdict.expected}: {verdict.found}" for verdict in verdicts if not verdict.passed),
    ]


def build_expectation_rows(rules: Sequence[Rule], counts: ViolationCounts, verdicts: Sequence[TableVerdict] = ()) -> list[dict[str, Any]]:
    """Return a row of ops.expectations for each rule; the key's counts null keys and rows that repeat one.

    ``value`` is the share of rows that break a rule for rows, what was measured for one that judges the table; the latter counts no rows
    that fail.
    """
    rows: list[dict[str, Any]] = []
    for rule in rules:
        repeating = counts.repeating_rows if rule.name == KEY_RULE else 0
        failed = counts.failed[rule.name] + repeating
        rows.append(
            {
                "expectation": rule.name,
                "kind": rule.kind,
                "rows_checked": counts.rows,
                "rows_failed": failed,
                "action": "fail" if repeating else rule.action,
                "passed": _holds(rule, counts) and not repeating,
                "value": failed / counts.rows if counts.rows else 0.0,
                "expected": f"{rule.described}, broken by {'no row' if not rule.at_most else f'at most {_format_allowed(rule)}'}",
            }
        )
    rows += [
        {
            "expectation": verdict.name,
            "kind": verdict.kind,
            "rows_checked": counts.kept,
            "action": verdict.action,
            "passed": verdict.passed,
            "value": verdict.value,
            "expected": verdict.expected,
        }
        for verdict in verdicts
    ]
    return rows


def _share(rule: Rule, counts: ViolationCounts) -> float:
    return counts.failed[rule.name] / counts.rows if counts.rows else 0.0


def _format_allowed(rule: Rule) -> str:
    if isinstance(rule.at_most, int):
        return f"{rule.at_most} row{'' if rule.at_most == 1 else 's'}"
    return f"{rule.at_most or 0.0:.2%}"


def _holds(rule: Rule, counts: ViolationCounts) -> bool:
    """Return True where no row breaks the rule, or no more than it allows: a number of rows as an int, a share of them as a float."""
    if isinstance(rule.at_most, int):
        return counts.failed[rule.name] <= rule.at_most
    return _share(rule, counts) <= (rule.at_most or 0.0)
