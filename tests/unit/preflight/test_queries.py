"""Queries that are never refused: of two tables of one name, and of tables whose columns are not known."""

import pytest

from tidemill.preflight.queries import UnknownColumn, resolve_condition, resolve_query
from tidemill.preflight.sources import declared_columns

TABLES = {"bronze.f": declared_columns("id INT, carrier STRING"), "silver.f": declared_columns("id INT, other STRING"), "bronze.u": None}


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT f.other, f.carrier AS c FROM silver.f, bronze.f", ["other", "c"]),
        ("SELECT * FROM silver.f JOIN bronze.f USING (id)", ["id", "other", "carrier"]),
        ("SELECT anything, u.nothing FROM bronze.u JOIN bronze.f USING (whatever)", ["anything", "nothing"]),
        ("SELECT * FROM bronze.u", None),
        ("SELECT f.id FROM bronze.f JOIN some.thing t ON t.x = f.id AND y = 1", ["id"]),
        ("SELECT this does not parse", None),
        ("SELECT " + "(" * 5000 + "1" + ")" * 5000 + " AS x FROM bronze.f", None),
    ],
)
def test_what_may_be_right_is_not_refused(sql: str, columns: list[str] | None) -> None:
    actual, unknown = resolve_query(sql, TABLES.get)
    assert unknown == []
    assert (None if actual is None else list(actual)) == columns


def test_both_tables_of_one_name_lack_a_column() -> None:
    _, [unknown] = resolve_query("SELECT f.nope FROM silver.f, bronze.f", TABLES.get)
    assert unknown == UnknownColumn("nope", 9, ("id", "other", "carrier"))


def test_conditions() -> None:
    columns = TABLES["bronze.f"]
    assert columns is not None
    good = [
        "id > 0 AND current_date > DATE '2020-01-01'",
        "exists(array(id), x -> x > id)",
        "date_add(DAY, 1, id) IS NULL",
        "a b c",
        "id IN (1, 2)",
    ]
    assert [resolve_condition(sql, columns) for sql in good] == [[]] * len(good)
    assert [each.name for each in resolve_condition("idd > 0 OR lower(Carrier) = x", columns)] == ["idd", "x"]
