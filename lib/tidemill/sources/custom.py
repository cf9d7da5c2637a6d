"""Kinds of sources that users write: a class that reads, or a ``pyspark.sql.datasource.DataSource``."""

from __future__ import annotations

from functools import reduce
from hashlib import sha256
from operator import or_
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.datasource import DataSource

from tidemill.column_names import table_columns
from tidemill.columns import column
from tidemill.errors import SourceError, UsageError
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.sources.records import Extract
from tidemill.sources.rows import given_columns, known_column, row_records
from tidemill.sources.schema.declared import checked_schema
from tidemill.sources.secrets import reveal, reveal_path
from tidemill.sources.watermarks import Position, overlap_of
from tidemill.spec.models import Source
from tidemill.spec.models.source_kinds import FileKind, QueryKind, SourceKind

_TIMES = (T.DateType, T.TimestampType, T.TimestampNTZType)


def kind_of(name: str, definition: Any) -> SourceKind:
    """Return the kind that a class of the user's own is.

    Raises:
        TypeError: it has none of the interfaces of a source.
    """
    if isinstance(definition, type) and issubclass(definition, DataSource):
        return PythonDataSource(name, definition)
    if isinstance(definition, type) and hasattr(definition, "infer"):
        if hasattr(definition, "read"):
            return CustomFiles(name, definition)
        if hasattr(definition, "extract"):
            return CustomQuery(name, definition)
    raise TypeError("expected a FileKind, a QueryKind, a DataSource, or a class with `infer` and one of `read` and `extract`")


class CustomFiles(FileKind):
    """A class of the user's own with the methods ``infer`` and ``read`` of `FileKind`, and those of its attributes that it needs."""

    needs_path = False

    def __init__(self, name: str, definition: Any) -> None:
        """Take the class."""
        super().__init__(name)
        self._definition = definition
        self.takes_empty_files = bool(getattr(definition, "takes_empty_files", False))
        self.tells_columns_by_record = bool(getattr(definition, "tells_columns_by_record", False))

    def _reader(self) -> Any:
        return self._definition()


class CustomQuery(QueryKind):
    """A class of the user's own with the methods ``infer`` and ``extract`` of `QueryKind`, and ``complete_schema`` where it needs that."""

    def __init__(self, name: str, definition: Any) -> None:
        """Take the class."""
        super().__init__(name)
        self._definition = definition

    def complete_schema(self, source: Source, schema: T.StructType) -> T.StructType:
        """Return the schema as the class completes it."""
        complete = getattr(self._definition, "complete_schema", None)
        return schema if complete is None else complete(self._definition(), source, schema)

    def _reader(self) -> Any:
        return self._definition()


class PythonDataSource(QueryKind):
    """A Python DataSource.

    ``load: full`` reads it whole. ``load: incremental`` keeps the rows whose watermark is not above the greatest one, which is looked
    up first, and not below the greatest one before less the overlap, and those without a watermark; they are merged by the key.
    """

    def __init__(self, name: str, definition: type[DataSource]) -> None:
        """Take the user's class."""
        super().__init__(name)
        self._definition = definition
        place = f"{definition.__module__}.{definition.__qualname__}"
        self._registered_name = f"tidemill_{definition.__name__}_{sha256(place.encode()).hexdigest()[:8]}".lower()

    def infer(self, spark: SparkSession, source: Source) -> T.StructType:
        """Return the columns that the DataSource declares."""
        fields = self._frame(spark, source).schema.fields
        names = table_columns([part.name for part in fields])
        return checked_schema([T.StructField(name, part.dataType) for name, part in zip(names, fields, strict=True)])

    def extract(self, spark: SparkSession, source: Source, schema: T.StructType, since: str | None) -> Extract:
        """Return the rows, those behind ``since`` where they have a watermark."""
        if source.load == "incremental" and not (source.watermark and source.key):
            raise UsageError(f"`load: incremental` of {source.format} needs `watermark:` and `key:`, or write `load: full`")
        frame, place, position = self._frame(spark, source), source.format, None
        is_merged = source.load == "incremental" and source.watermark is not None
        if is_merged:
            frame, position = _behind(frame, source, since)
        records = row_records(frame, given_columns(frame), schema, source, place)
        return Extract(records, place, position, is_merged)

    def _frame(self, spark: SparkSession, source: Source) -> DataFrame:
        # Under a name of its own: one that is taken already, such as "csv", must not be shadowed.
        name = self._registered_name
        named: Any = type(self._definition.__name__, (self._definition,), {"name": classmethod(lambda _: name)})
        spark.dataSource.register(named)
        options = {key: str(value).lower() if isinstance(value, bool) else reveal(str(value)) for key, value in source.options.items()}
        options.pop("overlap", None)
        if source.paths:
            options["path"] = reveal_path(source.paths[0])
        try:
            return spark.read.format(name).options(**options).load()
        except PySparkException as error:
            raise SourceError(f"{source.format}: {format_spark_error(error)}") from error


def _behind(frame: DataFrame, source: Source, since: str | None) -> tuple[DataFrame, str | None]:
    name = known_column(str(source.watermark), frame.columns, "watermark", source.format)
    kind = frame.schema[name].dataType
    number = source.options.get("overlap")
    overlap = overlap_of(source.overlap, None if number is None else str(number), kind, name)
    before, mark = Position.behind(since, name, kind), column(name)
    row = frame.agg(F.max(mark).cast("string")).head()
    values = [value for value in (row[0] if row else None, before.value if before else None) if value is not None]
    if not values:
        return frame.where(mark.isNull()), None

    def literal(value: str) -> Column:
        return F.lit(value).cast(kind)

    greatest = frame.sparkSession.range(1).select(F.array_max(F.array(*[literal(value) for value in values])).cast("string")).head()
    value = str(greatest[0]) if greatest else values[0]
    conditions = [mark <= literal(value)]
    if before is not None:
        least = literal(before.value)
        if overlap.amount:
            seconds = F.make_interval(secs=F.lit(overlap.amount))
            least = least.cast("timestamp") - seconds if isinstance(kind, _TIMES) else least - F.lit(overlap.amount)
        conditions.append(mark >= least)
    kept = conditions[0] if len(conditions) == 1 else conditions[0] & conditions[1]
    return frame.where(reduce(or_, [mark.isNull(), kept])), Position(name, kind.simpleString(), value).to_json()
