"""The lake's tables under their names, in one session, for reading with SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from tidemill.errors import TableNotFound, UsageError, did_you_mean
from tidemill.lake.delta_tables import has_table
from tidemill.lake.repair import refuse_faults
from tidemill.lake.safety import Reading, find_unsafe_parts, parse_reading
from tidemill.lake.sql import require_one_statement, table_names
from tidemill.lake.tables import Lake
from tidemill.lake.views import find_view, list_views
from tidemill.quoting import LAYERS, is_local, quote_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql import types as T


def read_batches(frame: DataFrame) -> pa.RecordBatchReader:
    """Return the rows of ``frame`` in their order, fetched partition by partition.

    Column names (of structs too) are unique: ``x``, ``x_2``. What Arrow or its readers do not know (intervals, variants, times of day)
    is text, as Spark casts it.
    """
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import to_arrow_schema

    frame = frame.toDF(*unique_names(frame.columns))
    kinds = {part.name: _plain(part.dataType) for part in frame.schema.fields}
    columns = [
        F.col(quote_name(part.name)).cast(kinds[part.name]).alias(part.name)
        if kinds[part.name] != part.dataType
        else F.col(quote_name(part.name))
        for part in frame.schema.fields
    ]
    frame = frame.select(*columns)
    schema = to_arrow_schema(frame.schema, timezone="UTC")
    return pa.RecordBatchReader.from_batches(schema, _batches(frame, schema))


def _batches(frame: DataFrame, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    plan = getattr(frame, "_jdf", None)
    if plan is None:  # Spark Connect, which streams results by itself
        yield from frame.toArrow().to_batches()
        return
    messages = plan.toArrowBatchRdd().toJavaRDD().toLocalIterator()
    while messages.hasNext():
        yield pa.ipc.read_record_batch(pa.py_buffer(bytes(messages.next())), schema)


def unique_names(names: Sequence[str]) -> list[str]:
    """Return the names with a number after each repetition: ``x``, ``x_2``; never the name of another column."""
    taken, unique = set(names), list[str]()
    used = set[str]()
    for name in names:
        number, shown = 2, name
        while shown in used or (shown != name and shown in taken):
            shown, number = f"{name}_{number}", number + 1
        used.add(shown)
        unique.append(shown)
    return unique


def _plain(kind: T.DataType) -> T.DataType:
    """Return the type that a column is cast to: the same where all readers of Arrow know it and its fields have unique names."""
    from pyspark.sql import types as T

    if isinstance(kind, T.StructType):
        names = unique_names([part.name for part in kind.fields])
        return T.StructType(
            [T.StructField(name, _plain(part.dataType), part.nullable) for name, part in zip(names, kind.fields, strict=True)]
        )
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(_plain(kind.elementType), kind.containsNull)
    if isinstance(kind, T.MapType):
        return T.MapType(_plain(kind.keyType), _plain(kind.valueType), kind.valueContainsNull)
    has_no_arrow = isinstance(kind, T.DayTimeIntervalType | T.YearMonthIntervalType | T.CalendarIntervalType | T.VariantType)
    return T.StringType() if has_no_arrow or kind.typeName().startswith("time(") or kind.typeName() == "time" else kind


_READING = ("SELECT", "WITH", "FROM", "VALUES", "TABLE")
_DESCRIBING = ("SHOW", "DESCRIBE", "DESC", "EXPLAIN")


class Catalog:
    """Registers tables in the session when a query first names them; nothing outlives the process.

    A name denotes one table of a session. Names of a lake that was queried before are removed first.
    """

    _owner: ClassVar[Catalog | None] = None
    _names_in_session: ClassVar[set[str]] = set()
    _views_in_session: ClassVar[set[str]] = set()

    def __init__(self, spark: SparkSession, lake: Lake) -> None:
        """Make the layers known as schemas.

        Raises:
            UsageError: an earlier version of tidemill has written the lake.
        """
        lake.ledger.refuse_earlier_layout()
        self._spark, self._lake = spark, lake
        self._registered: set[str] = set()
        for layer in LAYERS:
            spark.sql(f"CREATE SCHEMA IF NOT EXISTS {layer}")

    def _take_session(self) -> None:
        """Drop the names of another lake from the session; their tables are left as they are."""
        owner = Catalog._owner
        if owner is self:
            return
        if owner is not None and owner._lake.root != self._lake.root:
            for name in Catalog._views_in_session:
                self._spark.sql(f"DROP VIEW IF EXISTS {name}")
            for name in Catalog._names_in_session - Catalog._views_in_session:
                self._spark.sql(f"DROP TABLE IF EXISTS {name}")
            Catalog._names_in_session, Catalog._views_in_session = set(), set()
        Catalog._owner, self._registered = self, set()

    @staticmethod
    def check(query: str) -> None:
        """Refuse what is surely not one reading statement, before anything starts; Spark's own parser has the last word in ``query``.

        Raises:
            UsageError: it is no single statement, writes (tables are written by steps alone, so that every row has a run), runs programs
                or foreign code, or reads something else than the lake.
        """
        statement = require_one_statement(query)
        if statement.first_word not in (*_READING, *_DESCRIBING):
            allowed = "SELECT, WITH, SHOW, DESCRIBE, EXPLAIN"
            raise UsageError(f"`tidemill sql` only reads: {allowed}; tables are written by the pipeline's steps (--trust lifts this)")
        if statement.first_word in _DESCRIBING:
            return
        try:
            unsafe = find_unsafe_parts(query)
        except UsageError:
            return  # Spark knows more SQL than the parser that needs no Spark
        if unsafe:
            raise UsageError(f"line {unsafe[0].line}, column {unsafe[0].column}: {unsafe[0]}; --trust lifts this")

    def tables(self) -> list[str]:
        """Return the names of all tables and views of the lake."""
        names = list_tables(self._lake)
        return sorted([*names, *list_views(names)])

    def query(self, query: str, *, trust: bool = False) -> DataFrame:
        """Return what the statement gives; with ``trust`` it may do whatever Spark can.

        Raises:
            UsageError: it does more than read the lake, and is not trusted.
            TableNotFound: it names a table that the lake does not hold.
        """
        statement = require_one_statement(query).text
        self._take_session()
        if trust:
            self._register_all()
            return self._spark.sql(statement)
        self.check(query)
        try:
            reading = parse_reading(self._spark, statement)
        except UsageError as error:
            raise UsageError(f"{error}; --trust lifts this") from error
        if reading is None:
            for table in sorted(table_names(statement)):
                self._register(table)
            return self._spark.sql(statement)
        if reading.is_description:
            self._register_all()
        for parts in sorted(reading.tables):
            if len(parts) == 2 and not reading.is_description:
                self._register(f"{parts[0].lower()}.{parts[1]}")
        return self._list(reading) if reading.is_of_all else self._spark.sql(statement)

    def _list(self, reading: Reading) -> DataFrame:
        """Return the result of SHOW TABLES or SHOW VIEWS over all layers: none of them is the session's current schema."""
        from pyspark.sql import DataFrame

        noun = "TABLES" if reading.kind == "ShowTables" else "VIEWS"
        like = "" if reading.pattern is None else " LIKE '" + reading.pattern.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return reduce(DataFrame.unionAll, [self._spark.sql(f"SHOW {noun} IN {layer}{like}") for layer in LAYERS])

    def _register_all(self) -> None:
        for table in self.tables():
            self._register(table)

    def _register(self, table: str) -> None:
        if table in self._registered:
            return
        is_table = self._lake.exists(table)
        view = None if is_table else find_view(table)
        if view is not None and all(map(self._lake.exists, view.reads)):
            for base in view.reads:
                self._register(base)
            self._spark.sql(f"CREATE OR REPLACE VIEW {table} AS {view.query(self._spark.table(view.reads[0]).columns)}")
            Catalog._views_in_session.add(table)
        elif is_table:
            refuse_faults(self._lake, [table])
            place = self._lake.path(table).replace("\\", "\\\\").replace("'", "\\'")
            self._spark.sql(f"CREATE TABLE IF NOT EXISTS {table} USING delta LOCATION '{place}'")
        else:
            known = self.tables()
            hint = did_you_mean(table, known) or ";"
            raise TableNotFound(f"{table} is not in {self._lake.root}{hint} it holds {', '.join(known) or 'no table yet'}")
        self._registered.add(table)
        Catalog._names_in_session.add(table)


