"""What a check found about a column: a figure, the limit it was held against, and what follows."""

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

    ``check`` is leakage, copy, missing, later, constant, duplicate, nulls, unreadable or balance; ``measure`` says what ``value`` is, and
    ``limit`` what it was held against. ``other`` is the second column of a pair, or a value of the label. ``action`` is what follows:
    ``pass`` where the limit holds, else warn, drop or block. ``message`` is a sentence for people, empty where there is nothing to say.
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


def refusal(findings: list[Finding]) -> str | None:
    """Return one message for all findings that block, with the remedies; None where none does."""
    blocked = [finding for finding in findings if finding.action == "block"]
    unreadable = [finding for finding in blocked if finding.check == "unreadable"]
    messages = [_leaks([finding for finding in blocked if finding.check != "unreadable"]), _unreadable(unreadable)]
    return "; ".join(message for message in messages if message) or None


def _leaks(blocked: list[Finding]) -> str:
    if not blocked:
        return ""
    columns = _columns(blocked)
    return (
        f"dataset: the label leaks into {len(columns)} feature column(s): "
        + "; ".join(finding.message for finding in blocked)
        + f". Leave out what is not known beforehand: `dataset.exclude: [{', '.join(columns)}]`; keep what is known in time with "
        f"`features.checks.allow: [{', '.join(columns)}]` (`features.checks.leakage: warn` or `off` is for all columns)"
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


def remarks(findings: list[Finding]) -> tuple[str, ...]:
    """Return the sentences of what does not block, the first few of each check."""
    told: list[str] = []
    by_check: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.message and finding.action != "block":
            by_check.setdefault(finding.check, []).append(finding)
    for check, found in by_check.items():
        told += [finding.message for finding in found[:_SHOWN]]
        if len(found) > _SHOWN:
            told.append(f"{len(found) - _SHOWN} more like these in ops.checks (check_name = '{check}')")
    return tuple(told)
