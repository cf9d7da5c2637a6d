"""Whether a table's rules let it pass, as sentences and as rows of ops.expectations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidemill.quality.rules import KEY_RULE, Rule
from tidemill.quality.verdicts import Tally


def refused_rules(rules: Sequence[Rule], counts: Tally) -> list[Rule]:
    """Return the rules that stop the table: ``fail`` when broken, and any but ``warn`` when broken by a larger share than ``at_most``."""
    strict = [rule for rule in rules if rule.action == "fail" or (rule.action != "warn" and rule.at_most is not None)]
    return [rule for rule in strict if not _holds(rule, counts)]


def refusal(table: str, rule: Rule, counts: Tally, samples: Sequence[str]) -> str:
    """Return why a rule stops the table."""
    allowed = "" if rule.at_most is None else f", at most {rule.at_most:.2%} allowed"
    such_as = f", such as {', '.join(samples)}" if samples else ""
    return (
        f"{table}: expectation {rule.name!r} ({rule.told}) is broken by {counts.failed[rule.name]} of {counts.rows} rows "
        f"({_share(rule, counts):.2%}{allowed}){such_as}; correct the data upstream, or change the rule"
    )


def repeated_key(table: str, key: Sequence[str], counts: Tally, samples: Sequence[str]) -> str:
    """Return why a repeated key stops the table."""
    names = ", ".join(key)
    return (
        f"{table}: {counts.repeated_keys} values of the key ({names}) stand in more than one row, such as {', '.join(samples)}; "
        f"keep one row a key, for instance with QUALIFY row_number() OVER (PARTITION BY {names} ORDER BY …) = 1"
    )


def warnings(table: str, rules: Sequence[Rule], counts: Tally) -> list[str]:
    """Return a remark for each rule that rows break."""
    done: dict[str, Callable[[Rule], str]] = {
        "warn": lambda rule: "kept" + ("" if _holds(rule, counts) or rule.at_most is None else f", though at most {rule.at_most:.2%} may"),
        "drop": lambda rule: "dropped",
        "quarantine": lambda rule: "quarantined",
        "fail": lambda rule: "kept, within `at_most`",
    }
    return [
        f"{table}: {counts.failed[rule.name]} of {counts.rows} rows break {rule.name!r} ({done[rule.action](rule)})"
        for rule in rules
        if counts.failed[rule.name]
    ]


def expectation_rows(rules: Sequence[Rule], counts: Tally) -> list[dict[str, object]]:
    """Return a row of ops.expectations for each rule; the key's counts null keys and rows that repeat one."""
    rows: list[dict[str, object]] = []
    for rule in rules:
        repeating = counts.repeating_rows if rule.name == KEY_RULE else 0
        rows.append(
            {
                "expectation": rule.name,
                "rows_checked": counts.rows,
                "rows_failed": counts.failed[rule.name] + repeating,
                "action": "fail" if repeating else rule.action,
                "passed": _holds(rule, counts) and not repeating,
            }
        )
    return rows


def _share(rule: Rule, counts: Tally) -> float:
    return counts.failed[rule.name] / counts.rows if counts.rows else 0.0


def _holds(rule: Rule, counts: Tally) -> bool:
    """Return True where no row breaks the rule, or no larger share than it allows."""
    return _share(rule, counts) <= (rule.at_most or 0.0)
