"""What a commit wrote, by the table's own account in Delta's log; and what to write where there is nothing to write."""

from __future__ import annotations

from pyspark.sql import DataFrame

from tidemill.lake import Lake
from tidemill.lake.delta_tables import query


def rows_written(lake: Lake, table: str, version: int) -> int | None:
    """Return the rows that the commit of this version wrote, None where its entry in the log does not say."""
    for entry in lake.history(table, 20):
        if entry.get("version") == version:
            rows = entry.get("operationMetrics", {}).get("numOutputRows")
            return None if rows is None else int(rows)
    return None


def blank(frame: DataFrame) -> DataFrame:
    """Return a frame of the same columns without rows, so that writing an empty table does not compute ``frame`` to find none."""
    return frame.sparkSession.createDataFrame([], frame.schema)


def is_blank(lake: Lake, table: str) -> bool:
    """Return True where the table exists and holds no row."""
    return lake.exists(table) and not lake.open(table).file_uris()


def holds(lake: Lake, table: str, condition: str) -> bool:
    """Return True where the table has rows that meet the SQL condition; starts no Spark job."""
    if not lake.exists(table):
        return False
    [found] = query(lake.open(table), f"SELECT count(*) AS n FROM rows WHERE {condition}").to_pylist()
    return bool(found["n"])
