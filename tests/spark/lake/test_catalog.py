"""The lake's tables under their names, for people who ask in SQL."""

from __future__ import annotations

import pytest
from pyspark.errors import AnalysisException

from tidemill.errors import TableNotFound, UsageError
from tidemill.lake.catalog import Catalog


@pytest.fixture
def catalog(spark, lake):
    lake.replace(spark.createDataFrame([(1, "a"), (2, "b")], "id INT, value STRING"), "silver.t", meta={})
    for node, state in (("train", "RUNNING"), ("train", "SUCCEEDED"), ("score", "RUNNING")):
        lake.ledger.append("ops.steps", [{"run_id": "r1", "node": node, "state": state}])
    yield Catalog(spark, lake)
    for layer in ("bronze", "silver", "gold", "ops"):
        spark.sql(f"DROP SCHEMA IF EXISTS {layer} CASCADE")


def test_tables_and_views_answer_under_their_names(catalog):
    assert catalog.tables() == ["ops.steps", "ops.steps_now", "silver.t"]
    assert catalog.query("SELECT max(t.id) FROM silver.t").collect() == [(2,)]
    assert catalog.query("SELECT node, state FROM ops.steps_now ORDER BY node").collect() == [("score", "RUNNING"), ("train", "SUCCEEDED")]
    assert [row["tableName"] for row in catalog.query("SHOW TABLES IN silver").collect()] == ["t"]


def test_a_missing_table_is_named_with_its_nearest(catalog):
    with pytest.raises(TableNotFound, match=r"silver\.tt is not in .* did you mean 'silver\.t'"):
        catalog.query("SELECT * FROM silver.tt")


@pytest.mark.parametrize("query", ["DELETE FROM silver.t", "DROP TABLE silver.t", "INSERT INTO silver.t VALUES (1, 'x')"])
def test_writing_is_refused(catalog, query):
    with pytest.raises(UsageError, match="only reads"):
        catalog.query(query)
    assert catalog.query("SELECT count(*) FROM silver.t").collect() == [(2,)]


def test_a_wrong_column_raises_without_logging_a_stack_trace(catalog, capfd):
    with pytest.raises(AnalysisException):
        catalog.query("SELECT nothing_of_the_kind FROM silver.t")
    assert "nothing_of_the_kind" not in capfd.readouterr().err
