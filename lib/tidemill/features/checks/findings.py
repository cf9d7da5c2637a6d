"""What a check found about a column: a figure, the limit it was held against, and what follows."""

from __future__ import annotations

from dataclasses import asdict, dataclass

AUC_LIMIT = 0.99
R2_LIMIT = 0.98
LATER_LIMIT = 0.01
NULLS_LIMIT = 0.1
MINORITY_LIMIT = 0.05

_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One row of ``ops.checks``.

    ``check`` is leakage, copy, missing, later, constant, duplicate, nulls or balance; ``measure`` says what ``value`` is, and ``limit``
    what it was held against. ``other`` is the second column of a pair, or a value of the label. ``action`` is what follows: ``pass``
    where the limit holds, else warn, drop or block. ``message`` is a sentence for people, empty where there is nothing to say.
    """

    check: str
    column: str
    measure: str
    value: float | None
    limit: float | None
    action: str = "pass"
    message: str = ""
    other: str | None = None

    def row(self) -> dict[str, object]:
        """Return the columns by name."""
        return asdict(self)


def refusal(findings: list[Finding]) -> str | None:
    """Return one message for all findings that block, with the remedy; None where none does."""
    blocked = [finding for finding in findings if finding.action == "block"]
    if not blocked:
        return None
    columns = ", ".join(dict.fromkeys(finding.column for finding in blocked))
    return (
        f"dataset: the label leaks into {len(set(columns.split(', ')))} feature column(s): "
        + "; ".join(finding.message for finding in blocked)
        + f". Leave out what is not known beforehand: `dataset.exclude: [{columns}]`; keep what is known in time with "
        f"`features.checks.allow: [{columns}]` (`features.checks.leakage: warn` or `off` is for all columns)"
    )


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
            told.append(f"{len(found) - _SHOWN} more like these in ops.checks (check = '{check}')")
    return tuple(told)
