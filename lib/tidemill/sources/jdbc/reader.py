"""Read tables and queries of a database over JDBC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import TidemillError, UsageError
from tidemill.runtime.session import task_slots
from tidemill.runtime.spark_errors import SPARK_ERRORS
from tidemill.sources.jdbc import Jdbc
from tidemill.sources.jdbc.connection import JdbcConnection
from tidemill.sources.jdbc.dialects import DbColumn, Dialect, GenericDatabase, all_of
from tidemill.sources.jdbc.text_dialects import Postgres, Sqlite
from tidemill.sources.options import resolve_options
from tidemill.sources.records import Extract
from tidemill.sources.rows import SourceColumn, WatermarkPosition, build_row_records, find_column, parse_overlap
from tidemill.sources.schema.types import to_table_schema
from tidemill.spec.models import Source

ALIAS = "tidemill_p"
"""The alias of the partition column, which is selected beside the values."""

_DIALECTS: Mapping[str, Callable[[], Dialect]] = {"jdbc:postgresql:": Postgres, "jdbc:sqlite:": Sqlite}
_Scale = tuple[Callable[[str], int], Callable[[int], str]]
_MICROSECOND = timedelta(microseconds=1)


def _parse_count(given: str | None, default: int) -> int:
    try:
        number = default if given is None else int(given)
    except ValueError as error:
        raise UsageError(f"options.numPartitions: expected a whole number from 1, found {given!r}") from error
    if number < 1:
        raise UsageError(f"options.numPartitions: expected a whole number from 1, found {number}")
    return number


def _list_cuts(low: str, high: str, number: int, column: DbColumn, scale: _Scale) -> list[str]:
    """Return at most ``number - 1`` distinct values between the bounds, in order."""
    read, write = scale
    try:
        start, end = read(low), read(high)
    except (ValueError, InvalidOperation) as error:
        kind = column.type.simpleString().upper()
        raise UsageError(f"options.lowerBound, options.upperBound: {low!r}, {high!r} are no bounds of {column.name!r}, {kind}") from error
    steps = (start + (end - start) * step // number for step in range(1, number))
    return [write(step) for step in dict.fromkeys(steps) if start < step <= end]


def _scale(column: DbColumn) -> _Scale:
    """Return conversions of a value's text to a whole number and back."""
    kind = column.type
    if isinstance(kind, T.NumericType):
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


_OURS = ("partitionColumn", "numPartitions", "lowerBound", "upperBound", "overlap")


class JdbcQuery:
    """A table or a query of a database.

    ``load: full`` reads all rows. Each partition is one statement, hence one snapshot: if the partition column of a row changes
    meanwhile, the row may be in two partitions or in none.

    ``load: incremental`` looks up the greatest watermark first. It reads the rows up to it and from the previous greatest one minus the
    overlap, and the rows whose watermark is null or not comparable. They are merged by the key. A row that changes between the look-up
    and the read is in the next extract instead; a row that is committed meanwhile below the greatest watermark is in this one. A row that
    is committed later than the overlap after its watermark is not read until ``load: full``, and deleted rows are not detected.
    """

    def infer(self, spark: SparkSession, source: Source) -> T.StructType:
        """Return the columns of the table or query."""
        database = _Database.of(spark, source)
        return to_table_schema(T.StructField(column.name, column.type) for column in database.columns(None))

    def extract(self, spark: SparkSession, source: Source, schema: T.StructType, since: str | None) -> Extract:
        """Return the rows after ``since``."""
        database = _Database.of(spark, source)
        columns = database.columns(schema)
        place = database.connection.text
        is_merged = source.load == "incremental" and source.watermark is not None
        where, position = "", None
        notes: tuple[str, ...] = ()
        if is_merged:
            where, position, notes = database.select_new(columns, since)
        frame = database.rows(columns, where)
        given = [SourceColumn(column.name, F.col(f"c{i}"), column.arrives, column.type) for i, column in enumerate(columns)]
        records = build_row_records(frame, given, schema, source, place)
        return Extract(replace(records, notes=notes), place, position, is_merged)


