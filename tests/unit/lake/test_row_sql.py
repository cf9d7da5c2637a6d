"""SQL that is row by row over a table, and the column that it hands through."""

import pytest

from tidemill.lake.row_sql import NotByRowError, add_carrier


def carried(sql: str, table: str = "bronze.t") -> str:
    return add_carrier(sql, table, "_row")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a, 1 FROM bronze.t WHERE a > 1 ORDER BY a", "SELECT `_row`, a, 1 FROM bronze.t WHERE a > 1 ORDER BY a"),
        ("SELECT * FROM bronze.t", "SELECT * FROM bronze.t"),
        ("SELECT t.*, o.x FROM bronze.t JOIN silver.o USING (id)", "SELECT t.*, o.x FROM bronze.t JOIN silver.o USING (id)"),
        ("select o.*, T.a from Bronze.t T, silver.o o", "select `_row`, o.*, T.a from Bronze.t T, silver.o o"),
        (
            "SELECT /*+ BROADCAST(o) */ ALL a FROM silver.o RIGHT JOIN bronze.t ON o.id = t.id",
            "SELECT /*+ BROADCAST(o) */ ALL `_row`, a FROM silver.o RIGHT JOIN bronze.t ON o.id = t.id",
        ),
        (
            "WITH u AS (\n SELECT a, id -- the select\n FROM bronze.t), m AS (SELECT id, max(x) AS x FROM silver.o GROUP BY id)\n"
            "SELECT u.a, m.x, (SELECT count(*) FROM silver.o) AS n FROM u LEFT JOIN m USING (id)",
            "WITH u AS (\n SELECT `_row`, a, id -- the select\n FROM bronze.t), m AS (SELECT id, max(x) AS x FROM silver.o GROUP BY id)\n"
            "SELECT `_row`, u.a, m.x, (SELECT count(*) FROM silver.o) AS n FROM u LEFT JOIN m USING (id)",
        ),
        (
            "SELECT q.a FROM (SELECT 'select' AS a, id FROM (SELECT id FROM bronze.t) WHERE id IN (SELECT id FROM silver.o)) AS q",
            "SELECT `_row`, q.a FROM (SELECT `_row`, 'select' AS a, id FROM (SELECT `_row`, id FROM bronze.t) WHERE id IN (SELECT id FROM"
            " silver.o)) AS q",
        ),
        (
            "SELECT a FROM bronze.t LEFT ANTI JOIN (SELECT id FROM silver.o UNION SELECT id FROM silver.p) b ON t.id = b.id"
            " LATERAL VIEW explode(xs) v AS x",
            "SELECT `_row`, a FROM bronze.t LEFT ANTI JOIN (SELECT id FROM silver.o UNION SELECT id FROM silver.p) b ON t.id = b.id"
            " LATERAL VIEW explode(xs) v AS x",
        ),
        ("SELECT 1 AS one FROM bronze.t", "SELECT `_row`, 1 AS one FROM bronze.t"),
        ("SELECT * EXCEPT (a), 2 AS b FROM bronze.t", "SELECT * EXCEPT (a), 2 AS b FROM bronze.t"),
    ],
)
def test_the_column_is_handed_through_and_every_other_character_stays(sql, expected):
    assert carried(sql) == expected


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT count(*) AS n FROM bronze.t", "the aggregate count"),
        ("SELECT max_by(a, b) AS n FROM bronze.t", "the aggregate"),
        ("SELECT bool_and(a) AS n FROM bronze.t", "the aggregate"),
        ("SELECT try_sum(a) AS n FROM bronze.t", "the aggregate try_sum"),
        ("SELECT a FROM bronze.t GROUP BY a", "GROUP BY"),
        ("SELECT DISTINCT a FROM bronze.t", "DISTINCT"),
        ("SELECT a FROM bronze.t LIMIT 3", "LIMIT"),
        ("SELECT a, row_number() OVER (ORDER BY a) AS n FROM bronze.t", "window"),
        ("SELECT a, sum(a) OVER w AS n FROM bronze.t WINDOW w AS (ORDER BY a)", "WINDOW"),
        ("SELECT a FROM bronze.t QUALIFY row_number() OVER (ORDER BY a) = 1", "QUALIFY"),
        ("WITH n AS (SELECT *, lag(a) OVER (ORDER BY a) AS b FROM bronze.t) SELECT a FROM n", "window"),
        ("SELECT a FROM bronze.t UNION ALL SELECT a FROM silver.o", "UNION"),
        ("SELECT a FROM (SELECT a FROM silver.o EXCEPT SELECT a FROM bronze.t)", "EXCEPT"),
        ("SELECT a FROM silver.o LEFT JOIN bronze.t USING (id)", "LEFT JOIN"),
        ("SELECT a FROM bronze.t FULL OUTER JOIN silver.o USING (id)", "FULL OUTER JOIN"),
        ("SELECT a FROM bronze.t RIGHT JOIN silver.o USING (id)", "RIGHT JOIN"),
        ("SELECT a FROM silver.o LEFT SEMI JOIN bronze.t USING (id)", "SEMI JOIN"),
        ("SELECT a FROM bronze.t JOIN bronze.t AS u USING (id)", "with each other"),
        ("WITH u AS (SELECT * FROM bronze.t) SELECT x.a FROM u AS x JOIN u AS y ON x.id = y.id + 1", "with each other"),
        ("SELECT a FROM silver.o WHERE id IN (SELECT id FROM bronze.t)", "in a subquery"),
        ("SELECT a, (SELECT max(a) FROM bronze.t) AS m FROM bronze.t", "in a subquery"),
        ("SELECT a FROM silver.o JOIN silver.p ON EXISTS (SELECT 1 FROM bronze.t)", "in a subquery"),
        ("SELECT a FROM silver.o", "no row of its result"),
        ("SELECT a FROM bronze.t TABLESAMPLE (10 PERCENT)", "sample"),
        ("WITH u(x, y) AS (SELECT a, b FROM bronze.t) SELECT x FROM u", "in brackets"),
        ("SELECT * FROM (SELECT a, b FROM bronze.t) PIVOT (sum(b) FOR a IN (1, 2))", "pivots"),
    ],
)
def test_what_takes_more_than_a_row_is_refused(sql, why):
    with pytest.raises(NotByRowError, match=why):
        carried(sql)
