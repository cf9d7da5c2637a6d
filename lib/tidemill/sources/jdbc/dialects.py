"""How a database is asked that tidemill knows nothing of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from pyspark.sql import types as T

from tidemill.errors import UsageError
from tidemill.sources.rows import Overlap

Ask = Callable[[Sequence[str], str], list[str | None]]
"""Selects expressions, in the database, from what stands behind FROM, and returns the texts of the first row; empty: there is none."""

TIMES = (T.DateType, T.TimestampType, T.TimestampNTZType)
NUMBERS = (T.ByteType, T.ShortType, T.IntegerType, T.LongType, T.DecimalType, T.FloatType, T.DoubleType)


@dataclass(frozen=True)
class DbColumn:
    """A column of a table or query: its name, the SQL that gives its value, its type, the type that arrives, the database's type."""

    name: str
    sql: str
    type: T.DataType
    arrives: T.DataType
    native: str = ""


@dataclass(frozen=True)
class Order:
    """Conditions for the values that can be compared with a watermark, and for the others: infinities, NaN, values of another type.

    The others are no position to go on from, and are read every time. None: there are no others.
    """

    comparable: str | None = None
    others: str | None = None


class Dialect(Protocol):
    """How one kind of database is asked."""

    properties: Mapping[str, str]

    def quoted(self, name: str) -> str:
        """Return a name as SQL writes it."""
        ...

    def columns(self, ask: Ask, relation: str, found: T.StructType, known: T.StructType | None) -> list[DbColumn]:
        """Return the columns of ``relation``; ``found`` is how Spark sees them, ``known`` the schema where there is one."""
        ...

    def text(self, sql: str, column: DbColumn) -> str:
        """Return SQL for the text of a value of a column's type."""
        ...

    def literal(self, value: str, column: DbColumn) -> str:
        """Return SQL for the value that a text of ``text`` tells."""
        ...

    def order(self, column: DbColumn) -> Order:
        """Return which values of a column a watermark can be."""
        ...

    def up_to(self, value: str, column: DbColumn) -> str:
        """Return a condition for the values not above the one that a text of ``text`` tells."""
        ...

    def before(self, literal: str, overlap: Overlap, column: DbColumn) -> str:
        """Return SQL for the value that lies ``overlap`` before one."""
        ...


def string_literal(value: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + value.replace("'", "''") + "'"


def all_of(conditions: Sequence[str | None]) -> str:
    """Return the conditions joined by AND; one that is always true where there is none."""
    given = [condition for condition in conditions if condition]
    return " AND ".join(f"({condition})" for condition in given) if given else "1 = 1"


class OtherDatabase:
    """A database whose driver the user brings: Spark's types, and a watermark that is a number, a text, a date or a local time."""

    properties: Mapping[str, str] = {"preferTimestampNTZ": "true", "fetchsize": "10000"}

    def __init__(self, url: str) -> None:
        """Take names as the database at ``url`` quotes them."""
        self._quote = "`" if url.startswith(("jdbc:mysql:", "jdbc:mariadb:")) else '"'

    def quoted(self, name: str) -> str:
        """Return a name as SQL writes it."""
        return self._quote + name.replace(self._quote, self._quote * 2) + self._quote

    def columns(self, ask: Ask, relation: str, found: T.StructType, known: T.StructType | None) -> list[DbColumn]:
        """Return the columns as Spark sees them."""
        return [DbColumn(part.name, self.quoted(part.name), part.dataType, part.dataType) for part in found.fields]

    def text(self, sql: str, column: DbColumn) -> str:
        """Return the value itself: Spark makes a text of it."""
        return sql

    def literal(self, value: str, column: DbColumn) -> str:
        """Return SQL for a value."""
        if isinstance(column.type, NUMBERS):
            return value
        if isinstance(column.type, T.DateType):
            return f"{{d {string_literal(value)}}}"
        if isinstance(column.type, T.TimestampNTZType):
            return f"{{ts {string_literal(value)}}}"
        if isinstance(column.type, T.StringType):
            return string_literal(value)
        kind = column.type.simpleString().upper()
        raise UsageError(
            f"watermark or partitionColumn {column.name!r} is {kind}; for this database it must be a number, text, date or local time"
        )

    def order(self, column: DbColumn) -> Order:
        """Return that all values are taken as they come."""
        return Order()

    def up_to(self, value: str, column: DbColumn) -> str:
        """Return a condition for the values not above one; of a time, which Spark has cut, all of its last microsecond."""
        if not isinstance(column.type, T.TimestampNTZType):
            return f"{self.quoted(column.name)} <= {self.literal(value, column)}"
        after = datetime.fromisoformat(value) + timedelta(microseconds=1)
        return f"{self.quoted(column.name)} < {self.literal(after.isoformat(' '), column)}"

    def before(self, literal: str, overlap: Overlap, column: DbColumn) -> str:
        """Return SQL for the value that lies ``overlap`` before one."""
        if not overlap.amount:
            return literal
        amount = f"INTERVAL '{overlap.text}' SECOND" if isinstance(column.type, TIMES) else overlap.text
        return f"({literal} - {amount})"
