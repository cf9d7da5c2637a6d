"""Conditions of rows as Spark columns, and which conditions in SQL depend on the row alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_, or_

import sqlglot
from pyspark.sql import Column
from pyspark.sql import functions as F
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tidemill.columns import column


def conditions_hold(*checks: str) -> Column:
    """Return true where the SQL conditions are all true; false where one is false, null, or raises.

    ``try_to_binary`` gives null for whatever goes wrong below it: a failed cast, a division by zero, an overflow, ``raise_error``.
    It holds only inside ``errors_count_as_violations``.
    """
    # `AND true` makes a bare NULL a boolean and still refuses a check that is a number or a text.
    verdict = F.when(reduce(and_, [F.expr(check) for check in checks], F.lit(True)), F.lit("01")).otherwise(F.lit("00"))
    return F.try_to_binary(verdict, F.lit("hex")).eqNullSafe(F.unhex(F.lit("01")))


def any_null(names: Sequence[str]) -> Column:
    """Return true where one of the columns is null."""
    return reduce(or_, [column(name).isNull() for name in names])


def no_null(names: Sequence[str]) -> Column:
    """Return true where none of the columns is null."""
    return reduce(and_, [column(name).isNotNull() for name in names])


# Functions that return another value for each call or query; functions unknown to the parser may do so too.
_VARYING = (
    exp.Anonymous,
    exp.AnonymousAggFunc,
    exp.CurrentDate,
    exp.CurrentDatetime,
    exp.CurrentTime,
    exp.CurrentTimestamp,
    exp.CurrentTimestampLTZ,
    exp.CurrentUser,
    exp.Localtime,
    exp.Localtimestamp,
    exp.Query,
    exp.Rand,
    exp.Randn,
    exp.Randstr,
    exp.Shuffle,
    exp.Uniform,
    exp.Uuid,
)
# Without an argument they return the present time.
_NOW = (exp.StrToUnix, exp.TimeToUnix, exp.UnixDate)


def is_repeatable(condition: str) -> bool:
    """Return True for a condition that is known to depend on nothing but the row."""
    try:
        parsed = sqlglot.parse_one(condition, read="spark")
    except (SqlglotError, RecursionError):
        return False
    return not any(
        isinstance(node, _VARYING) or (isinstance(node, _NOW) and node.args.get("this") is None) or _names_the_time(node)
        for node in parsed.walk()
    )


def _names_the_time(node: exp.Expr) -> bool:
    """Return True for ``current_date`` and the like, which SQL allows without brackets."""
    return isinstance(node, exp.Column) and node.name.lower() in {"current_date", "current_timestamp", "localtimestamp", "current_time"}