@dataclass(frozen=True)
class _Database:
    """A database with its dialect."""

    spark: SparkSession
    source: Source
    connection: JdbcConnection
    dialect: Dialect
    options: Mapping[str, str]

    @classmethod
    def of(cls, spark: SparkSession, source: Source) -> _Database:
        connection = JdbcConnection.of(source)
        known = next((dialect for start, dialect in _DIALECTS.items() if connection.url.startswith(start)), None)
        dialect = GenericDatabase(connection.url) if known is None else known()
        return cls(spark, source, connection, dialect, resolve_options(source, Jdbc.option_names))

    def columns(self, known: T.StructType | None) -> list[DbColumn]:
        """Return the columns of the table or query."""
        spark_types = self._read(f"(SELECT * FROM {self.connection.relation}) tidemill_t").schema
        return self.dialect.columns(self.select_row, self.connection.relation, spark_types, known)

    def select_row(self, expressions: Sequence[str], source: str) -> list[str | None]:
        """Return the texts of the first row of a SELECT, empty without one."""
        names = [f"c{place}" for place in range(len(expressions))]
        selected = ", ".join(f"{sql} AS {self.dialect.quote(name)}" for sql, name in zip(expressions, names, strict=True))
        frame = self._read(f"(SELECT {selected} FROM {source}) tidemill_t", texts=names if self.dialect.reads_texts else ())
        try:
            row = frame.select(*[F.col(name).cast("string") for name in frame.columns]).head()
        except SPARK_ERRORS as error:
            self.connection.raise_error(error)
        return [] if row is None else list(row)

    def select_new(self, columns: Sequence[DbColumn], since: str | None) -> tuple[str, str | None, tuple[str, ...]]:
        """Return the condition for the rows to read now, the position after them, and remarks."""
        column = self._column(columns, str(self.source.watermark), "watermark")
        overlap = parse_overlap(self.source.overlap, self.options.get("overlap"), column.type, column.name)
        before = WatermarkPosition.parse_for(since, column.name, column.type)
        notes = () if since is None or before else ("the watermark is another one than before: all rows are read and merged again",)
        name, order = self.dialect.quote(column.name), self.dialect.order(column)
        newer = None if before is None else f"{name} > {self.dialect.literal(before.value, column)}"
        highest = self.dialect.text(f"MAX({name})", column)
        row = self.select_row([highest], f"{self.connection.relation} WHERE {all_of([order.comparable, newer])}")
        value = (row[0] if row else None) or (before.value if before else None)
        always = f"{name} IS NULL" + (f" OR {order.others}" if order.others else "")
        if value is None:
            return always, None, notes
        position = WatermarkPosition(column.name, column.type.simpleString(), value)
        least = (
            None if before is None else f"{name} >= {self.dialect.subtract(self.dialect.literal(before.value, column), overlap, column)}"
        )
        return f"{always} OR ({all_of([order.comparable, self.dialect.at_most(value, column), least])})", position.to_json(), notes

    def rows(self, columns: Sequence[DbColumn], where: str) -> DataFrame:
        """Return the rows as columns ``c0``, ``c1`` … with the values of the dialect."""
        names = [f"c{place}" for place in range(len(columns))]
        selected = [f"{column.sql} AS {self.dialect.quote(name)}" for column, name in zip(columns, names, strict=True)]
        parts = None
        if "partitionColumn" in self.options:
            column = self._column(columns, self.options["partitionColumn"], "options.partitionColumn")
            selected.append(f"{self.dialect.quote(column.name)} AS {self.dialect.quote(ALIAS)}")
            parts = self._partition_predicates(column, where)
        text = f"(SELECT {', '.join(selected)} FROM {self.connection.relation} WHERE {where or '1 = 1'}) tidemill_t"
        return self._read(text, texts=names if self.dialect.reads_texts else (), parts=parts).select(*names)

    def _partition_predicates(self, column: DbColumn, where: str) -> list[str]:
        """Return a condition on ``ALIAS`` for each partition.

        The bounds only decide where to cut: rows beyond them are read too, and nulls are in the first partition. Bounds that are not
        given are looked up by one query.
        """
        dialect, alias = self.dialect, self.dialect.quote(ALIAS)
        scale, count = _scale(column), _parse_count(self.options.get("numPartitions"), task_slots(self.spark))
        low, high = self.options.get("lowerBound"), self.options.get("upperBound")
        if low is None or high is None:
            name = dialect.quote(column.name)
            limits = [dialect.text(f"MIN({name})", column), dialect.text(f"MAX({name})", column)]
            least, greatest = self.select_row(
                limits, f"{self.connection.relation} WHERE {all_of([where, dialect.order(column).comparable])}"
            )
            low, high = low or least, high or greatest
        if low is None or high is None or count == 1:
            return ["1 = 1"]
        cuts = [dialect.literal(cut, column) for cut in _list_cuts(low, high, count, column, scale)]
        if not cuts:
            return ["1 = 1"]
        between = [f"{alias} >= {start} AND {alias} < {end}" for start, end in pairwise(cuts)]
        return [f"{alias} < {cuts[0]} OR {alias} IS NULL", *between, f"{alias} >= {cuts[-1]}"]

    def _column(self, columns: Sequence[DbColumn], name: str, what: str) -> DbColumn:
        spelled = find_column(name, [column.name for column in columns], what, self.connection.text)
        return next(column for column in columns if column.name == spelled)

    def _read(self, relation: str, *, texts: Sequence[str] = (), parts: list[str] | None = None) -> DataFrame:
        """Read a relation; the columns ``texts`` are read as text whatever their type."""
        given = {name: value for name, value in self.options.items() if name not in _OURS}
        if "sessionInitStatement" in given and "sessionInitStatement" in self.dialect.properties:
            given["sessionInitStatement"] = f"{self.dialect.properties['sessionInitStatement']}; {given['sessionInitStatement']}"
        properties = {**self.dialect.properties, **self.connection.properties, **given}
        if texts:
            properties["customSchema"] = ", ".join(f"{name} STRING" for name in texts)
        try:
            if parts is None:
                return self.spark.read.jdbc(self.connection.url, relation, properties=properties)
            return self.spark.read.jdbc(self.connection.url, relation, predicates=parts, properties=properties)
        except (*SPARK_ERRORS, TidemillError) as error:
            self.connection.raise_error(error)