def list_tables(lake: Lake, layers: Sequence[str] = LAYERS) -> list[str]:
    """Return the tables of these layers as ``layer.name``, layer by layer, sorted in each; starts no JVM."""
    return [f"{layer}.{name}" for layer in layers for name in _names(lake, layer)]


def _names(lake: Lake, layer: str) -> list[str]:
    if is_local(lake.root):
        folder = Path(lake.root) / layer
        return sorted(entry.name for entry in folder.iterdir() if has_table(str(entry))) if folder.is_dir() else []
    from pyarrow import fs

    filesystem, base = fs.FileSystem.from_uri(lake.root)
    entries = filesystem.get_file_info(fs.FileSelector(f"{base}/{layer}", allow_not_found=True))
    return sorted(entry.base_name for entry in entries if entry.type == fs.FileType.Directory)


def query_lake(lake: Lake, query: str, start_spark: Callable[[], SparkSession], *, trust: bool = False) -> DataFrame:
    """Return what one SQL statement over a lake gives, as a Spark frame; see `tidemill.Pipeline.sql`.

    What is surely refused is refused before Spark starts. Use the frame within `as_usage_errors` too: it is computed only then.
    """
    if not trust:
        Catalog.check(query)
    with as_usage_errors():
        return Catalog(start_spark(), lake).query(query, trust=trust)


@contextmanager
def as_usage_errors() -> Iterator[None]:
    """Convert Spark's error about a wrong statement into a UsageError of one sentence."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    from tidemill.runtime.spark_errors import format_spark_error

    try:
        yield
    except TableNotFound as error:
        raise UsageError(str(error)) from error
    except (PySparkException, Py4JJavaError) as error:
        raise UsageError(f"the query cannot be answered: {format_spark_error(error)}") from error
