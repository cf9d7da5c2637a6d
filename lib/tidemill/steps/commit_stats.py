"""Row counts of commits and tables from the Delta log, without a Spark job; and empty frames."""

from __future__ import annotations

from pyspark.sql import DataFrame

from tidemill.lake import Lake
from tidemill.lake.delta_tables import query


def count_written_rows(lake: Lake, table: str, version: int) -> int | None:
    """Return the number of rows that the commit of this version wrote, None where the log does not say."""
    for entry in lake.history(table, 20):
        if entry.get("version") == version:
            rows = entry.get("operationMetrics", {}).get("numOutputRows")
            return None if rows is None else int(rows)
    return None


def make_empty_frame(frame: DataFrame) -> DataFrame:
    """Return a frame of the same columns without rows, so that writing an empty table does not compute ``frame``."""
    return frame.sparkSession.createDataFrame([], frame.schema)


def is_empty_table(lake: Lake, table: str) -> bool:
    """Return True where the table exists and holds no row."""
    return lake.exists(table) and not lake.open(table).file_uris()


def has_matching_rows(lake: Lake, table: str, condition: str) -> bool:
    """Return True where the table has rows that meet the SQL condition; starts no Spark job."""
    if not lake.exists(table):
        return False
    [row] = query(lake.open(table), f"SELECT count(*) AS n FROM rows WHERE {condition}").to_pylist()
    return bool(row["n"])
