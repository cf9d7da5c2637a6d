"""What the quick look at records lets pass; that it never lets pass too much is asked of every file that these tests read."""

from __future__ import annotations

import io

import pandas as pd
import pytest

SCHEMA = "id INT, size DOUBLE, name STRING, at TIMESTAMP"
ROWS = [(1, 0.5, "a", "2013-01-01T05:00:00Z"), (2, None, 'b "c", d', "2013-01-02T05:00:00Z"), (3, -1e300, "ü", None)]


def csv() -> bytes:
    lines = ["id,size,name,at", "1,0.5,a,2013-01-01T05:00:00Z", '2,NA,"b ""c"", d",2013-01-02T05:00:00Z', "3,-1e300,ü,NA"]
    return "\n".join(lines).encode()


def json_lines() -> bytes:
    frame = pd.DataFrame([{"id": one, "size": size, "name": name.replace('"', "'"), "at": at} for one, size, name, at in ROWS])
    return frame.to_json(orient="records", lines=True, force_ascii=False).encode()


def parquet() -> bytes:
    frame = pd.DataFrame(ROWS, columns=["id", "size", "name", "at"])
    stream = io.BytesIO()
    frame.assign(id=frame["id"].astype("int32"), at=pd.to_datetime(frame["at"])).to_parquet(stream, index=False)
    return stream.getvalue()


def orc() -> bytes:
    stream = io.BytesIO()
    pd.DataFrame(ROWS, columns=["id", "size", "name", "at"]).astype({"id": "int32"}).drop(columns="at").to_orc(stream, index=False)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "data", "options"),
    [("csv", csv, {"header": True, "nullValue": "NA"}), ("json", json_lines, {}), ("parquet", parquet, {}), ("orc", orc, {})],
)
def test_ordinary_records_are_plain(read, kind, data, options) -> None:
    found = read(
        kind, {f"1.{kind}": data(), f"2.{kind}": data()}, SCHEMA if kind != "orc" else "id INT, size DOUBLE, name STRING", **options
    )
    assert (len(found.plain), len(found.good)) == (6, 6)
    assert sorted(row["id"] for row in found.plain) == [1, 1, 2, 2, 3, 3]


def test_a_record_that_may_be_odd_is_not_plain(read) -> None:
    lines = ["1,0.5,a,2013-01-01T05:00:00Z", "x,1,b,", '4,1,"open,', "5,1d,c,", "6,NaN,d,", "7,1,e", "8,1,f\0,", "9,1,\xff,"]
    data = "\n".join(["id,size,name,at", *lines, "id,size,name,at", ""]).encode("latin-1")
    assert [row["id"] for row in read("csv", {"1.csv": data}, SCHEMA, header=True).plain] == [1]
    objects = [
        '{"id":1,"size":0.5,"name":"a","at":null}',
        '{"id":2,"size":0.5,"name":"a","at":null,"more":1}',
        '{"id":3,"size":0.5,"name":"a","at":null} {}',
        '{"id":4,"id":4,"name":"a","at":null}',
        '{"id":"x","size":0.5,"name":"a","at":null}',
        '{"id":6,"size":1e400,"name":"a","at":null}',
        '{"ID":7,"size":0.5,"name":"a","at":null}',
        "[8]",
    ]
    assert [row["id"] for row in read("json", {"1.json": "\n".join(objects).encode()}, SCHEMA).plain] == [1]
