"""ORC files map by name; damage and wrong types show file by file."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
from pyarrow import orc


def orc_file(compression: str = "zlib", **columns: pa.Array) -> bytes:
    stream = io.BytesIO()
    orc.write_table(pa.table(columns), stream, compression=compression)
    return stream.getvalue()


def test_files_of_several_shapes(read) -> None:
    whole = orc_file(id=pa.array([1, 2], pa.int32()), name=pa.array(["a", None]))
    many = orc_file(id=pa.array(range(5000)), name=pa.array([str(number * 7919) for number in range(5000)]))
    files = {
        "a.orc": whole,
        "b.orc": orc_file("snappy", name=pa.array(["c"]), id=pa.array([3], pa.int64()), more=pa.array([0.5])),
        "no_name.orc": orc_file("zstd", ID=pa.array([4])),
        "text_id.orc": orc_file(id=pa.array(["4"]), name=pa.array(["d"])),
        "none.orc": orc_file(id=pa.array([], pa.int64()), name=pa.array([], pa.string())),
        "cut.orc": many[: len(many) // 2],
        "cut_at_the_end.orc": many[:-1],
        "text.orc": b"id,name\n1,a\n",
        "three_bytes.orc": b"ORC",
        "other.orc": orc_file(x=pa.array([1])),
    }
    found = read("orc", files, "id BIGINT, name STRING")
    assert sorted((row["id"], row["name"], row["_rescued"]) for row in found.good) == [
        (1, "a", None),
        (2, None, None),
        (3, "c", '{"more":0.5}'),
        (4, None, None),
    ]
    assert found.counts == {"a.orc": (2, 2, 0), "b.orc": (1, 1, 0), "no_name.orc": (1, 1, 0)}
    assert set(found.bad) == {"text_id.orc", "cut.orc", "cut_at_the_end.orc", "text.orc", "three_bytes.orc", "other.orc"}
    assert "column 'id' is STRING, expected BIGINT" in found.bad["text_id.orc"]
    assert found.differing == {
        ("new", "more", ("b.orc",), "DOUBLE", None),
        ("missing", "name", ("no_name.orc", "other.orc"), None, "STRING"),
        ("type", "id", ("text_id.orc",), "STRING", "BIGINT"),
        ("new", "x", ("other.orc",), "BIGINT", None),
        ("missing", "id", ("other.orc",), None, "BIGINT"),
    }


def test_types(read) -> None:
    at = datetime(2013, 1, 1, 10, 0, 0, 123456)
    data = orc_file(
        id=pa.array([1, 2], pa.int16()),
        day=pa.array([date(2013, 1, 1), None]),
        utc=pa.array([at, None], pa.timestamp("us", "UTC")),
        price=pa.array([Decimal("1.50"), None], pa.decimal128(5, 2)),
        part=pa.array([{"a": 1, "b": "x"}, None]),
        tags=pa.array([["a", None], []]),
        raw=pa.array([b"\xff", None]),
    )
    found = read("orc", {"a.orc": data})
    assert found.schema.simpleString() == (
        "struct<id:smallint,day:date,utc:timestamp,price:decimal(5,2),part:struct<a:bigint,b:string>,tags:array<string>,raw:binary>"
    )
    rows = {row["id"]: row.asDict(recursive=True) for row in found.good}
    assert rows[1]["utc"].astimezone(UTC).replace(tzinfo=None) == at
    assert [rows[1][name] for name in ("day", "price", "part", "tags", "raw")] == [
        date(2013, 1, 1),
        Decimal("1.50"),
        {"a": 1, "b": "x"},
        ["a", None],
        b"\xff",
    ]
    assert [rows[2][name] for name in ("day", "utc", "price", "part", "tags", "raw")] == [None, None, None, None, [], None]
