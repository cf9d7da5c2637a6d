"""Avro files map by name; damage and wrong types show file by file."""

import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import fastavro

BASE = [{"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"]}]


def avro_file(fields: list[dict], rows: list[dict], codec: str = "deflate", sync_interval: int = 16000) -> bytes:
    stream = io.BytesIO()
    schema = {"type": "record", "name": "row", "fields": fields}
    fastavro.writer(stream, fastavro.parse_schema(schema), rows, codec, sync_interval, sync_marker=b"0123456789abcdef")
    return stream.getvalue()


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def renamed_codec(data: bytes) -> bytes:
    """The same file, said to be compressed with another codec of seven letters."""
    return data.replace(b"deflate", b"zstndrd")


def test_files_of_several_shapes_and_damaged_ones(read) -> None:
    whole = avro_file(BASE, [{"id": 1, "name": "a"}, {"id": 2, "name": None}])
    many = avro_file(BASE, [{"id": number, "name": str(number * 7919)} for number in range(5000)], sync_interval=4000)
    plain = avro_file(BASE, [{"id": 1000 + number, "name": "x" * 20} for number in range(700)], "null", sync_interval=4000)
    text_id = avro_file([{"name": "id", "type": "string"}, BASE[1]], [{"id": "4", "name": "d"}])
    stream = io.BytesIO()
    fastavro.writer(stream, "string", ["no record"])
    files = {
        "a.avro": whole,
        "b.avro": avro_file(
            [BASE[1], {"name": "id", "type": "int"}, {"name": "more", "type": "double"}], [{"id": 3, "name": "c", "more": 0.5}]
        ),
        "no_name.avro": avro_file([{"name": "ID", "type": "long"}], [{"ID": 4}], "null"),
        "plain.avro": plain,
        "none.avro": avro_file(BASE, []),
        "text_id.avro": text_id,
        "cut.avro": many[: len(many) // 2],
        "cut_at_the_end.avro": many[:-1],
        "more_behind.avro": many + b"\x00",
        "sync.avro": flipped(many, len(many) - 5),
        "header.avro": flipped(many, 2),
        "codec.avro": renamed_codec(whole),
        "text.avro": b"id,name\n1,a\n",
        "three_bytes.avro": b"Obj",
        "zero_bytes.avro": b"",
        "no_record.avro": stream.getvalue(),
    }
    found = read("avro", files, "id BIGINT, name STRING")
    assert found.counts == {"a.avro": (2, 2, 0), "b.avro": (1, 1, 0), "no_name.avro": (1, 1, 0), "plain.avro": (700, 700, 0)}
    expected = [(row["id"], row["name"], None) for row in fastavro.reader(io.BytesIO(plain))]
    assert sorted((row["id"], row["name"], row["_rescued"]) for row in found.good) == [
        (1, "a", None),
        (2, None, None),
        (3, "c", '{"more":0.5}'),
        (4, None, None),
        *expected,
    ]
    good = {"a.avro", "b.avro", "no_name.avro", "plain.avro", "none.avro", "zero_bytes.avro"}  # the empty one is told by the listing
    assert set(found.bad) == set(files) - good
    assert "column 'id' is STRING, expected BIGINT" in found.bad["text_id.avro"]
    assert "sync marker" in found.bad["sync.avro"]
    assert "'zstndrd'" in found.bad["codec.avro"]
    assert "not a record" in found.bad["no_record.avro"]
    assert found.differing == {
        ("new", "more", ("b.avro",), "DOUBLE", None),
        ("missing", "name", ("no_name.avro",), None, "STRING"),
        ("type", "id", ("text_id.avro",), "STRING", "BIGINT"),
    }


def test_damage_inside_a_block_makes_the_file_bad(bad_files) -> None:
    rows = [{"id": number, "name": str(number * 7919)} for number in range(2000)]
    packed, plain = avro_file(BASE, rows), avro_file(BASE, rows, "null")
    branch = plain.index(b"7919") - 2  # before the text stand its length and the branch of the union
    files = {
        "good.avro": packed,
        "packed.avro": flipped(packed, len(packed) - 400),
        "union.avro": plain[:branch] + b"\x7e" + plain[branch + 1 :],
        "zero_bytes.avro": b"",
    }
    found = bad_files("avro", files, "id BIGINT, name STRING")
    assert set(found) == {"packed.avro", "union.avro", "zero_bytes.avro"}
    for name in ("packed.avro", "union.avro"):
        assert found[name].startswith("it cannot be read: the records of the block at byte "), found[name]


def test_types(read) -> None:
    at = datetime(2013, 1, 1, 10, 0, 0, 123000, UTC)
    address = {
        "type": "record",
        "name": "address",
        "fields": [{"name": "city", "type": "string"}, {"name": "on", "type": ["null", {"type": "int", "logicalType": "date"}]}],
    }
    kinds = {
        "id": "int",
        "day": ["null", {"type": "int", "logicalType": "date"}],
        "millis": ["null", {"type": "long", "logicalType": "timestamp-millis"}],
        "micros": ["null", {"type": "long", "logicalType": "timestamp-micros"}],
        "local": ["null", {"type": "long", "logicalType": "local-timestamp-millis"}],
        "price": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}],
        "fixed": ["null", {"type": "fixed", "name": "f8", "size": 8, "logicalType": "decimal", "precision": 10, "scale": 3}],
        "key": ["null", {"type": "string", "logicalType": "uuid"}],
        "suit": ["null", {"type": "enum", "name": "suit", "symbols": ["CLUBS", "HEARTS"]}],
        "raw": ["null", "bytes"],
        "tags": ["null", {"type": "array", "items": ["null", "string"]}],
        "days": ["null", {"type": "map", "values": {"type": "int", "logicalType": "date"}}],
        "home": ["null", address],
        "other": ["null", "address"],
        "either": ["null", "long", "string", {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1}],
        "nothing": "null",
        "flag": ["null", "boolean"],
        "ratio": ["null", "float"],
    }
    rows = [
        {
            "id": 1,
            "day": date(2013, 1, 1),
            "millis": at,
            "micros": at + timedelta(microseconds=456),
            "local": at.replace(tzinfo=None),
            "price": Decimal("-1.50"),
            "fixed": Decimal("12.345"),
            "key": UUID(int=7),
            "suit": "HEARTS",
            "raw": b"\xff",
            "tags": ["a", None],
            "days": {"first": date(1969, 12, 31)},
            "home": {"city": "Köln", "on": date(2020, 2, 29)},
            "other": {"city": "x", "on": None},
            "either": "text",
            "nothing": None,
            "flag": True,
            "ratio": 0.5,
        },
        dict.fromkeys(kinds) | {"id": 2},
        dict.fromkeys(kinds) | {"id": 3, "either": 5},
        dict.fromkeys(kinds) | {"id": 4, "either": Decimal("2.5")},
    ]
    data = avro_file([{"name": name, "type": kind} for name, kind in kinds.items()], rows)
    found = read("avro", {"a.avro": data})
    assert found.schema.simpleString() == (
        "struct<id:int,day:date,millis:timestamp,micros:timestamp,local:timestamp_ntz,price:decimal(10,2),fixed:decimal(10,3),key:string,"
        "suit:string,raw:binary,tags:array<string>,days:map<string,date>,home:struct<city:string,on:date>,"
        "other:struct<city:string,on:date>,either:string,nothing:string,flag:boolean,ratio:float>"
    )
    got = {row["id"]: row.asDict(recursive=True) for row in found.good}
    for row in fastavro.reader(io.BytesIO(data)):
        mine = got.pop(row["id"])
        for name in kinds:
            value, wanted = mine[name], row[name]
            if name in ("millis", "micros") and value is not None:
                value = value.astimezone(UTC)
            if name == "key" and wanted is not None:
                wanted = str(wanted)
            if name == "either" and wanted is not None:
                wanted = json.dumps(wanted, default=str)
            assert value == wanted, (row["id"], name)
    assert not got
