"""Expectations as columns: true for a row that breaks the rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import or_

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from tidemill.spec.models import Expectation

KEY_RULE = "key"
"""The name under which a null key is quarantined."""

_ELIMINATION = "spark.sql.subexpressionElimination.enabled"


@dataclass(frozen=True)
class Rule:
    """One rule: ``is_broken`` is true or false for every row, never null; ``told`` is how it reads in a message."""

    name: str
    told: str
    action: str
    at_most: float | None
    is_broken: Column


def rules_of(expectations: Mapping[str, Expectation], key: Sequence[str]) -> list[Rule]:
    """Return the rules of a table: that its key is not null, then its expectations."""
    rules = []
    if key:
        is_null = reduce(or_, [column(name).isNull() for name in key])
        rules.append(Rule(KEY_RULE, f"{' and '.join(key)} IS NOT NULL", "quarantine", None, is_null))
    for name, expectation in expectations.items():
        rules.append(Rule(name, expectation.check, expectation.on_violation, expectation.at_most, ~passes(expectation.check)))
    return rules


def passes(check: str) -> Column:
    """Return true where the SQL condition is true; false where it is false, null, or raises.

    ``try_to_binary`` gives null for whatever goes wrong below it: a failed cast, a division by zero, an overflow, ``raise_error``.
    It holds only inside ``errors_count_as_violations``.
    """
    # `AND true` makes a bare NULL a boolean and still refuses a check that is a number or a text.
    verdict = F.when(F.expr(check) & F.lit(True), F.lit("01")).otherwise(F.lit("00"))
    return F.try_to_binary(verdict, F.lit("hex")).eqNullSafe(F.unhex(F.lit("01")))


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


def column(name: str) -> Column:
    """Return the column of exactly this name, dots and all."""
    return F.col("`" + name.replace("`", "``") + "`")
