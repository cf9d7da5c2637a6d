"""Sources without files, for tests: a list of rows in a JSON file, asked by position or merged by key."""

from __future__ import annotations

import json
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE
from tidemill.sources.records import IS_HEADER, RAW, RULES, Extract, Records, no_rules, row_hash
from tidemill.spec.models import Source

SCHEMA = T.StructType().add("id", T.IntegerType()).add("name", T.StringType()).add("at", T.IntegerType())


class Log:
    """Appended rows; the position is how many there were. A row named "bad" is refused, one named "more" has a field beside the schema."""

    is_merged = False

    def infer(self, spark: SparkSession, source: Source) -> T.StructType:
        return SCHEMA

    def extract(self, spark: SparkSession, source: Source, schema: T.StructType, since: str | None) -> Extract:
        rows = json.loads(Path(str(source.url)).read_text())
        start = int(json.loads(since)["n"]) if since else 0
        return self._extract(spark, schema, rows[start:], json.dumps({"n": len(rows)}))

    def _extract(self, spark: SparkSession, schema: T.StructType, rows: list, position: str) -> Extract:
        frame = spark.createDataFrame([tuple(row) for row in rows], SCHEMA)
        bad = F.col("name") == "bad"
        frame = frame.select(
            *schema.names,
            F.lit("fake://rows").alias(SOURCE_FILE),
            row_hash(F.to_json(F.struct(*SCHEMA.names))).alias(ROW_HASH),
            F.when(F.col("name") == "more", '{"field":1}').alias(RESCUED),
            F.when(bad, F.to_json(F.struct(*SCHEMA.names))).alias(RAW),
            F.when(bad, F.array(F.lit("bad"))).otherwise(no_rules()).alias(RULES),
            F.lit(False).alias(IS_HEADER),
        )
        return Extract(Records(frame), "fake://rows", position, self.is_merged)


class Table(Log):
    """Rows that change; the position is the greatest ``at``, and what lies two behind it is read again."""

    is_merged = True

    def extract(self, spark: SparkSession, source: Source, schema: T.StructType, since: str | None) -> Extract:
        rows = json.loads(Path(str(source.url)).read_text())
        low = json.loads(since)["at"] - 2 if since else 0
        return self._extract(spark, schema, [row for row in rows if row[2] >= low], json.dumps({"at": max(row[2] for row in rows)}))
