"""Whether a table's rules let it pass, as sentences and as rows of ops.expectations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidemill.quality.rules import KEY_RULE, Rule
from tidemill.quality.table_rules import TableVerdict
from tidemill.quality.verdicts import Tally


def refused_rules(rules: Sequence[Rule], counts: Tally) -> list[Rule]:
    """Return the rules that stop the table: ``fail`` when broken, and any but ``warn`` when broken by more rows than ``at_most``."""
    strict = [rule for rule in rules if rule.action == "fail" or (rule.action != "warn" and rule.at_most is not None)]
    return [rule for rule in strict if not _holds(rule, counts)]


def refusal(table: str, rule: Rule, counts: Tally, samples: Sequence[str], stays: str = "") -> str:
    """Return why a rule for rows stops the table; ``stays`` says what becomes of it."""
    allowed = "" if rule.at_most is None else f", at most {_allowed(rule)} allowed"
    such_as = f", such as {', '.join(samples)}" if samples else ""
    return (
        f"{table}: expectation {rule.name!r} ({rule.told}) is broken by {counts.failed[rule.name]} of {counts.rows} rows "
        f"({_share(rule, counts):.2%}{allowed}){such_as}; {stays}correct the data upstream, or change the rule"
    )


def table_refusal(table: str, verdict: TableVerdict, stays: str = "") -> str:
    """Return why a rule for the whole table stops it."""
    return (
        f"{table}: expectation {verdict.name!r} ({verdict.kind}: {verdict.expected}) does not hold: {verdict.found}; "
        f"{stays}correct the data upstream, or change the rule"
    )


def repeated_key(table: str, key: Sequence[str], counts: Tally, samples: Sequence[str], stays: str = "") -> str:
    """Return why a repeated key stops the table."""
    return (
        f"{table}: {counts.repeated_keys} values of the key ({', '.join(key)}) stand in more than one row, such as {', '.join(samples)}; "
        f"{stays}keep one row a key: `latest_by: <column>` keeps the row with the greatest value there"
    )


def warnings(table: str, rules: Sequence[Rule], counts: Tally, verdicts: Sequence[TableVerdict] = ()) -> list[str]:
    """Return a remark for each rule that is broken."""
    done: dict[str, Callable[[Rule], str]] = {
        "warn": lambda rule: "kept" + ("" if _holds(rule, counts) or rule.at_most is None else f", though at most {_allowed(rule)} may"),
        "drop": lambda rule: "dropped",
        "quarantine": lambda rule: "quarantined",
        "fail": lambda rule: "kept, within `at_most`",
    }
    told = [
        f"{table}: {counts.failed[rule.name]} of {counts.rows} rows break {rule.name!r} ({done[rule.action](rule)})"
        for rule in rules
        if counts.failed[rule.name]
    ]
    return [*told, *(f"{table}: {verdict.name!r} wants {verdict.expected}: {verdict.found}" for verdict in verdicts if not verdict.passed)]


def expectation_rows(rules: Sequence[Rule], counts: Tally, verdicts: Sequence[TableVerdict] = ()) -> list[dict[str, object]]:
    """Return a row of ops.expectations for each rule; the key's counts null keys and rows that repeat one.

    ``value`` is the share of rows that break a rule for rows, what was measured for one that judges the table; the latter counts no rows
    that fail.
    """
    rows: list[dict[str, object]] = []
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
                "expected": f"{rule.told}, broken by {'no row' if not rule.at_most else f'at most {_allowed(rule)}'}",
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


def _share(rule: Rule, counts: Tally) -> float:
    return counts.failed[rule.name] / counts.rows if counts.rows else 0.0


def _allowed(rule: Rule) -> str:
    if isinstance(rule.at_most, int):
        return f"{rule.at_most} row{'' if rule.at_most == 1 else 's'}"
    return f"{rule.at_most or 0.0:.2%}"


def _holds(rule: Rule, counts: Tally) -> bool:
    """Return True where no row breaks the rule, or no more than it allows: a number of rows as an int, a share of them as a float."""
    if isinstance(rule.at_most, int):
        return counts.failed[rule.name] <= rule.at_most
    return _share(rule, counts) <= (rule.at_most or 0.0)
