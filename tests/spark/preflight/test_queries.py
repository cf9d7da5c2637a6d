"""What is told of a query's columns without Spark is what Spark says of them."""

import pytest
from pyspark.errors import AnalysisException

from tidemill.lake.sql import replace_tables
from tidemill.preflight.queries import resolve_query
from tidemill.preflight.sources import declared_columns

TABLES = {
    "bronze.f": "id INT, Carrier STRING, s STRUCT<a: INT, b: STRUCT<c: INT, `odd name`: INT>>, arr ARRAY<INT>, m MAP<STRING, INT>, "
    "at TIMESTAMP",
    "silver.p": "id INT, seats INT, `odd name` STRING, month INT",
    "silver.f": "ID INT, other STRING",
}
GOOD = [
    "SELECT * FROM bronze.f",
    "SELECT ID, f.carrier, F.Carrier AS again, f.s.B.C, bronze.f.at FROM bronze.f",
    "SELECT s.*, p.* FROM bronze.f LEFT JOIN silver.p AS p ON p.id = f.id",
    "SELECT * FROM bronze.f JOIN silver.p USING (ID)",
    "SELECT * EXCEPT (s, arr, M) FROM bronze.f",
    "SELECT id + 1 AS n, n * 2 AS k FROM bronze.f ORDER BY k, id",
    "SELECT month, count(*) AS n FROM silver.p GROUP BY month HAVING n > 1 ORDER BY n",
    "WITH a AS (SELECT id, seats AS x FROM silver.p), b(i, j) AS (SELECT * FROM a) "
    "SELECT i, b.j FROM b WHERE EXISTS (SELECT 1 FROM a WHERE a.id = b.i)",
    "SELECT v.e, id FROM bronze.f LATERAL VIEW explode(arr) v AS e LATERAL VIEW posexplode(arr) AS p, q WHERE e > 1 AND q > p",
    "SELECT transform(arr, y -> y + id) AS t, filter(arr, (x, i) -> x > i) AS u, aggregate(arr, 0, (acc, x) -> acc + x) AS w FROM bronze.f",
    "SELECT id FROM bronze.f UNION ALL SELECT seats FROM silver.p",
    "SELECT t.a, t.b FROM (SELECT id, Carrier FROM bronze.f) AS t(a, b) CROSS JOIN (VALUES (1, 2)) AS v(p, q)",
    "SELECT f.id FROM bronze.f LEFT SEMI JOIN silver.p ON f.id = p.id AND `odd name` IS NOT NULL",
    "SELECT id, (SELECT max(seats) FROM silver.p WHERE p.id = f.id) AS most FROM bronze.f",
    "SELECT m.k AS k, m['k'] AS l, arr[0] AS z, s.b.`odd name` AS o, struct(id, Carrier).id AS w FROM bronze.f",
    "SELECT row_number() OVER w AS r FROM bronze.f WINDOW w AS (PARTITION BY Carrier ORDER BY at)",
    "SELECT date_add(DAY, 1, at) AS d, timestampdiff(HOUR, at, at) AS h, extract(YEAR FROM at) AS y, "
    "current_date AS c, at - INTERVAL 1 DAY AS i FROM bronze.f",
    "SELECT * FROM silver.f JOIN bronze.f USING (id)",
    "SELECT x.id, y.id AS other FROM bronze.f x, bronze.f y WHERE x.id = y.id",
    "SELECT id, l.z FROM bronze.f f, LATERAL (SELECT f.id + 1 AS z) l",
    "SELECT * FROM (SELECT Carrier, id FROM bronze.f) PIVOT (sum(id) FOR Carrier IN ('a' AS a, 'b' AS b))",
    "SELECT id, explode(arr) AS e FROM bronze.f",
    "SELECT inline(array(struct(1 AS a, 2 AS b))) FROM bronze.f",
    "SELECT upper(Carrier), id + 1, 'x' FROM bronze.f",
    "SELECT * FROM range(3)",
    "SELECT id FROM bronze.f QUALIFY row_number() OVER (PARTITION BY Carrier ORDER BY id) = 1",
    "FROM bronze.f |> WHERE id > 1 |> EXTEND id + 1 AS k |> SELECT k, id |> WHERE k > 2",
    "SELECT id AS a, count(*) AS n FROM bronze.f GROUP BY a",
    "SELECT id, Carrier FROM bronze.f GROUP BY ALL ORDER BY ALL",
    "(SELECT id FROM bronze.f LIMIT 1) UNION (SELECT id FROM silver.p ORDER BY month LIMIT 1)",
    "SELECT * FROM bronze.f NATURAL JOIN silver.p",
    "SELECT id FROM bronze.f WHERE id IN (SELECT id FROM silver.p WHERE month = 1 AND Carrier = 'x')",
    "SELECT CAST(id AS STRING) AS id, id::INT AS j, try_cast(Carrier AS INT) k, CASE WHEN id > 1 THEN Carrier END AS c FROM bronze.f",
]  # fmt: skip
BAD = [
    ("SELECT carier FROM bronze.f", "carier"),
    ("SELECT f.seats FROM bronze.f JOIN silver.p USING (id)", "seats"),
    ("SELECT id + 1 AS n FROM bronze.f WHERE n > 1", "n"),
    ("SELECT s.z FROM bronze.f", "z"),
    ("SELECT f.s.b.d FROM bronze.f", "d"),
    ("WITH a AS (SELECT id FROM bronze.f) SELECT Carrier FROM a", "Carrier"),
    ("SELECT id FROM bronze.f ORDER BY nope", "nope"),
    ("SELECT id FROM bronze.f JOIN silver.p USING (idd)", "idd"),
    ("SELECT transform(arr, y -> y + nope) AS t FROM bronze.f", "nope"),
    ("SELECT id FROM bronze.f WHERE EXISTS (SELECT 1 FROM silver.p WHERE nope = f.id)", "nope"),
    ("SELECT day FROM silver.p", "day"),
    ("SELECT e FROM bronze.f LATERAL VIEW explode(nope) v AS e", "nope"),
    ("SELECT * FROM (SELECT id FROM bronze.f) t WHERE t.Carrier = 'x'", "Carrier"),
]


@pytest.fixture
def place(spark):
    for name, ddl in TABLES.items():
        spark.createDataFrame([], ddl).createOrReplaceTempView(f"tidemill_{name.replace('.', '_')}")
    return lambda sql: replace_tables(sql, lambda table: f"tidemill_{table.replace('.', '_')}")


def test_what_spark_accepts_is_accepted_with_the_same_columns(spark, place) -> None:
    tables = {name: declared_columns(ddl) for name, ddl in TABLES.items()}
    wrong, unknown = [], 0
    for sql in GOOD:
        names = list(dict.fromkeys(spark.sql(place(sql)).columns))
        columns, missing = resolve_query(sql, tables.get)
        unknown += columns is None
        if missing or (columns is not None and list(columns) != names):
            wrong.append((sql, names, list(columns or ()), missing))
    assert wrong == []
    assert unknown <= 9


def test_what_spark_refuses_is_refused_with_the_columns_place(spark, place) -> None:
    tables = {name: declared_columns(ddl) for name, ddl in TABLES.items()}
    for sql, name in BAD:
        with pytest.raises(AnalysisException):
            spark.sql(place(sql))
        [unknown] = resolve_query(sql, tables.get)[1]
        assert unknown.name == name, sql
        assert sql[unknown.start :].startswith(name), sql
