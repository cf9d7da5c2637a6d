"""The lake's tables under their names, for people who ask in SQL."""

from __future__ import annotations

import pytest
from pyspark.errors import AnalysisException

from tidemill.errors import TableNotFound, UsageError
from tidemill.lake import Lake
from tidemill.lake.catalog import Catalog
from tidemill.lake.ops import StepRow
from tidemill.lake.safety import parse_reading


@pytest.fixture
def catalog(spark, lake):
    lake.replace(spark.createDataFrame([(1, "a"), (2, "b")], "id INT, value STRING"), "silver.t", meta={})
    for node, state in (("train", "RUNNING"), ("train", "SUCCEEDED"), ("score", "RUNNING")):
        lake.ledger.append([StepRow(run_id="r1", node=node, state=state)])
    lake.replace(spark.createDataFrame([(1,)], "id INT"), "silver.any", meta={})
    yield Catalog(spark, lake)
    for layer in ("bronze", "silver", "gold", "ops"):
        spark.sql(f"DROP SCHEMA IF EXISTS {layer} CASCADE")


def test_tables_and_views_answer_under_their_names(catalog):
    assert catalog.tables() == ["ops.steps", "ops.steps_now", "silver.any", "silver.t"]
    assert catalog.query("SELECT max(t.id) FROM silver.t").collect() == [(2,)]
    assert catalog.query("SELECT node, state FROM ops.steps_now ORDER BY node").collect() == [("score", "RUNNING"), ("train", "SUCCEEDED")]
    assert [row["tableName"] for row in catalog.query("SHOW TABLES IN silver").collect()] == ["any", "t"]


def test_a_missing_table_is_named_with_its_nearest(catalog):
    with pytest.raises(TableNotFound, match=r"silver\.tt is not in .* did you mean 'silver\.t'"):
        catalog.query("SELECT * FROM silver.tt")
    every = [(row["namespace"], row["tableName"]) for row in catalog.query("show tables; -- of all layers").collect()]
    assert every == [("silver", "any"), ("silver", "t"), ("ops", "steps"), ("ops", "steps_now")]
    assert [row["tableName"] for row in catalog.query("SHOW TABLES LIKE 's*'").collect()] == ["steps", "steps_now"]
    assert [row["viewName"] for row in catalog.query("SHOW VIEWS").collect()] == ["steps_now"]


def test_lakes_that_are_asked_in_turn_answer_with_their_own_rows(catalog, spark, tmp_path):
    other = Lake(str(tmp_path / "other"))
    other.replace(spark.createDataFrame([(9,)], "id INT"), "silver.t", meta={})
    other.ledger.append([StepRow(run_id="r2", node="ingest", state="FAILED")])
    second, again = Catalog(spark, other), Catalog(spark, catalog._lake)
    for _ in range(2):
        assert catalog.query("SELECT max(id) FROM silver.t").collect() == [(2,)]
        assert {row["run_id"] for row in catalog.query("SELECT * FROM ops.steps_now").collect()} == {"r1"}
        assert second.query("SELECT max(id) FROM silver.t").collect() == [(9,)]
        assert {row["run_id"] for row in second.query("SELECT * FROM ops.steps_now").collect()} == {"r2"}
        assert [row["tableName"] for row in second.query("SHOW TABLES IN silver").collect()] == ["t"]
        assert again.query("SELECT max(id) FROM silver.any").collect() == [(1,)]


def test_writing_is_refused(catalog):
    for query in ("DELETE FROM silver.t", "DROP TABLE silver.t", "INSERT INTO silver.t VALUES (1, 'x')"):
        with pytest.raises(UsageError, match="only reads"):
            catalog.query(query)
    assert catalog.query("SELECT count(*) FROM silver.t").collect() == [(2,)]


