"""Expectations of rows as columns: true for a row that breaks the rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import Column, SparkSession

from tidemill.columns import column
from tidemill.quality.expectations.conditions import any_null
from tidemill.quality.expectations.kinds import RowKind

if TYPE_CHECKING:
    from tidemill.spec.models import Expectation

KEY_RULE = "key"
"""The name under which a null key is quarantined."""

_ELIMINATION = "spark.sql.subexpressionElimination.enabled"


@dataclass(frozen=True)
class Rule:
    """One rule for rows: ``is_broken`` is true or false for every row, never null; ``described`` is how it reads in a message.

    ``at_most`` is a share of the rows where it is a float, a number of them where it is an int. ``columns`` are those the rule is about,
    none for a ``condition`` in SQL. A rule without ``is_broken`` forbids rows that repeat the ``columns`` of another one. A rule that
    ``looks_up`` its column is judged by ``match``. ``is_repeatable`` is true where the verdict depends on nothing but the row.
    """

    name: str
    described: str
    action: str
    at_most: float | int | None
    is_broken: Column | None
    kind: str = "check"
    columns: tuple[str, ...] = ()
    condition: str | None = None
    looks_up: bool = False
    is_repeatable: bool = False

    @property
    def match(self) -> str:
        """The column that holds what was found in the reference for the row, null where it holds none."""
        return _match(self.name)


def build_rules(expectations: Mapping[str, Expectation], key: Sequence[str]) -> list[Rule]:
    """Return the rules for the rows of a table: that its key is not null, then its expectations."""
    rules = []
    if key:
        is_null = any_null(tuple(key))
        rules.append(Rule(KEY_RULE, f"{' and '.join(key)} IS NOT NULL", "quarantine", None, is_null, "key", tuple(key), is_repeatable=True))
    for name, expectation in expectations.items():
        if isinstance(expectation.rule, RowKind):
            rules.append(_rule(name, expectation, expectation.rule))
    return rules


def _rule(name: str, expectation: Expectation, kind: RowKind) -> Rule:
    looks_up = kind.reads is not None
    is_broken = None if kind.is_of_several_rows else kind.is_broken(column(_match(name)) if looks_up else None)
    return Rule(
        name=name,
        described=kind.describe(),
        action=expectation.on_violation,
        at_most=expectation.at_most,
        is_broken=is_broken,
        kind=kind.name,
        columns=kind.columns,
        condition=kind.condition,
        looks_up=looks_up,
        is_repeatable=kind.is_repeatable,
    )


@contextmanager
def errors_count_as_violations(spark: SparkSession) -> Iterator[None]:
    """Let checks that raise count as broken in the queries that run inside.

    Spark computes an expression that two checks share once and in front of them, outside of what would catch its error.
    """
    before = spark.conf.get(_ELIMINATION)
    spark.conf.set(_ELIMINATION, "false")
    try:
        yield
    finally:
        spark.conf.set(_ELIMINATION, str(before))


def _match(name: str) -> str:
    return f"__found_{name}"
