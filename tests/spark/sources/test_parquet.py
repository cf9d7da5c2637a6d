"""Parquet files map by name; damage and wrong types show file by file."""

import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def parquet(**columns: pa.Array) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def test_files_of_several_shapes(read) -> None:
    whole = parquet(id=pa.array([1, 2], pa.int32()), name=pa.array(["a", None]))
    files = {
        "a.parquet": whole,
        "b.parquet": parquet(name=pa.array(["c"]), id=pa.array([3], pa.int64()), more=pa.array([0.5])),
        "text_id.parquet": parquet(id=pa.array(["4"]), name=pa.array(["d"])),
        "cut.parquet": whole[: len(whole) // 2],
        "text.parquet": b"id,name\n1,a\n",
        "other.parquet": parquet(x=pa.array([1])),
    }
    found = read("parquet", files, "id BIGINT, name STRING")
    assert sorted((row["id"], row["name"], row["_rescued"]) for row in found.good if row["name"]) == [
        (1, "a", None),
        (3, "c", '{"more":0.5}'),
    ]
    assert found.counts == {"a.parquet": (2, 2, 0), "b.parquet": (1, 1, 0)}
    assert set(found.bad) == {"text_id.parquet", "cut.parquet", "text.parquet", "other.parquet"}
    assert "column 'id' is STRING, expected BIGINT" in found.bad["text_id.parquet"]


def test_what_pandas_writes(read, tmp_path) -> None:
    frame = pd.DataFrame({"id": [1, 2], "at": pd.to_datetime(["2013-01-01 10:00:00.123456", None]), "x": [1.5, None]})
    frame["utc"] = frame["at"].dt.tz_localize("UTC")
    frame.to_parquet(tmp_path / "p.parquet")
    found = read("parquet", {"p.parquet": (tmp_path / "p.parquet").read_bytes()})
    assert found.schema.simpleString() == "struct<id:bigint,at:timestamp_ntz,x:double,utc:timestamp>"
    rows = {row["id"]: row for row in found.good}
    assert (rows[1]["at"], rows[1]["x"]) == (frame["at"][0].to_pydatetime(), 1.5)
    assert (rows[2]["at"], rows[2]["x"], rows[2]["utc"]) == (None, None, None)
    assert len({row["_source_row_hash"] for row in found.good}) == 2


def test_new_fields_inside_structs_are_rescued_and_missing_ones_null(read) -> None:
    files = {
        "a.parquet": parquet(id=pa.array([1, 2]), part=pa.array([{"x": 1, "new": {"y": 2.5}}, None])),
        "b.parquet": parquet(id=pa.array([3]), part=pa.array([{"z": "only"}])),
    }
    found = read("parquet", files, "id BIGINT, part STRUCT<x: BIGINT, z: STRING>")
    assert {row["id"]: (row["part"] and tuple(row["part"]), row["_rescued"]) for row in found.good} == {
        1: ((1, None), '{"part":{"new":{"y":2.5}}}'),
        2: (None, None),
        3: ((None, "only"), None),
    }
    assert ("new", "part.new", ("a.parquet",), "STRUCT<y: DOUBLE>", None) in found.differing


def test_a_flipped_bit_in_a_page_with_a_checksum_makes_the_file_bad(bad_files) -> None:
    stream = io.BytesIO()
    table = pa.table({"id": pa.array(range(5000))})
    pq.write_table(table, stream, compression="none", use_dictionary=False, write_page_checksum=True)
    data = stream.getvalue()
    place = len(data) // 3
    flipped = data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]
    bad = bad_files("parquet", {"good.parquet": data, "flipped.parquet": flipped, "empty.parquet": b""})
    assert set(bad) == {"flipped.parquet", "empty.parquet"}
    assert "CRC" in bad["flipped.parquet"]