HARMLESS = (
    "WITH reflect(a) AS (SELECT 1), java_method AS (SELECT 2 AS b) SELECT reflect.a, b, 'reflect(1)' FROM reflect, java_method -- csv(1)",
    "SELECT any.id FROM silver.any /* csv.`/etc/passwd` */; -- the end",
    "FROM silver.t |> WHERE id > 1 |> AGGREGATE count(*) AS n",
    "SELECT /*+ BROADCAST(b) */ a.id FROM silver.t AS a JOIN silver.t AS b ON a.id = b.id WHERE EXISTS (SELECT 1 FROM silver.any)",
    "SELECT id, sum(id) OVER w, transform(array(1), x -> x + 1)[0] FROM silver.t VERSION AS OF 0 WINDOW w AS (ORDER BY id)",
    "SELECT value, try_cast(value AS INT), timestampdiff(DAY, current_date, current_date) FROM silver.t DISTRIBUTE BY id SORT BY id",
    "TABLE silver.t",
    "DESCRIBE HISTORY silver.t",
    "DESCRIBE silver.t",
    "EXPLAIN SELECT * FROM silver.t",
)
HARMFUL = {
    "SELECT TRANSFORM(1) USING 'touch {file}' AS (x STRING)": "runs a program",
    "FROM (SELECT 1 AS a) MAP a USING 'touch {file}' AS b": "runs a program",
    "SELECT sum(id) OVER w FROM silver.t WINDOW w AS (ORDER BY java_method('java.lang.System', 'nanoTime'))": "calls Java methods",
    "EXPLAIN SELECT system.builtin.reflect('java.lang.System', 'nanoTime')": "calls Java methods",
    "SELECT IDENTIFIER('ref' || 'lect')('java.lang.System', 'nanoTime')": "known too late",
    "SELECT * FROM IDENTIFIER('te' || 'xt.`{file}`')": "IDENTIFIER",
    "SELECT (SELECT max(value) FROM text.`{file}`)": "reads a path",
    "DESCRIBE HISTORY '{file}'": "a path is named",
    "DESCRIBE DETAIL delta.`{file}`": "reads a path",
    "SELECT * FROM silver.t WITH (path = '{file}')": "is given options",
    "EXPLAIN INSERT INTO silver.t VALUES (3, 'c')": "does more than read",
    "EXECUTE IMMEDIATE 'SELECT 1'": "only reads",
    "SET spark.sql.ansi.enabled = false": "only reads",
    "CREATE TEMPORARY VIEW v AS SELECT 1": "only reads",
}


def test_only_reading_the_lake_passes_both_parsers(catalog, tmp_path, spark):
    file = tmp_path / "made"
    for query in HARMLESS:
        assert catalog.query(query).collect(), query
    for query, reason in HARMFUL.items():
        with pytest.raises(UsageError, match=reason):
            catalog.query(query.format(file=file))
        if reason != "only reads":
            with pytest.raises(UsageError):
                parse_reading(spark, query.format(file=file))
    assert not file.exists()
    file.write_text("secret\n")
    trusted = f"SELECT reflect('java.lang.String', 'valueOf', 1) AS one, value, id FROM text.`{file}` CROSS JOIN silver.any"
    assert catalog.query(trusted, trust=True).collect() == [("1", "secret", 1)]


def test_sql_of_a_step_may_name_the_paths_that_it_was_given_and_no_others(catalog, spark, lake):
    assert lake.sql(spark, "SELECT any.id FROM silver.any;\n-- the end", {"silver.any": 0}).collect() == [(1,)]
    for sql in (f"SELECT * FROM delta.`{lake.path('silver.t')}`", "SELECT reflect('java.lang.String', 'valueOf', id) AS x FROM silver.any"):
        with pytest.raises(UsageError, match=r"reads a path|calls Java"):
            lake.sql(spark, sql, {"silver.any": 0})
    trusted = lake.sql(spark, "SELECT reflect('java.lang.String', 'valueOf', id) AS x FROM silver.any", {"silver.any": 0}, trust=True)
    assert trusted.collect() == [("1",)]


def test_a_wrong_column_raises_without_logging_a_stack_trace(catalog, capfd):
    with pytest.raises(AnalysisException):
        catalog.query("SELECT nothing_of_the_kind FROM silver.t")
    assert "nothing_of_the_kind" not in capfd.readouterr().err
