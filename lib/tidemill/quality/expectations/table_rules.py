"""Expectations of a table as a whole: whether each holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from tidemill.quality.expectations.kinds import Number, TableFacts, TableKind
from tidemill.quality.expectations.row_rules import ViolationCounts

if TYPE_CHECKING:
    from tidemill.spec.models import Expectation


@dataclass(frozen=True)
class Comparisons:
    """What the rules compare with: measures of other tables' columns, and the distances from the last version, each by the rule's name.

    A distance is None where there is nothing to compare with. ``version`` is that last version, None where there is none.
    """

    now: datetime
    referenced: Mapping[str, Number] = field(default_factory=dict)
    distances: Mapping[str, float | None] = field(default_factory=dict)
    version: int | None = None


@dataclass(frozen=True)
class TableVerdict:
    """Whether one rule holds: ``value`` is what was measured, ``expected`` and ``found`` are texts for messages."""

    name: str
    kind: str
    action: str
    passed: bool
    value: float | None
    expected: str
    found: str


def select_table_rules(expectations: Mapping[str, Expectation]) -> dict[str, TableKind]:
    """Return the rules that judge the table and not its rows, by name."""
    return {name: each.rule for name, each in expectations.items() if isinstance(each.rule, TableKind)}


def judge_table(
    rules: Mapping[str, TableKind], actions: Mapping[str, str], counts: ViolationCounts, known: Comparisons
) -> list[TableVerdict]:
    """Return the verdict of each rule, in their order; ``actions`` says what follows of a broken one."""
    verdicts = []
    for name, rule in rules.items():
        facts = TableFacts(
            rows=counts.kept,
            now=known.now,
            measured=counts.measured.get(name),
            referenced=known.referenced.get(name),
            distance=known.distances.get(name),
            version=known.version,
        )
        judgement = rule.judge(facts)
        verdicts.append(
            TableVerdict(name, rule.name, actions[name], judgement.passed, judgement.value, judgement.expected, judgement.found)
        )
    return verdicts
