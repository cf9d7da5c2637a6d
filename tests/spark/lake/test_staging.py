"""Rows staged below a table: taken in by one commit that every reader understands, or gone without a trace."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import functions as F

from tidemill.errors import LakeError

TABLE = "bronze.t"
WIDE = (
    "id INT, name STRING, price DECIMAL(9,2), ratio DOUBLE, day DATE, at TIMESTAMP, local TIMESTAMP_NTZ, is_good BOOLEAN, bytes BINARY, "
    "parts ARRAY<STRUCT<a: INT, b: STRING>>, marks MAP<STRING, BIGINT>, `größe` STRING, fate STRING"
)


@pytest.fixture
def rows(spark):
    """Rows with every kind of column that a source may have, one refused."""
    sql = """
        SELECT CAST(id AS INT) AS id, concat('ü', id) AS name, CAST(id + 0.25 AS DECIMAL(9,2)) AS price, id / 3D AS ratio,
               date_add(DATE'2013-01-01', CAST(id AS INT)) AS day, TIMESTAMP'1969-12-31 23:59:59.123456' AS at,
               TIMESTAMP_NTZ'2013-03-10 02:30:00' AS local, id % 2 = 0 AS is_good, CAST(CAST(id AS STRING) AS BINARY) AS bytes,
               array(named_struct('a', CAST(id AS INT), 'b', 'x')) AS parts, map('k', id) AS marks,
               IF(id = 1, NULL, 'v') AS `größe`, IF(id = 3, 'refused', 'good') AS fate
        FROM range(5)"""
    frame = spark.sql(sql)
    assert frame.schema.simpleString() == spark.createDataFrame([], WIDE).schema.simpleString()
    return frame


def values(frame) -> list[dict]:
    """Return all rows, in one order."""
    return sorted((row.asDict(recursive=True) for row in frame.collect()), key=lambda row: (row["id"], repr(row)))


def good(frame):
    return frame.where("fate = 'good'").drop("fate")


def stages(lake) -> list[Path]:
    return sorted(Path(lake.path(TABLE)).glob("stage-*"))


def test_a_part_is_taken_in_as_if_it_had_been_written(spark, lake, rows) -> None:
    for n in (1, 2):
        with lake.stage_rows(rows, TABLE, "fate") as kept:
            assert values(kept.frame) == values(rows)
            assert lake.version(TABLE) == (None if n == 1 else 0)
            version = lake.append_once(good(kept.frame), TABLE, app="a", n=n, meta={"n": n}, part=kept.part("good"))
        assert version == n - 1
        assert not list(Path(lake.path(TABLE)).glob("*.parquet")), "rows were written a second time"
    twice = good(rows).unionByName(good(rows))
    assert values(lake.read(spark, TABLE)) == values(twice)
    assert lake.read(spark, TABLE).schema.simpleString() == twice.schema.simpleString()
    table = DeltaTable(lake.path(TABLE))
    assert sorted(table.to_pyarrow_dataset().to_table()["id"].to_pylist()) == [0, 0, 1, 1, 2, 2, 4, 4]
    told = table.history(1)[0]
    assert (json.loads(told["userMetadata"])["n"], table.transaction_version("a")) == (2, 2)
    # Spark finds the rows by the statistics of the files, and goes on writing to the table.
    assert [row.id for row in lake.read(spark, TABLE).where("id > 2 AND name > 'ü2'").collect()] == [4, 4]
    lake.append_once(good(rows), TABLE, app="a", n=3, meta={})
    assert lake.read(spark, TABLE).count() == 12
    # No file of the refused rows is left, and cleaning up takes none of those that the table holds.
    assert {path.parent.name for path in Path(lake.path(TABLE)).rglob("stage-*/*/*.parquet")} == {"tidemill-part=good"}
    spark.sql(f"VACUUM delta.`{lake.path(TABLE)}`")
    table.update_incremental()
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    assert lake.read(spark, TABLE).count() == 12


def test_replacing_takes_the_schema_too(spark, lake, rows) -> None:
    lake.replace(spark.range(3), TABLE, meta={})
    with lake.stage_rows(rows, TABLE, "fate") as kept:
        assert lake.replace(good(kept.frame), TABLE, meta={}, part=kept.part("good")) == 2  # a commit before it lets in local times
    assert values(lake.read(spark, TABLE)) == values(good(rows))
    assert lake.read(spark, TABLE, 0).count() == 3


def test_a_stage_that_nothing_came_of_is_gone(spark, lake, rows) -> None:
    with pytest.raises(ValueError, match="stop"), lake.stage_rows(rows, TABLE, "fate"):
        raise ValueError("stop")
    assert not Path(lake.path(TABLE)).exists()
    lake.replace(good(rows), TABLE, meta={})
    before = sorted(Path(lake.path(TABLE)).rglob("*"))
    with lake.stage_rows(rows, TABLE, "fate") as kept:
        assert (kept.frame.count(), lake.read(spark, TABLE).count()) == (5, 4)
    assert sorted(Path(lake.path(TABLE)).rglob("*")) == before


def test_what_a_dead_process_left_goes_and_a_living_one_keeps_its_own(lake, rows) -> None:
    with lake.stage_rows(rows, TABLE, "fate") as kept:
        lake.replace(good(kept.frame), TABLE, meta={}, part=kept.part("good"))
    [taken] = stages(lake)
    dead, living = (Path(lake.path(TABLE)) / f"stage-{name}" for name in ("dead", "living"))
    for folder in (dead, living):
        (folder / "tidemill-part=good").mkdir(parents=True)
        (folder / "_unfinished").touch()
    # One killed behind its commit leaves its mark on files that the table holds.
    (taken / "_unfinished").touch()
    (taken / "tidemill-part=refused").mkdir()
    with (living / "_unfinished").open() as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        with lake.stage_rows(rows, TABLE, "fate"):
            pass
        assert stages(lake) == sorted([taken, living])
    assert [entry.name for entry in taken.iterdir() if not entry.name.startswith(".")] == ["tidemill-part=good"]
    assert DeltaTable(lake.path(TABLE)).to_pyarrow_dataset().count_rows() == 4


def test_a_table_that_is_not_plain_is_written_by_spark(spark, lake, rows) -> None:
    narrow = rows.select("id", "name", "fate")
    for name, properties in {"mapped": "'delta.columnMapping.mode' = 'name'", "vectors": "'delta.enableDeletionVectors' = 'true'"}.items():
        path = lake.path(f"bronze.{name}")
        spark.sql(f"CREATE TABLE delta.`{path}` (id INT, name STRING) USING delta TBLPROPERTIES ({properties})")
        with lake.stage_rows(narrow, f"bronze.{name}", "fate") as kept:
            lake.append_once(good(kept.frame), f"bronze.{name}", app="a", n=1, meta={}, part=kept.part("good"))
        assert values(lake.read(spark, f"bronze.{name}")) == values(good(narrow))
    # A column that is new to the table is for Spark as well.
    lake.replace(narrow.select("id"), TABLE, meta={})
    with lake.stage_rows(narrow, TABLE, "fate") as kept:
        lake.append_once(good(kept.frame), TABLE, app="a", n=1, meta={}, part=kept.part("good"))
    assert lake.read(spark, TABLE).groupBy(F.col("name").isNull()).count().count() == 2


def test_a_batch_that_is_there_is_refused(lake, rows) -> None:
    for n, fits in ((2, True), (2, False), (1, False)):
        with lake.stage_rows(rows, TABLE, "fate") as kept:
            if fits:
                lake.append_once(good(kept.frame), TABLE, app="a", n=n, meta={}, part=kept.part("good"))
            else:
                with pytest.raises(LakeError, match=f"batch {n} of a is in the table already"):
                    lake.append_once(good(kept.frame), TABLE, app="a", n=n, meta={}, part=kept.part("good"))
    assert DeltaTable(lake.path(TABLE)).to_pyarrow_dataset().count_rows() == 4
