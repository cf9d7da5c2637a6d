"""Whether a SQL condition gives the same for a row each time it is asked."""

from __future__ import annotations

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

# What has another value each time, or for each run of a query. Functions that the parser does not know may be of the kind too.
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
# Without an argument it is the time of day.
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
    """Return True for ``current_date`` and the like, which SQL takes without brackets."""
    return isinstance(node, exp.Column) and node.name.lower() in {"current_date", "current_timestamp", "localtimestamp", "current_time"}
