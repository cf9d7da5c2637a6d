"""The lake's commits, against what Delta's log says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chispa import assert_df_equality
from deltalake import DeltaTable

from tidemill.errors import LakeError, TableNotFound
from tidemill.lake.ops import StepRow


@pytest.fixture
def numbers(spark):
    return lambda *rows: spark.createDataFrame(list(rows), "id INT, value STRING")


def test_replace_gives_each_version_and_keeps_the_older_one(spark, lake, numbers):
    assert lake.replace(numbers((1, "a")), "silver.t", meta={"run_id": "r1"}) == 0
    assert lake.replace(numbers((2, "b"), (3, "c")), "silver.t", meta={"run_id": "r2"}) == 1
    assert_df_equality(lake.read(spark, "silver.t", 0), numbers((1, "a")))
    assert_df_equality(lake.read(spark, "silver.t"), numbers((2, "b"), (3, "c")), ignore_row_order=True)
    told = json.loads(DeltaTable(lake.path("silver.t")).history(1)[0]["userMetadata"])
    assert told["run_id"] == "r2"


def test_replace_changes_the_schema(spark, lake, numbers):
    lake.replace(numbers((1, "a")), "silver.t", meta={})
    lake.replace(spark.createDataFrame([("x",)], "id STRING"), "silver.t", meta={})
    assert lake.read(spark, "silver.t").dtypes == [("id", "string")]


def test_append_once_refuses_a_batch_that_is_there(spark, lake, numbers):
    assert lake.txn_version("bronze.t", "app") is None
    lake.append_once(numbers((1, "a")), "bronze.t", app="app", n=1, meta={})
    assert lake.txn_version("bronze.t", "app") == 1
    with pytest.raises(LakeError, match="skipped"):
        lake.append_once(numbers((1, "a")), "bronze.t", app="app", n=1, meta={})
    lake.append_once(numbers((2, "b")), "bronze.t", app="app", n=2, meta={})
    assert [row.id for row in lake.read(spark, "bronze.t").orderBy("id").collect()] == [1, 2]


def test_append_once_counts_a_batch_without_rows(spark, lake, numbers):
    lake.append_once(numbers((1, "a")), "bronze.t", app="app", n=1, meta={})
    lake.append_once(numbers((1, "a")).where("false"), "bronze.t", app="app", n=2, meta={})
    assert lake.txn_version("bronze.t", "app") == 2


def test_replace_where_touches_only_its_rows(spark, lake, numbers):
    lake.replace_where(numbers((1, "a"), (2, "b")), "bronze.t", where="id = 1 OR id = 2", meta={})
    lake.replace_where(numbers((2, "B")), "bronze.t", where="id = 2", meta={})
    assert_df_equality(lake.read(spark, "bronze.t"), numbers((1, "a"), (2, "B")), ignore_row_order=True)


def test_merge_inserts_updates_and_leaves_alone(spark, lake):
    def frame(*rows):
        return spark.createDataFrame(list(rows), "id INT, value STRING, run STRING")

    def merge(df):
        return lake.merge(df, "gold.t", keys=["id"], update_if_changed=["value"], meta={})

    first = merge(frame((1, "a", "r1"), (2, None, "r1")))
    assert merge(frame((1, "a", "r2"), (2, None, "r2"))) == first, "equal rows must not make a commit"
    merge(frame((2, "b", "r3"), (3, "c", "r3")))
    expected = frame((1, "a", "r1"), (2, "b", "r3"), (3, "c", "r3"))
    assert_df_equality(lake.read(spark, "gold.t"), expected, ignore_row_order=True)
    merge(frame((4, "d", "r4")))
    assert lake.read(spark, "gold.t").count() == 4


def test_sql_reads_the_pinned_version(spark, lake, numbers):
    lake.replace(numbers((1, "a")), "silver.t", meta={})
    lake.replace(numbers((1, "a"), (2, "b")), "silver.t", meta={})
    query = "SELECT count(*) AS n, max(silver.t.value) AS v FROM silver.t JOIN silver.t u ON t.id = u.id"
    assert lake.sql(spark, query, {"silver.t": 0}).collect() == [(1, "a")]
    assert lake.sql(spark, query, {"silver.t": 1}).collect() == [(2, "b")]
    with pytest.raises(TableNotFound, match=r"silver\.u"):
        lake.sql(spark, "SELECT * FROM silver.u", {"silver.t": 0})


def test_read_says_what_is_missing(spark, lake, numbers):
    with pytest.raises(TableNotFound, match="does not exist"):
        lake.read(spark, "silver.t")
    lake.replace(numbers((1, "a")), "silver.t", meta={})
    with pytest.raises(TableNotFound, match="latest version is 0"):
        lake.read(spark, "silver.t", 7)


def test_spark_reads_the_ledger(spark, lake):
    lake.ledger.append([StepRow(run_id="r1", node="dataset", state="RUNNING", inputs={"silver.t": 3})])
    row = lake.read(spark, "ops.steps").first()
    assert (row["node"], row["inputs"], row["rows_in"]) == ("dataset", {"silver.t": 3}, None)


def test_merge_makes_good_for_a_lost_commit(spark, lake):
    """Spark has seen the lost commit, and goes by the log as it was repaired all the same."""

    def merge(*ids: int) -> int:
        rows = spark.createDataFrame([(number, "new") for number in ids], "id int, name string")
        return lake.merge(rows, "gold.t", keys=["id"], update_if_changed=["name"], meta={})

    merge(1, 2)
    assert merge(3, 4) == 1
    assert lake.read(spark, "gold.t").count() == 4
    (Path(lake.path("gold.t")) / "_delta_log" / f"{1:020d}.json").write_bytes(b"")
    with pytest.raises(LakeError, match=r"gold\.t is damaged: .*1\.json is empty"):
        lake.read(spark, "gold.t")
    lake.repair("gold.t", 1)
    assert merge(1, 2, 3, 4) == 2
    assert sorted(row["id"] for row in lake.read(spark, "gold.t", 2).collect()) == [1, 2, 3, 4]
    with pytest.raises(TableNotFound, match="version 1 was lost"):
        lake.read(spark, "gold.t", 1)
