"""Parallel reads of a table: conditions that share its rows out, each row to exactly one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise

from pyspark.sql import types as T

from tidemill.errors import UsageError
from tidemill.sources.jdbc.dialects import NUMBERS, Ask, DbColumn, Dialect, all_of

ALIAS = "tidemill_p"
"""The name under which the partition column is selected beside the values."""

_Scale = tuple[Callable[[str], int], Callable[[int], str]]
_MICROSECOND = timedelta(microseconds=1)


def predicates(
    ask: Ask, dialect: Dialect, column: DbColumn, options: Mapping[str, str], relation: str, where: str, default: int
) -> list[str]:
    """Return a condition on ``ALIAS`` for each partition.

    The bounds only say where the cuts lie: what is below the lower or above the upper one is read too, nulls by the first partition.
    Bounds that are not given are the least and greatest value, by one query.
    """
    scale, number = _scale(column), _count(options.get("numPartitions"), default)
    low, high = options.get("lowerBound"), options.get("upperBound")
    if low is None or high is None:
        name = dialect.quoted(column.name)
        limits = [dialect.text(f"MIN({name})", column), dialect.text(f"MAX({name})", column)]
        found = ask(limits, f"{relation} WHERE {all_of([where, dialect.order(column).comparable])}")
        low, high = low or found[0], high or found[1]
    if low is None or high is None or number == 1:
        return ["1 = 1"]
    cuts = [dialect.literal(cut, column) for cut in _cuts(low, high, number, column, scale)]
    alias = dialect.quoted(ALIAS)
    if not cuts:
        return ["1 = 1"]
    between = [f"{alias} >= {start} AND {alias} < {end}" for start, end in pairwise(cuts)]
    return [f"{alias} < {cuts[0]} OR {alias} IS NULL", *between, f"{alias} >= {cuts[-1]}"]


def _count(given: str | None, default: int) -> int:
    try:
        number = default if given is None else int(given)
    except ValueError as error:
        raise UsageError(f"options.numPartitions: expected a whole number from 1, found {given!r}") from error
    if number < 1:
        raise UsageError(f"options.numPartitions: expected a whole number from 1, found {number}")
    return number


def _cuts(low: str, high: str, number: int, column: DbColumn, scale: _Scale) -> list[str]:
    """Return at most ``number - 1`` values between the bounds, each once, in order."""
    read, write = scale
    try:
        start, end = read(low), read(high)
    except (ValueError, InvalidOperation) as error:
        kind = column.type.simpleString().upper()
        raise UsageError(f"options.lowerBound, options.upperBound: {low!r}, {high!r} are no bounds of {column.name!r}, {kind}") from error
    steps = (start + (end - start) * place // number for place in range(1, number))
    return [write(step) for step in dict.fromkeys(steps) if start < step <= end]


def _scale(column: DbColumn) -> _Scale:
    """Return how a value's text becomes a whole number and back."""
    kind = column.type
    if isinstance(kind, NUMBERS):
        return lambda text: int(Decimal(text)), str
    if isinstance(kind, T.DateType):
        return lambda text: date.fromisoformat(text).toordinal(), lambda day: date.fromordinal(day).isoformat()
    if isinstance(kind, T.TimestampType | T.TimestampNTZType):
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        is_local = isinstance(kind, T.TimestampNTZType)

        def read(text: str) -> int:
            given = datetime.fromisoformat(text)
            return ((given.replace(tzinfo=UTC) if given.tzinfo is None else given) - epoch) // _MICROSECOND

        def write(micros: int) -> str:
            instant = epoch + micros * _MICROSECOND
            return (instant.replace(tzinfo=None) if is_local else instant).isoformat(" ")

        return read, write
    raise UsageError(f"options.partitionColumn: {column.name!r} is {kind.simpleString().upper()}; it must be a number, a date or a time")
