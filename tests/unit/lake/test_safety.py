"""What SQL may do without trust, judged with no Spark: table reads and Spark's own functions."""

from __future__ import annotations

import pytest

from tidemill.lake.safety import find_unsafe_parts


@pytest.mark.parametrize(
    ("sql", "line", "column", "words"),
    [
        ("SELECT TRANSFORM(a) USING 'touch x' AS (b string) FROM silver.t", 1, 18, "TRANSFORM … USING"),
        ("SELECT 1,\n  reflect('java.lang.System', 'getProperty', 'x')", 2, 3, "reflect"),
        ("SELECT `Java_Method`('a', 'b')", 1, 8, "Java_Method"),
        ("SELECT system.builtin.try_reflect('a', 'b')", 1, 23, "try_reflect"),
        ("SELECT any.a, reflect('x') FROM silver.any", 1, 15, "reflect"),
        ("SELECT transform(xs, x -> reflect('a', x)) FROM silver.t", 1, 27, "reflect"),
        ("SELECT a FROM silver.t WHERE EXISTS (SELECT 1 FROM csv.`/etc/passwd`)", 1, 52, "csv./etc/passwd"),
        ("SELECT * FROM delta.`s3://bucket/t`", 1, 15, "delta.s3://bucket/t"),
        ("SELECT * FROM other.silver.t", 1, 15, "other.silver.t"),
        ("SELECT * FROM IDENTIFIER('text.`/etc/hosts`')", 1, 15, "IDENTIFIER"),
        ("SELECT * FROM read_files('/etc')", 1, 15, "read_files"),
        ("SELECT ai_query('model', a), http_request('x') FROM silver.t", 1, 8, "ai_query"),
        ("WITH a AS (SELECT 1 AS b) INSERT INTO silver.t SELECT b FROM a", 1, 6, "INSERT"),
    ],
)
def test_what_does_more_than_read_the_lake_is_named_with_its_place(sql, line, column, words):
    part = find_unsafe_parts(sql)[0]
    assert (part.line, part.column, part.words) == (line, column, words)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM silver.t -- reflect('a')",
        "WITH reflect(a) AS (SELECT 1), csv AS (SELECT 2 AS b) SELECT reflect.a, csv.b FROM reflect, csv",
        "SELECT `reflect('a')`, 'java_method(1)' AS reflect, t.reflect FROM silver.t AS t",
        "SELECT * FROM `gold`.`p_predictions` VERSION AS OF 3",
        "SELECT /*+ BROADCAST(b) */ * FROM silver.a JOIN silver.b USING (id), LATERAL explode(xs) AS e(x)",
        "SELECT id, count(*) FILTER (WHERE a > 1), sum(b) OVER (ORDER BY c), percentile_cont(0.5) WITHIN GROUP (ORDER BY d), "
        "try_cast(e AS INT), timestampdiff(DAY, f, g), date_add(f, 1), left(h, 2), if(a, 1, 2), h LIKE ANY ('x', 'y'), "
        "extract(YEAR FROM f), trim(BOTH 'x' FROM h), from_json(h, 'a INT'), xxhash64(h) FROM silver.t GROUP BY CUBE (id)",
        "SELECT transform(xs, x -> x + 1), aggregate(xs, 0, (x, y) -> x + y), named_struct('a', 1).a FROM VALUES (array(1)) AS t(xs)",
    ],
)
def test_queries_that_only_read_pass_whatever_their_names_look_like(sql):
    assert find_unsafe_parts(sql) == []
