"""Findings: a statistic of a column, its limit, and the action."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

AUC_LIMIT = 0.99
R2_LIMIT = 0.98
LATER_LIMIT = 0.01
NULLS_LIMIT = 0.1
MINORITY_LIMIT = 0.05
UNREADABLE_LIMIT = 0.01

_SHOWN = 5
_COLUMN_NAMES = {"check": "check_name", "column": "column_name", "limit": "limit_value"}


@dataclass(frozen=True)
class Finding:
    """One row of ``ops.checks``.

    ``check`` is leakage, copy, missing, later, constant, duplicate, nulls, unreadable or balance; ``measure`` says what ``value`` is,
    compared with ``limit``. ``other`` is the second column of a pair, or a value of the label. ``action`` is ``pass`` if the limit holds,
    else warn, drop or block. ``message`` is a sentence for the user, empty if there is nothing to report.
    """

    check: str
    column: str
    measure: str
    value: float | None
    limit: float | None
    action: str = "pass"
    message: str = ""
    other: str | None = None

    def row(self) -> dict[str, Any]:
        """Return the columns of ``ops.checks``."""
        return {_COLUMN_NAMES.get(name, name): value for name, value in asdict(self).items()}


def format_refusal(findings: list[Finding]) -> str | None:
    """Return one message for all findings that block, with the remedies; None if none blocks."""
    blocked = [finding for finding in findings if finding.action == "block"]
    unreadable = [finding for finding in blocked if finding.check == "unreadable"]
    messages = [_leaks([finding for finding in blocked if finding.check != "unreadable"]), _unreadable(unreadable)]
    return "; ".join(message for message in messages if message) or None


def _leaks(blocked: list[Finding]) -> str:
    if not blocked:
        return ""
    columns = _columns(blocked)
    names = ", ".join(columns)
    return (
        f"dataset: the label leaks into {len(columns)} feature column(s): "
        + "; ".join(finding.message for finding in blocked)
        + f". Exclude columns that are not known at prediction time: `dataset.exclude: [{names}]`; allow columns that are known in time "
        f"with `features.checks.allow: [{names}]` (`features.checks.leakage: warn` or `off` applies to all columns)"
    )


def _unreadable(blocked: list[Finding]) -> str:
    if not blocked:
        return ""
    columns = _columns(blocked)
    return (
        f"dataset: {len(columns)} feature column(s) hold text of which more than {UNREADABLE_LIMIT:.0%} cannot be read as declared: "
        + "; ".join(finding.message for finding in blocked)
        + ". Convert the text in the SQL (such as CAST(replace(price, ',', '') AS DOUBLE), to_timestamp(day, 'dd.MM.yyyy') or "
        "answer = 'Yes'), or declare the column as `categorical`; count such values as missing with "
        f"`features.checks.allow: [{', '.join(columns)}]`"
    )


def _columns(findings: list[Finding]) -> list[str]:
    return list(dict.fromkeys(finding.column for finding in findings))


def format_notes(findings: list[Finding]) -> tuple[str, ...]:
    """Return the messages of the findings that do not block, the first few of each check."""
    notes: list[str] = []
    by_check: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.message and finding.action != "block":
            by_check.setdefault(finding.check, []).append(finding)
    for check, alike in by_check.items():
        notes += [finding.message for finding in alike[:_SHOWN]]
        if len(alike) > _SHOWN:
            notes.append(f"{len(alike) - _SHOWN} more like these in ops.checks (check_name = '{check}')")
    return tuple(notes)
