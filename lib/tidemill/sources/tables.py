"""Read Delta tables and Python DataSources, and wrap source classes of users."""

from __future__ import annotations

import json
from functools import reduce
from hashlib import sha256
from operator import or_
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.datasource import DataSource

from tidemill.columns import column
from tidemill.errors import SourceError, UsageError
from tidemill.quoting import quote_name
from tidemill.runtime.secrets import reveal
from tidemill.runtime.spark_errors import SPARK_ERRORS, format_spark_error
from tidemill.sources.kinds import Delta
from tidemill.sources.options import mask_path, resolve_options, reveal_path
from tidemill.sources.records import Extract
from tidemill.sources.rows import WatermarkPosition, build_row_records, find_column, list_columns, parse_overlap
from tidemill.sources.schema.types import TIME_TYPES, to_table_schema
from tidemill.spec.models import Source
from tidemill.spec.models.source_kinds import FileKind, QueryKind, SourceKind


class DeltaRows:
    """A Delta table.

    ``load: full`` reads it at ``versionAsOf`` or ``timestampAsOf``, else at its latest version. ``load: incremental`` first reads all rows
    as inserts, then the change feed from the version after. The records have the columns ``_change_type``, ``_commit_version`` and
    ``_commit_timestamp``.
    """

    def infer(self, spark: SparkSession, source: Source) -> T.StructType:
        """Return the columns of the table and of its change feed."""
        return to_table_schema(self.read_frame(spark, source, None)[0].schema.fields)

    def extract(self, spark: SparkSession, source: Source, schema: T.StructType, since: str | None) -> Extract:
        """Return the rows, or the changes after ``since``."""
        frame, position = self.read_frame(spark, source, since)
        path = mask_path(reveal_path(source.paths[0]), source)
        return Extract(build_row_records(frame, list_columns(frame), schema, source, path), path, position)

    def read_frame(self, spark: SparkSession, source: Source, since: str | None) -> tuple[DataFrame, str | None]:
        """Return the rows to read now, and the position after them.

        Raises:
            UsageError: the table has no change feed, or is not the one that was read before.
            SourceError: it cannot be read, or its changes are gone.
        """
        path, options = reveal_path(source.paths[0]), resolve_options(source, Delta.option_names)
        try:
            if source.load == "full":
                return spark.read.format("delta").options(**options).load(path), None
            detail = spark.sql(f"DESCRIBE DETAIL delta.{quote_name(path)}").select("id", "properties").head()
            latest = spark.sql(f"DESCRIBE HISTORY delta.{quote_name(path)} LIMIT 1").select("version", "timestamp").head()
        except SPARK_ERRORS as error:
            raise SourceError(
                f"{path}: {format_spark_error(error)}; give the folder of a Delta table, and a version that it still has"
            ) from error
        assert detail is not None
        assert latest is not None
        if (detail["properties"] or {}).get("delta.enableChangeDataFeed", "false").lower() != "true":
            raise UsageError(
                f"{path} has no change feed; ALTER TABLE delta.`{path}` SET TBLPROPERTIES (delta.enableChangeDataFeed = true), "
                "or write `load: full`"
            )
        position = json.dumps({"table": detail["id"], "version": latest["version"]})
        if since is None:
            whole = spark.read.format("delta").option("versionAsOf", latest["version"]).load(path)
            stamp = {"_change_type": F.lit("insert"), "_commit_version": F.lit(latest["version"]).cast("bigint")}
            return whole.withColumns({**stamp, "_commit_timestamp": F.lit(latest["timestamp"]).cast("timestamp")}), position
        before = json.loads(since)
        if before["table"] != detail["id"] or before["version"] > latest["version"]:
            raise UsageError(f"{path} is another table than the one read before; load it once with `load: full`")
        return _read_change_feed(spark, path, before["version"] + 1, latest["version"]), position


