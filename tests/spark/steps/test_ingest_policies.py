"""What becomes of columns that the schema lacks, of those that files lack, and of values that do not fit, policy by policy."""

import json

import pandas as pd
import pytest
from tests.spark.tables import read_rows

from tidemill.errors import SourceError


@pytest.fixture
def declared(declared) -> dict[str, object]:
    """Files whose schema is inferred where the test does not give one."""
    return {name: value for name, value in declared.items() if name != "schema"}


def bronze(lake, *names: str) -> list[tuple]:
    return sorted(tuple(row[name] for name in names) for row in read_rows(lake, "bronze.x"))


def types(spark, lake) -> dict[str, str]:
    fields = lake.read(spark, "bronze.x").schema.fields
    return {part.name: part.dataType.simpleString() for part in fields if not part.name.startswith("_")}


def changes(lake, run_id: str) -> list[tuple]:
    rows = lake.ledger.rows("ops.schema_changes", source="x", run_id=run_id)
    return sorted((row["column_name"], row["difference"], row["action"], row["records"]) for row in rows)


def schemas(lake) -> list[tuple]:
    return [(row["version"], row["schema"]) for row in lake.ledger.rows("ops.schemas", source="x")]


@pytest.mark.long("six ingests with another header each")
def test_csv_columns_come_and_go(load, raw, lake, spark) -> None:
    (raw / "1.csv").write_text("id,name\n1,a\n")
    load("r1")
    assert schemas(lake) == [(1, "id INT, name STRING")]

    (raw / "2.csv").write_text("id,name,price,day\n2,b,1.5,2013-01-01\n")
    load("r2", on_new_column="rescue")
    assert json.loads(lake.read(spark, "bronze.x").where("id = 2").first()["_rescued"]) == {"price": "1.5", "day": "2013-01-01"}
    assert changes(lake, "r2") == [("day", "new", "rescued", None), ("price", "new", "rescued", None)]

    (raw / "3.csv").write_text("id,name,price\n3,c,2\n")
    (raw / "4.csv").write_text("price,name,id\n2.5,d,4\n")
    with pytest.raises(SourceError, match=r"sources\.x: new column price.*on_new_column: fail.*stays as it was"):
        load("r3", on_new_column="fail")
    assert bronze(lake, "id") == [(1,), (2,)]
    assert changes(lake, "r3") == [("price", "new", "failed", None)]
    assert not lake.ledger.rows("ops.files", run_id="r3")

    load("r4", on_new_column="add")
    assert bronze(lake, "id", "price") == [(1, None), (2, None), (3, 2.0), (4, 2.5)]
    assert changes(lake, "r4") == [("price", "new", "added", None)]
    assert schemas(lake)[1:] == [(2, "id INT, name STRING, price DOUBLE")]

    (raw / "5.csv").write_text("id,name\n5,e\n")
    with pytest.raises(SourceError, match=r"no column price.*on_missing_column: fail"):
        load("r5", on_missing_column="fail")
    load("r6", on_missing_column="null")
    assert bronze(lake, "id", "price")[-1] == (5, None)
    assert changes(lake, "r6") == [("price", "missing", "null", None)]
    assert len(schemas(lake)) == 2


@pytest.mark.long("five ingests that widen one table")
def test_csv_values_outgrow_their_type(load, raw, lake, spark) -> None:
    (raw / "1.csv").write_text("id,name,n\n1,a,1\n")
    typed = {"schema": "id INT, name STRING, n INT"}
    load("r1", **typed)
    (raw / "2.csv").write_text("id,name,n\n2,b,3000000000\n3,c,oops\n4,d,4\n5,e,\n")
    with pytest.raises(SourceError, match=r"column n holds values that are not INT.*on_type_change: fail"):
        load("r2", on_type_change="fail", **typed)
    assert bronze(lake, "id") == [(1,)]
    assert read_rows(lake, "bronze.x_quarantine") == []

    # Narrowest first: BIGINT takes all but the junk, so DOUBLE is not asked for.
    result = load("r3", on_type_change="widen", **typed)
    assert (result.rows_in, result.rows_out, result.rows_quarantined) == (4, 3, 1)
    assert types(spark, lake) == {"id": "int", "name": "string", "n": "bigint"}
    assert bronze(lake, "id", "n") == [(1, 1), (2, 3000000000), (4, 4), (5, None)]
    assert changes(lake, "r3") == [("n", "type", "quarantined", 1), ("n", "type", "widened", 1)]
    assert schemas(lake) == [(1, "id INT, name STRING, n INT"), (2, "id INT, name STRING, n BIGINT")]
    # Written by Delta's default features alone, so that other readers still open it.
    assert len(pd.DataFrame(lake.read(spark, "bronze.x").collect())) == 4

    (raw / "3.csv").write_text("id,name,n\n6,f,4000000000\n7,g,1.5\n")
    assert load("r4", on_type_change="quarantine", **typed).rows_quarantined == 1
    assert changes(lake, "r4") == [("n", "type", "quarantined", 1)]
    (raw / "4.csv").write_text("id,name,n\n8,h,2.5\n")
    load("r5", on_type_change="widen", **typed)
    assert types(spark, lake)["n"] == "double"
    assert bronze(lake, "id", "n")[-2:] == [(6, 4e9), (8, 2.5)]


@pytest.mark.long("five ingests with other keys each")
def test_json_keys_show_in_the_records_alone(load, raw, lake, spark) -> None:
    source = {"format": "json", "options": {}}
    (raw / "1.json").write_text('{"id": 1, "name": "a"}\n')
    load("r1", **source)
    (raw / "2.json").write_text('{"id": 2, "name": "b", "more": [1]}\n{"id": 3}\n{"id": 4, "more": []}\n')
    load("r2", **source)
    assert changes(lake, "r2") == [("more", "new", "rescued", 2)]
    (raw / "3.json").write_text('{"id": 5, "deep": {"x": 1}}\n')
    with pytest.raises(SourceError, match=r"new column deep.*fail"):
        load("r3", on_new_column="fail", **source)
    with pytest.raises(SourceError, match=r"no column name.*fail"):
        load("r4", on_missing_column="fail", **source)
    load("r5", on_new_column="add", **source)
    assert types(spark, lake) == {"id": "bigint", "name": "string", "deep": "struct<x:bigint>"}
    assert [row["deep"]["x"] for row in lake.read(spark, "bronze.x").where("id = 5").collect()] == [1]
    assert bronze(lake, "id") == [(1,), (2,), (3,), (4,), (5,)]


def test_parquet_files_of_a_wider_type(load, raw, lake, spark) -> None:
    source = {"format": "parquet", "options": {}}
    pd.DataFrame({"id": pd.array([1], "int32"), "name": ["a"]}).to_parquet(raw / "1.parquet")
    load("r1", **source)
    pd.DataFrame({"id": pd.array([2], "int64"), "name": ["b"]}).to_parquet(raw / "2.parquet")
    with pytest.raises(SourceError, match=r"column id holds values that are not INT but BIGINT.*fail"):
        load("r2", on_type_change="fail", **source)
    load("r3", on_type_change="quarantine", **source)
    [bad] = lake.ledger.rows("ops.files", source="x", state="bad")
    assert "BIGINT, expected INT" in bad["error"]
    assert bronze(lake, "id") == [(1,)]
    pd.DataFrame({"id": pd.array([2], "int64"), "name": ["c"]}).to_parquet(raw / "2.parquet", compression=None)
    load("r4", on_type_change="widen", **source)
    assert types(spark, lake)["id"] == "bigint"
    assert bronze(lake, "id", "name") == [(1, "a"), (2, "c")]
