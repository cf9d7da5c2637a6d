"""Expectations of rows as columns: true for a row that breaks the rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.spec.models import ROW_KINDS, Expectation, as_columns

KEY_RULE = "key"
"""The name under which a null key is quarantined."""

_ELIMINATION = "spark.sql.subexpressionElimination.enabled"


@dataclass(frozen=True)
class Rule:
    """One rule for rows: ``is_broken`` is true or false for every row, never null; ``told`` is how it reads in a message.

    ``at_most`` is a share of the rows where it is a float, a number of them where it is an int. ``columns`` are those the rule is about,
    none for a ``check``. A rule of the kind ``unique`` has no ``is_broken``: it takes more than the row itself to tell.
    """

    name: str
    told: str
    action: str
    at_most: float | int | None
    is_broken: Column | None
    kind: str = "check"
    columns: tuple[str, ...] = ()

    @property
    def match(self) -> str:
        """The column that ``in_reference`` is judged by: the value that was found in the reference, null where it holds none."""
        return _match(self.name)


def rules_of(expectations: Mapping[str, Expectation], key: Sequence[str]) -> list[Rule]:
    """Return the rules for the rows of a table: that its key is not null, then its expectations."""
    rules = []
    if key:
        rules.append(Rule(KEY_RULE, f"{' and '.join(key)} IS NOT NULL", "quarantine", None, _any_null(key), "key", tuple(key)))
    return [*rules, *(_rule(name, expectation) for name, expectation in expectations.items() if expectation.kind in ROW_KINDS)]


def _rule(name: str, expectation: Expectation) -> Rule:
    action, at_most, kind = expectation.on_violation, expectation.at_most, expectation.kind
    if expectation.check is not None:
        return Rule(name, expectation.check, action, at_most, ~passes(expectation.check))
    if expectation.not_null is not None:
        columns = as_columns(expectation.not_null)
        return Rule(name, f"{' and '.join(columns)} IS NOT NULL", action, at_most, _any_null(columns), kind, columns)
    if expectation.in_reference is not None:
        looked_up = str(expectation.column)
        is_missing = column(looked_up).isNotNull() & column(_match(name)).isNull()
        return Rule(name, f"{looked_up} is in {expectation.in_reference}", action, at_most, is_missing, kind, (looked_up,))
    columns = as_columns(expectation.unique)
    return Rule(name, f"unique: {', '.join(columns)}", action, at_most, None, kind, columns)


def passes(*checks: str) -> Column:
    """Return true where the SQL conditions are all true; false where one is false, null, or raises.

    ``try_to_binary`` gives null for whatever goes wrong below it: a failed cast, a division by zero, an overflow, ``raise_error``.
    It holds only inside ``errors_count_as_violations``.
    """
    # `AND true` makes a bare NULL a boolean and still refuses a check that is a number or a text.
    verdict = F.when(reduce(and_, [F.expr(check) for check in checks], F.lit(True)), F.lit("01")).otherwise(F.lit("00"))
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


def all_known(names: Sequence[str]) -> Column:
    """Return true where none of the columns is null."""
    return reduce(and_, [column(name).isNotNull() for name in names])


def _match(name: str) -> str:
    return f"__found_{name}"


def _any_null(names: Sequence[str]) -> Column:
    return reduce(or_, [column(name).isNull() for name in names])
