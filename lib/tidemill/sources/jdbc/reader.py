"""Tables and queries of a database, over JDBC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import list_table_columns
from tidemill.errors import TidemillError, UsageError
from tidemill.runtime.session import task_slots
from tidemill.sources.jdbc import Jdbc
from tidemill.sources.jdbc.connection import Place
from tidemill.sources.jdbc.dialects import NUMBERS, Ask, DbColumn, Dialect, OtherDatabase, all_of
from tidemill.sources.jdbc.text_dialects import Postgres, Sqlite
from tidemill.sources.options import checked_options
from tidemill.sources.records import Extract
from tidemill.sources.rows import Given, Position, known_column, overlap_of, row_records
from tidemill.sources.schema.types import checked_schema
from tidemill.spec.models import Source

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


_FAILURES = (PySparkException, Py4JJavaError)
_OURS = ("partitionColumn", "numPartitions", "lowerBound", "upperBound", "overlap")


class JdbcQuery:
    """A table or a query of a database.

    ``load: full`` reads all rows; each partition is one statement, so that one partition is one snapshot, and several are as many as
    there are (rows that change meanwhile may be in two of them, or in none, where the partition column itself changes).

    ``load: incremental`` reads the rows whose watermark is not above the greatest one, which is looked up first, and not below the
    greatest one of the extract before less the overlap; and those whose watermark is null or no proper value. They come again each
    time and are merged by the key. So the extract is fixed but for this: a row that changes between the look-up and the read leaves
    it (and is in the next one), and a row that is committed meanwhile with a watermark below the greatest enters it. A row that is
    committed later than the overlap behind its watermark is not seen until ``load: full``, nor is a row that was deleted.
    """

    def infer(self, spark: SparkSession, source: Source) -> T.StructType:
        """Return the columns of the table or query."""
        database = _Database.of(spark, source)
        columns = database.columns(None)
        names = list_table_columns([column.name for column in columns])
        return checked_schema([T.StructField(name, column.type) for name, column in zip(names, columns, strict=True)])

    def extract(self, spark: SparkSession, source: Source, schema: T.StructType, since: str | None) -> Extract:
        """Return the rows behind ``since``."""
        database = _Database.of(spark, source)
        columns = database.columns(schema)
        place = database.place.text
        is_merged = source.load == "incremental" and source.watermark is not None
        where, position = "", None
        notes: tuple[str, ...] = ()
        if is_merged:
            where, position, notes = database.behind(columns, since)
        frame = database.rows(columns, where)
        given = [Given(column.name, F.col(f"c{i}"), column.arrives, column.type) for i, column in enumerate(columns)]
        records = row_records(frame, given, schema, source, place)
        return Extract(replace(records, notes=notes), place, position, is_merged)


@dataclass(frozen=True)
class _Database:
    """A database that is being asked."""

    spark: SparkSession
    source: Source
    place: Place
    dialect: Dialect
    options: Mapping[str, str]

    @classmethod
    def of(cls, spark: SparkSession, source: Source) -> _Database:
        place = Place.of(source)
        dialect: Dialect = Postgres() if place.is_postgresql else Sqlite() if place.is_sqlite else OtherDatabase(place.url)
        return cls(spark, source, place, dialect, checked_options(source, Jdbc.option_names))

    def columns(self, known: T.StructType | None) -> list[DbColumn]:
        """Return the columns of the table or query."""
        found = self._read(f"(SELECT * FROM {self.place.relation}) tidemill_t").schema
        return self.dialect.columns(self.ask, self.place.relation, found, known)

    def ask(self, expressions: Sequence[str], source: str) -> list[str | None]:
        """Return the texts of the first row that a SELECT gives."""
        names = [f"c{place}" for place in range(len(expressions))]
        selected = ", ".join(f"{sql} AS {self.dialect.quoted(name)}" for sql, name in zip(expressions, names, strict=True))
        frame = self._read(f"(SELECT {selected} FROM {source}) tidemill_t", texts=() if self._is_native else names)
        try:
            row = frame.select(*[F.col(name).cast("string") for name in frame.columns]).head()
        except _FAILURES as error:
            self.place.refuse(error)
        return [] if row is None else list(row)

    def behind(self, columns: Sequence[DbColumn], since: str | None) -> tuple[str, str | None, tuple[str, ...]]:
        """Return the condition for the rows to read now, the position behind them, and remarks."""
        column = self._column(columns, str(self.source.watermark), "watermark")
        overlap = overlap_of(self.source.overlap, self.options.get("overlap"), column.type, column.name)
        before = Position.behind(since, column.name, column.type)
        notes = () if since is None or before else ("the watermark is another one than before: all rows are read and merged again",)
        name, order = self.dialect.quoted(column.name), self.dialect.order(column)
        newer = None if before is None else f"{name} > {self.dialect.literal(before.value, column)}"
        highest = self.dialect.text(f"MAX({name})", column)
        found = self.ask([highest], f"{self.place.relation} WHERE {all_of([order.comparable, newer])}")
        value = (found[0] if found else None) or (before.value if before else None)
        always = f"{name} IS NULL" + (f" OR {order.others}" if order.others else "")
        if value is None:
            return always, None, notes
        position = Position(column.name, column.type.simpleString(), value)
        least = None if before is None else f"{name} >= {self.dialect.before(self.dialect.literal(before.value, column), overlap, column)}"
        return f"{always} OR ({all_of([order.comparable, self.dialect.up_to(value, column), least])})", position.to_json(), notes

    def rows(self, columns: Sequence[DbColumn], where: str) -> DataFrame:
        """Return the rows: columns ``c0``, ``c1`` … as the dialect gives them."""
        names = [f"c{place}" for place in range(len(columns))]
        selected = [f"{column.sql} AS {self.dialect.quoted(name)}" for column, name in zip(columns, names, strict=True)]
        parts = None
        if "partitionColumn" in self.options:
            column = self._column(columns, self.options["partitionColumn"], "options.partitionColumn")
            selected.append(f"{self.dialect.quoted(column.name)} AS {self.dialect.quoted(ALIAS)}")
            parts = predicates(self.ask, self.dialect, column, self.options, self.place.relation, where, task_slots(self.spark))
        text = f"(SELECT {', '.join(selected)} FROM {self.place.relation} WHERE {where or '1 = 1'}) tidemill_t"
        return self._read(text, texts=() if self._is_native else names, parts=parts).select(*names)

    def _column(self, columns: Sequence[DbColumn], name: str, what: str) -> DbColumn:
        found = known_column(name, [column.name for column in columns], what, self.place.text)
        return next(column for column in columns if column.name == found)

    @property
    def _is_native(self) -> bool:
        return isinstance(self.dialect, OtherDatabase)

    def _read(self, relation: str, *, texts: Sequence[str] = (), parts: list[str] | None = None) -> DataFrame:
        """Return what the database gives for a relation; ``texts`` are columns that are read as text whatever the driver says."""
        given = {name: value for name, value in self.options.items() if name not in _OURS}
        if "sessionInitStatement" in given and "sessionInitStatement" in self.dialect.properties:
            given["sessionInitStatement"] = f"{self.dialect.properties['sessionInitStatement']}; {given['sessionInitStatement']}"
        properties = {**self.dialect.properties, **self.place.properties, **given}
        if texts:
            properties["customSchema"] = ", ".join(f"{name} STRING" for name in texts)
        try:
            if parts is None:
                return self.spark.read.jdbc(self.place.url, relation, properties=properties)
            return self.spark.read.jdbc(self.place.url, relation, predicates=parts, properties=properties)
        except (*_FAILURES, TidemillError) as error:
            self.place.refuse(error)