def _read_change_feed(spark: SparkSession, path: str, start: int, end: int) -> DataFrame:
    """Return the changes of these versions, after a check that their files still exist."""
    reader = spark.read.format("delta").option("readChangeFeed", "true")
    if start > end:
        return reader.option("startingVersion", end).option("endingVersion", end).load(path).limit(0)
    try:
        frame = reader.option("startingVersion", start).option("endingVersion", end).load(path)
        frame.agg(F.count(F.lit(1))).head()
    except SPARK_ERRORS as error:
        raise SourceError(
            f"{path}: the changes of versions {start} to {end} are not all there any more ({format_spark_error(error)}); "
            "load it once with `load: full`, and keep its log and change files longer than the time between two runs"
        ) from error
    return frame


def wrap_source_class(name: str, definition: Any) -> SourceKind:
    """Return a source kind for a user's class.

    Raises:
        TypeError: the class has none of the interfaces of a source.
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
    """A user's class with the methods ``infer`` and ``read`` of `FileKind`, and optionally attributes of it."""

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
    """A user's class with the methods ``infer`` and ``extract`` of `QueryKind`, and optionally ``complete_schema``."""

    def __init__(self, name: str, definition: Any) -> None:
        """Take the class."""
        super().__init__(name)
        self._definition = definition

    def complete_schema(self, source: Source, schema: T.StructType) -> T.StructType:
        """Return the schema, completed by the class if it does that."""
        complete = getattr(self._definition, "complete_schema", None)
        return schema if complete is None else complete(self._definition(), source, schema)

    def _reader(self) -> Any:
        return self._definition()


class PythonDataSource(QueryKind):
    """A Python DataSource.

    ``load: full`` reads all rows. ``load: incremental`` looks up the greatest watermark first, then reads the rows up to it and from the
    previous greatest one minus the overlap, and rows without a watermark. They are merged by the key.
    """

    def __init__(self, name: str, definition: type[DataSource]) -> None:
        """Take the user's class."""
        super().__init__(name)
        self._definition = definition
        place = f"{definition.__module__}.{definition.__qualname__}"
        self._registered_name = f"tidemill_{definition.__name__}_{sha256(place.encode()).hexdigest()[:8]}".lower()

    def infer(self, spark: SparkSession, source: Source) -> T.StructType:
        """Return the DataSource's declared columns."""
        return to_table_schema(self._frame(spark, source).schema.fields)

    def extract(self, spark: SparkSession, source: Source, schema: T.StructType, since: str | None) -> Extract:
        """Return the rows, with a watermark those after ``since``."""
        if source.load == "incremental" and not (source.watermark and source.key):
            raise UsageError(f"`load: incremental` of {source.format} needs `watermark:` and `key:`, or write `load: full`")
        frame, place, position = self._frame(spark, source), source.format, None
        is_merged = source.load == "incremental" and source.watermark is not None
        if is_merged:
            frame, position = _select_new_rows(frame, source, since)
        records = build_row_records(frame, list_columns(frame), schema, source, place)
        return Extract(records, place, position, is_merged)

    def _frame(self, spark: SparkSession, source: Source) -> DataFrame:
        # A unique name, so that built-in ones such as "csv" are not shadowed.
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


def _select_new_rows(frame: DataFrame, source: Source, since: str | None) -> tuple[DataFrame, str | None]:
    name = find_column(str(source.watermark), frame.columns, "watermark", source.format)
    kind = frame.schema[name].dataType
    number = source.options.get("overlap")
    overlap = parse_overlap(source.overlap, None if number is None else str(number), kind, name)
    before, mark = WatermarkPosition.parse_for(since, name, kind), column(name)
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
            least = least.cast("timestamp") - seconds if isinstance(kind, TIME_TYPES) else least - F.lit(overlap.amount)
        conditions.append(mark >= least)
    is_in_range = conditions[0] if len(conditions) == 1 else conditions[0] & conditions[1]
    return frame.where(reduce(or_, [mark.isNull(), is_in_range])), WatermarkPosition(name, kind.simpleString(), value).to_json()
