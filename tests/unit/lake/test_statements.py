"""SQL text cut into statements, and the words in it that are names."""

from __future__ import annotations

import pytest

from tidemill.errors import UsageError
from tidemill.lake.sql import replace_tables, require_one_statement, split_statements, table_names


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1;", ["SELECT 1"]),
        ("SELECT 1; -- the end", ["SELECT 1"]),
        ("SELECT 1;\n/* the end; */ ;;\n-- ;\n", ["SELECT 1"]),
        ("-- first;\nSELECT ';' AS a, \";\" AS b, `;` AS c /* ; /* ; */ ; */, r'\\' AS d, 'it\\'s;' AS e;",
         ["-- first;\nSELECT ';' AS a, \";\" AS b, `;` AS c /* ; /* ; */ ; */, r'\\' AS d, 'it\\'s;' AS e"]),
        ("SELECT 1 -- goes on \\\n; DROP TABLE t", ["SELECT 1 -- goes on \\\n; DROP TABLE t"]),
        ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("SELECT 'not closed ; ", ["SELECT 'not closed ;"]),
        ("SELECT 1 /* not closed ; ", ["SELECT 1 /* not closed ;"]),
        ("-- nothing\n;", []),
    ],
)  # fmt: skip
def test_semicolons_end_statements_unless_something_quotes_them(sql, statements):
    assert [statement.text.strip() for statement in split_statements(sql)] == statements


def test_a_statement_keeps_its_lines_and_knows_whether_it_is_ended():
    first, second = split_statements("SELECT 1\n;\nSELECT 2")
    assert (first.is_ended, second.is_ended) == (True, False)
    assert second.text.index("SELECT") == len("        \n \n")
    assert require_one_statement("/* x */ (seLect 1) ;").first_word == "SELECT"
    with pytest.raises(UsageError, match="expected one SQL statement, found 2"):
        require_one_statement("SELECT 1; SELECT 2 -- x")
    with pytest.raises(UsageError, match="found none"):
        require_one_statement("-- x")


@pytest.mark.parametrize("name", ["any", "between", "count", "date", "explode", "ilike", "left", "like", "range", "VALUES", "when", "map"])
def test_tables_named_like_functions_and_keywords_are_tables(name):
    sql = f"SELECT {name}.a, x.{name} FROM silver.{name} JOIN bronze.{name} AS x USING (id); -- {name}(1)"
    assert table_names(sql) == {f"silver.{name}", f"bronze.{name}"}
    shown = replace_tables(sql, lambda table: f"<{table}>")
    assert f"FROM <silver.{name}> AS " in shown
    assert shown.replace("`", "").endswith(f"JOIN <bronze.{name}> AS x USING (id)")


def test_keywords_that_are_no_names_stay_as_they_are():
    sql = "SELECT CASE WHEN a.b THEN .5 END FROM silver.t AS a WHERE NOT .5 > a.b"
    assert replace_tables(sql, lambda table: table) == sql
