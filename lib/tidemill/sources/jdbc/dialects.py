"""The SQL dialect of a database: its interface, and the one of databases whose driver the user provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import types as T

from tidemill.errors import UsageError
from tidemill.sources.rows import Overlap
from tidemill.sources.schema.types import TIME_TYPES

SelectRow = Callable[[Sequence[str], str], list[str | None]]
"""Selects expressions from an operand of FROM in the database, and returns the texts of the first row; empty without one."""


@dataclass(frozen=True)
class DbColumn:
    """A column of a table or query: its name, the SQL of its value, its type, the type that the driver returns, the database's type."""

    name: str
    sql: str
    type: T.DataType
    arrives: T.DataType
    native: str = ""


@dataclass(frozen=True)
class WatermarkOrder:
    """Conditions for values that can be compared with a watermark, and for the others: infinities, NaN, values of another type.

    The others cannot be a position, so they are read every time. None means that there are no others.
    """

    comparable: str | None = None
    others: str | None = None


class Dialect(ABC):
    """The SQL of one kind of database."""

    properties: Mapping[str, str]
    reads_texts: bool = True
    """Whether values arrive as texts, so that the types of the driver do not matter."""
    quote_mark: str = '"'

    def quote(self, name: str) -> str:
        """Return a name in SQL."""
        return self.quote_mark + name.replace(self.quote_mark, self.quote_mark * 2) + self.quote_mark

    @abstractmethod
    def columns(self, select_row: SelectRow, relation: str, spark_types: T.StructType, known: T.StructType | None) -> list[DbColumn]:
        """Return the columns of ``relation``; ``spark_types`` are Spark's types, ``known`` is the schema if there is one."""

    @abstractmethod
    def text(self, sql: str, column: DbColumn) -> str:
        """Return SQL for the text of a value of a column's type."""

    @abstractmethod
    def literal(self, value: str, column: DbColumn) -> str:
        """Return SQL for the value of a text that ``text`` gave."""

    @abstractmethod
    def subtract(self, literal: str, overlap: Overlap, column: DbColumn) -> str:
        """Return SQL for a value minus the overlap."""

    def order(self, column: DbColumn) -> WatermarkOrder:
        """Return which values of a column can be compared with a watermark: by default all."""
        return WatermarkOrder()

    def at_most(self, value: str, column: DbColumn) -> str:
        """Return a condition for values up to the one of a text that ``text`` gave."""
        return f"{self.quote(column.name)} <= {self.literal(value, column)}"


def string_literal(value: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def all_of(conditions: Sequence[str | None]) -> str:
    """Join conditions by AND; without any, return one that is always true."""
    given = [condition for condition in conditions if condition]
    return " AND ".join(f"({condition})" for condition in given) if given else "1 = 1"


class GenericDatabase(Dialect):
    """A database whose driver the user provides: Spark's types, and a watermark that is a number, a text, a date or a local time."""

    reads_texts = False
    properties: Mapping[str, str] = {"preferTimestampNTZ": "true", "fetchsize": "10000"}

    def __init__(self, url: str) -> None:
        """Take the URL, which decides how names are quoted."""
        self.quote_mark = "`" if url.startswith(("jdbc:mysql:", "jdbc:mariadb:")) else '"'

    def columns(self, select_row: SelectRow, relation: str, spark_types: T.StructType, known: T.StructType | None) -> list[DbColumn]:
        """Return the columns with Spark's types."""
        return [DbColumn(part.name, self.quote(part.name), part.dataType, part.dataType) for part in spark_types.fields]

    def text(self, sql: str, column: DbColumn) -> str:
        """Return the value itself, which Spark casts to text."""
        return sql

    def literal(self, value: str, column: DbColumn) -> str:
        """Return SQL for a value."""
        if isinstance(column.type, T.NumericType):
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

    def at_most(self, value: str, column: DbColumn) -> str:
        """Return a condition for values up to one; Spark truncates times, so all of the last microsecond is included."""
        if not isinstance(column.type, T.TimestampNTZType):
            return super().at_most(value, column)
        after = datetime.fromisoformat(value) + timedelta(microseconds=1)
        return f"{self.quote(column.name)} < {self.literal(after.isoformat(' '), column)}"

    def subtract(self, literal: str, overlap: Overlap, column: DbColumn) -> str:
        """Return SQL for a value minus the overlap."""
        if not overlap.amount:
            return literal
        amount = f"INTERVAL '{overlap.text}' SECOND" if isinstance(column.type, TIME_TYPES) else overlap.text
        return f"({literal} - {amount})"
