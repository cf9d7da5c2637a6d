"""A value that the declared type cannot hold exactly is refused under the column's rule, in every format; none is rounded or cut."""

import io
import json
from decimal import Decimal

import fastavro
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet

SCHEMA = "id INT, n INT, cost DECIMAL(6,2), day DATE"
# The text of n, cost and day, and the columns that it does not fit.
VALUES = [
    ("2", "1.25", "2024-03-01", []),
    ("2", "1.250", "2024-03-01T00:00:00", []),
    ("2.9", "1.25", "2024-03-01", ["cast:n"]),
    ("2", "1.255", "2024-03-01", ["cast:cost"]),
    ("2", "12345.5", "2024-03-01", ["cast:cost"]),
    ("2", "1.25", "2024-03-01T10:00:00", ["cast:day"]),
    ("2", "1.25", "2024-03-01 00:00:01", ["cast:day"]),
    ("2", "1.25", "2024-03-01 BC", ["cast:day"]),
    ("3000000000", "0.001", "2024-03-01T23:59:59.999", ["cast:cost", "cast:day", "cast:n"]),
]
EXPECTED = {place: rules for place, (*_, rules) in enumerate(VALUES)}


def csv_file(values: list[tuple[str, str, str, list[str]]]) -> bytes:
    return "".join(["id,n,cost,day\n", *(f"{place},{n},{cost},{day}\n" for place, (n, cost, day, _) in enumerate(values))]).encode()


def ids_and_rules(found, id_of) -> dict[int, list[str]]:
    refused = {id_of(raw): sorted(rules) for raw, rules in found.refused.items()}
    good = {row["id"]: [] for row in found.good}
    assert not set(refused) & set(good)
    for row in found.good:
        assert (row["n"], row["cost"], str(row["day"])) == (2, Decimal("1.25"), "2024-03-01")
    return refused | good


def test_text_formats_refuse_what_would_be_rounded_or_cut(read, tmp_path) -> None:
    found = read("csv", {"a.csv": csv_file(VALUES)}, SCHEMA, header=True)
    assert ids_and_rules(found, lambda raw: int(raw.split(",")[0])) == EXPECTED
    (tmp_path / "in" / "a.csv").unlink()
    lines = [f'{{"id":{place},"n":{n},"cost":{cost},"day":"{day}"}}' for place, (n, cost, day, _) in enumerate(VALUES)]
    found = read("json", {"a.jsonl": "\n".join(lines).encode()}, SCHEMA)
    assert ids_and_rules(found, lambda raw: json.loads(raw)["id"]) == EXPECTED
    (tmp_path / "in" / "a.jsonl").unlink()
    rows = [f"<r><id>{place}</id><n>{n}</n><cost>{cost}</cost><day>{day}</day></r>" for place, (n, cost, day, _) in enumerate(VALUES)]
    found = read("xml", {"a.xml": f"<all>{''.join(rows)}</all>".encode()}, SCHEMA, rowTag="r")
    assert ids_and_rules(found, lambda raw: int(raw.partition("<id>")[2].partition("<")[0])) == EXPECTED


def test_very_many_csv_columns_refuse_what_would_be_rounded_or_cut(read) -> None:
    many = [f"x{place}" for place in range(1200)]
    lines = csv_file(VALUES).decode().splitlines()
    wide = [lines[0] + "," + ",".join(many), *(line + ",1" * len(many) for line in lines[1:])]
    found = read("csv", {"a.csv": "\n".join(wide).encode()}, ", ".join([SCHEMA, *(f"{name} INT" for name in many)]), header=True)
    assert ids_and_rules(found, lambda raw: int(raw.split(",")[0])) == EXPECTED


def test_nested_json_values_are_not_rounded_or_cut(read) -> None:
    schema = "id INT, s STRUCT<`odd name`: DECIMAL(6,2), day: DATE>, costs ARRAY<DECIMAL(6,2)>, by MAP<STRING, DATE>"
    good = '{"id": 0, "s": {"odd name": 1.5, "day": "2024-03-01"}, "costs": [1.25, null], "by": {"a": "2024-03-01", "b": null}}'
    bad = {
        '{"id": 1, "s": {"odd name": 1.255, "day": "2024-03-01"}}': ["cast:s"],
        '{"id": 2, "s": {"odd name": 1.5, "day": "2024-03-01T10:00:00"}}': ["cast:s"],
        '{"id": 3, "costs": [1.25, 1.255]}': ["cast:costs"],
        '{"id": 4, "by": {"a": "2024-03-01T10:00:00"}}': ["cast:by"],
    }
    found = read("json", {"a.jsonl": "\n".join([good, *bad, '{"id": 5}']).encode()}, schema)
    assert found.refused == bad
    whole, empty = sorted(found.good, key=lambda row: row["id"])
    assert (whole["s"]["odd name"], str(whole["s"]["day"]), whole["costs"]) == (Decimal("1.50"), "2024-03-01", [Decimal("1.25"), None])
    assert {key: str(value) for key, value in whole["by"].items()} == {"a": "2024-03-01", "b": "None"}
    assert (empty["s"], empty["costs"], empty["by"]) == (None, None, None)


def test_a_date_format_is_kept_to_the_letter(read, tmp_path) -> None:
    found = read(
        "csv", {"a.csv": b"id,day\n1,01.03.2024\n2,01.03.2024 10:00\n3,\n"}, "id INT, day DATE", header=True, dateFormat="dd.MM.yyyy"
    )
    assert {row["id"]: str(row["day"]) for row in found.good} == {1: "2024-03-01", 3: "None"}
    assert found.refused == {"2,01.03.2024 10:00": ["cast:day"]}


def test_columnar_files_of_a_wider_type_are_refused_as_a_whole(read, tmp_path) -> None:
    for kind, write in (("parquet", pa.parquet.write_table), ("orc", pa.orc.write_table)):
        for column, values in (("n", [2.9]), ("cost", [Decimal("1.255")]), ("day", [1.5])):
            buffer = io.BytesIO()
            write(pa.table({"id": pa.array([1], pa.int32()), column: values}), buffer)
            found = read(kind, {f"a.{kind}": buffer.getvalue()}, SCHEMA)
            assert found.good == []
            assert f"column '{column}' is" in found.bad[f"a.{kind}"]
            (tmp_path / "in" / f"a.{kind}").unlink()
    buffer = io.BytesIO()
    fields = [{"name": "id", "type": "int"}, {"name": "n", "type": "double"}]
    fastavro.writer(buffer, {"type": "record", "name": "row", "fields": fields}, [{"id": 1, "n": 2.9}])
    found = read("avro", {"a.avro": buffer.getvalue()}, SCHEMA)
    assert (found.good, "column 'n' is DOUBLE" in found.bad["a.avro"]) == ([], True)
