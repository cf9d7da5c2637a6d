"""A Delta table that lies elsewhere: as it is at a version, or its change feed."""

from __future__ import annotations

import json

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import table_columns
from tidemill.errors import SourceError, UsageError
from tidemill.quoting import quoted
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.sources.kinds import Delta
from tidemill.sources.options import checked_options
from tidemill.sources.records import Extract
from tidemill.sources.rows import given_columns, row_records
from tidemill.sources.schema.declared import checked_schema
from tidemill.sources.secrets import mask_path, reveal_path
from tidemill.spec.models import Source

_FAILURES = (PySparkException, Py4JJavaError)


class DeltaRows:
    """A Delta table.

    ``load: full`` reads it at ``versionAsOf`` or ``timestampAsOf``, else at its latest version. ``load: incremental`` reads it whole
    once, as inserts, then the change feed behind the version that was read; ``_change_type``, ``_commit_version`` and
    ``_commit_timestamp`` are columns of the records.
    """

    def infer(self, spark: SparkSession, source: Source) -> T.StructType:
        """Return the columns of the table, and those of its feed."""
        fields = self.extract_frame(spark, source, None)[0].schema.fields
        names = table_columns([part.name for part in fields])
        return checked_schema([T.StructField(name, part.dataType) for name, part in zip(names, fields, strict=True)])

    def extract(self, spark: SparkSession, source: Source, schema: T.StructType, since: str | None) -> Extract:
        """Return the rows, or the changes behind ``since``."""
        frame, position = self.extract_frame(spark, source, since)
        path = mask_path(reveal_path(source.paths[0]), source)
        return Extract(row_records(frame, given_columns(frame), schema, source, path), path, position)

    def extract_frame(self, spark: SparkSession, source: Source, since: str | None) -> tuple[DataFrame, str | None]:
        """Return what is to be read now as it is, and the position behind it.

        Raises:
            UsageError: the table has no change feed, or is another one than before.
            SourceError: it cannot be read, or its changes are gone.
        """
        path, options = reveal_path(source.paths[0]), checked_options(source, Delta.option_names)
        try:
            if source.load == "full":
                return spark.read.format("delta").options(**options).load(path), None
            detail = spark.sql(f"DESCRIBE DETAIL delta.{quoted(path)}").select("id", "properties").head()
            latest = spark.sql(f"DESCRIBE HISTORY delta.{quoted(path)} LIMIT 1").select("version", "timestamp").head()
        except _FAILURES as error:
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
        return _changes(spark, path, before["version"] + 1, latest["version"]), position


def _changes(spark: SparkSession, path: str, start: int, end: int) -> DataFrame:
    """Return the changes of these versions, having made sure that their files are still there."""
    reader = spark.read.format("delta").option("readChangeFeed", "true")
    if start > end:
        return reader.option("startingVersion", end).option("endingVersion", end).load(path).limit(0)
    try:
        frame = reader.option("startingVersion", start).option("endingVersion", end).load(path)
        frame.agg(F.count(F.lit(1))).head()
    except _FAILURES as error:
        raise SourceError(
            f"{path}: the changes of versions {start} to {end} are not all there any more ({format_spark_error(error)}); "
            "load it once with `load: full`, and keep its log and change files longer than the time between two runs"
        ) from error
    return frame
