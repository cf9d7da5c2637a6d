"""SQL with table names: which tables it reads, and how they are replaced."""

from __future__ import annotations

import pytest

from tidemill.errors import UsageError
from tidemill.lake.sql import is_query, replace_tables, table_names


def test_names_come_from_the_syntax_not_from_the_text():
    sql = """
    WITH late AS (SELECT * FROM silver.flights) -- silver.comment
    SELECT 'silver.literal' FROM late JOIN `bronze`.planes p USING (tailnum) WHERE EXISTS (SELECT 1 FROM gold.seen)
    """
    assert table_names(sql) == {"silver.flights", "bronze.planes", "gold.seen"}


def test_only_the_names_change_and_a_bare_table_keeps_its_own_name():
    sql = "SELECT flights.a, silver.flights.b, p.c\nFROM silver.flights  LEFT JOIN silver.planes p ON p.t = flights.t --silver.t"
    assert replace_tables(sql, lambda name: f"<{name}>") == (
        "SELECT flights.a, flights.b, p.c\nFROM <silver.flights> AS flights  LEFT JOIN <silver.planes> p ON p.t = flights.t --silver.t"
    )


@pytest.mark.parametrize("sql", ["SELECT FROM WHERE", "SELECT 1; SELECT 2", "SELECT (1"])
def test_what_is_not_one_statement_is_refused(sql):
    with pytest.raises(UsageError, match="SQL"):
        table_names(sql)


def test_queries_are_told_from_what_writes():
    assert is_query("WITH a AS (SELECT 1) SELECT * FROM a UNION ALL SELECT 2")
    assert not is_query("DROP TABLE silver.flights")
