"""Types that nobody declared keep every value, in each text format, and in files that come later."""

from __future__ import annotations

import gzip
from decimal import Decimal

LONG = "0.1234567890123456789"


def test_csv_json_and_xml_keep_values(read) -> None:
    head = "zip,big,short,long,truth,day,at,version,time"
    rows = [
        f"02134,12345678901234567890,0.30000000000000004,{LONG},true,2024-01-02,2024-01-02 03:04:05,1.5,12:30",
        "10001,1,1e3,1,False,2024-02-29,2024-01-02T03:04:05.678Z,2,07:15",
    ]
    found = read("csv", {"a.csv": "\n".join([head, *rows]).encode()}, header=True)
    assert found.schema.simpleString() == (
        "struct<zip:string,big:decimal(20,0),short:double,long:decimal(20,19),truth:boolean,day:date,at:timestamp,version:double,time:string>"
    )
    first = next(row for row in found.good if row["zip"] == "02134")
    assert (first["big"], first["short"], first["long"]) == (Decimal("12345678901234567890"), 0.30000000000000004, Decimal(LONG))
    assert not found.refused


def test_numbers_of_json(read) -> None:
    lines = [f'{{"a":{LONG},"b":[1.5,2],"c":{{"d":12345678901234567890}},"e":1e400,"f":0.1}}', '{"a":1,"b":[0.5],"c":{"d":1},"e":1,"f":2}']
    found = read("json", {"a.json": "\n".join(lines).encode()})
    assert found.schema.simpleString() == ("struct<a:decimal(20,19),b:array<double>,c:struct<d:decimal(20,0)>,e:string,f:double>")
    first = next(row for row in found.good if row["f"] == 0.1)
    assert (first["a"], first["c"]["d"], first["e"]) == (Decimal(LONG), Decimal("12345678901234567890"), "1e400")


def test_numbers_of_xml(read) -> None:
    record = "<x><zip>{}</zip><long>{}</long><whole>{}</whole></x>"
    text = f"<r>{record.format('02134', LONG, 1)}{record.format('1', 1, 2)}</r>"
    found = read("xml", {"a.xml": text.encode()}, rowTag="x")
    assert found.schema.simpleString() == "struct<long:decimal(20,19),whole:bigint,zip:string>"
    assert {row["zip"]: row["long"] for row in found.good} == {"02134": Decimal(LONG), "1": Decimal(1)}


def test_later_files_lose_nothing_either(read_pinned) -> None:
    lines = ["i,d,f,s", "007,1.5,0.5,01", "5,0.12345678901234567,0.5,x", "6,0.30000000000000004,0.5,02", "7,01.5,0.1,x", "8,1,0.123,x"]
    csv = read_pinned("csv", "i INT, d DOUBLE, f DECIMAL(4,2), s STRING", "\n".join(lines).encode(), header=True)
    assert csv == ([6], {"007,1.5,0.5,01": ["cast:i"], lines[2]: ["cast:d"], lines[4]: ["cast:d"], lines[5]: ["cast:f"]})
    json = read_pinned("json", "i INT, f DECIMAL(4,2)", b'{"i":1,"f":0.126}\n{"i":2,"f":0.12}\n{"i":3,"f":null}\n{"i":4,"f":1234567}\n')
    assert json == ([2, 3], {'{"i":1,"f":0.126}': ["cast:f"], '{"i":4,"f":1234567}': ["cast:f"]})
    xml = read_pinned("xml", "i BIGINT", b"<r><x><i>02</i></x><x><i>3</i></x></r>", rowTag="x")
    assert xml == ([3], {"<x><i>02</i></x>": ["cast:i"]})
    wide = ",".join(f"c{place}" for place in range(1001))
    rows = [wide, ",".join(["01"] + ["1"] * 1000), ",".join(["2"] * 1001)]
    good, refused = read_pinned("csv", ", ".join(f"c{place} INT" for place in range(1001)), "\n".join(rows).encode(), header=True, at="c0")
    assert (good, list(refused.values())) == ([2], [["cast:c0"]])


def test_a_record_that_is_too_long_makes_its_file_bad(read) -> None:
    long = {"maxRecordBytes": 100_000}
    rest = {"csv": ({"header": True}, b"value\n1\n"), "json": ({}, b'{"value":"1"}\n'), "text": ({}, b"1\n")}
    for kind, (options, data) in rest.items():
        found = read(kind, {"bomb.gz": gzip.compress(data + b"x" * 200_000), "a.txt": data}, "value STRING", **options, **long)
        assert [row["value"] for row in found.good] == ["1"]
        assert "more than 100000 bytes" in found.bad["bomb.gz"], kind
