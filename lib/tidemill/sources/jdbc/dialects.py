"""What differs between databases: the types of columns, how their values are written as text, and how a value stands in SQL.

PostgreSQL and SQLite give every value as the text that they write themselves; it is made a value of the schema's type here, so that
what a driver would bend (infinite dates, NaN, a text in a number's column, a wall-clock time that a daylight saving zone lacks) arrives
as it is. Other databases are read by their drivers, in Spark's types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pyspark.sql import types as T

from tidemill.sources.watermarks import Overlap

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
