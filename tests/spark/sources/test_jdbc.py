"""Databases: values are as another client sees them, or refused by name; what is new is read once the watermark has grown."""

import json
import sqlite3
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from tests.spark.sources.postgres import PASSWORD, USER

from tidemill.errors import SetupError, SourceError, UsageError

pytestmark = pytest.mark.xdist_group("postgres")

TYPES = """create table types (id int primary key, n numeric, money numeric(10,2), tz timestamptz, ts timestamp, d date, t time, j json,
    jb jsonb,
 u uuid, b bytea, yes boolean, m mood, ai int[], at text[], an numeric[], r real, f double precision, big bigint, c char(3))"""
ROW = """insert into types values (1, 1.5, 2.50, '2026-01-02 03:04:05.123456+05:30', '2026-03-08 02:30:00.5', '2026-01-02', '13:45:00.25',
 '{"a": 1}', '{"a":1}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '\\xdeadbeef', true, 'ok', '{1,null,3}', '{a,"b,c",null}', '{1.50,2}', 1.1,
 0.1, 9223372036854775807, 'a')"""


@pytest.fixture
def declared(postgres):
    return {"format": "jdbc", "url": postgres.url, "user": USER, "password": PASSWORD}


def test_postgresqls_values_are_kept_or_refused_by_name(postgres, declared, extract) -> None:
    postgres.run("create type mood as enum ('sad', 'ok')", TYPES, ROW)
    postgres.run("insert into types (id, n, tz, d, f, an, ai) values (2, 'NaN', 'infinity', '-infinity', 'NaN', '{NaN}', '{{1,2},{3,4}}')")
    postgres.run(
        "insert into types (id, n) values (3, 1.0000000000000000001), (4, 1e21), (5, null)",
        "insert into types (id, d) values (6, '0044-03-15 BC')",
    )
    found = extract(**declared, table="types")
    names = "id, n, money, tz, ts, d, t::text, j::text, jb::text, u::text, b, yes, m::text, ai, at, an, r, f, big, c"
    expected = dict(zip(found.schema.names, postgres.run(f"select {names} from types where id = 1")[0], strict=True))
    row = found.good[0].asDict()
    assert expected["tz"] == datetime(2026, 1, 1, 21, 34, 5, 123456, UTC)
    assert row["tz"].replace(tzinfo=UTC) == expected.pop("tz") or row["tz"].astimezone(UTC) == datetime(2026, 1, 1, 21, 34, 5, 123456, UTC)
    assert row["r"] == pytest.approx(expected.pop("r"), rel=1e-6)
    assert bytes(row["b"]) == expected.pop("b")
    assert {name: row[name] for name in expected if name != "tz"} == expected
    assert row["money"] == Decimal("2.50")
    assert found.ids == [1, 5]
    assert {json.loads(raw)["id"]: rules for raw, rules in found.refused.items()} == {
        "2": ["cast:n", "cast:tz", "cast:d", "cast:ai", "cast:an", "not_finite:f"],
        "3": ["cast:n"],
        "4": ["cast:n"],
        "6": ["cast:d"],
    }
    assert found.good[0]["_source_file"] == f"jdbc:postgresql://127.0.0.1:{postgres.port}/db/types"


def test_late_rows_and_rows_without_a_watermark_come_again(postgres, declared, extract) -> None:
    postgres.run("create table late (id int, at timestamptz, v text)")
    postgres.run(
        "insert into late select n, '2026-01-01 10:00:00+00'::timestamptz + n * interval '1 minute', 'x' from generate_series(0, 59) n"
    )
    postgres.run("insert into late values (100, null, 'x'), (101, 'infinity', 'x'), (null, '2026-01-01 10:00:00+00', 'x')")
    source = declared | {"table": "late", "load": "incremental", "watermark": "at", "key": ["id"], "overlap": "10m"}
    first = extract(**source, options={"partitionColumn": "id", "numPartitions": 4})
    assert first.extract.is_merged
    assert first.extract.records.frame.rdd.getNumPartitions() == 4
    # A null in the key is for who merges to judge.
    assert first.ids == [None, *range(60), 100]
    assert sorted(first.refused.values()) == [["cast:at"]]
    assert json.loads(first.extract.position) == {"watermark": "at", "type": "timestamp", "value": "2026-01-01 10:59:00+00"}
    postgres.run("insert into late values (200, '2026-01-01 10:52:00.000001+00', 'late'), (201, '2026-01-01 10:40:00+00', 'too late')")
    postgres.run("insert into late values (202, '2026-01-01 11:30:00.123456+00', 'new')")
    again = extract(first.extract.position, **source)
    assert again.ids == [*range(49, 60), 100, 200, 202]
    assert json.loads(again.extract.position)["value"] == "2026-01-01 11:30:00.123456+00"
    postgres.run("delete from late where id = 202")
    assert extract(again.extract.position, **source).extract.position == again.extract.position


def test_a_declared_schema_refuses_what_does_not_fit(postgres, declared, extract) -> None:
    postgres.run("create table loose (id text, v numeric)", "insert into loose values ('1', 1.50), ('2', 1.555), ('x', 1), ('4', null)")
    found = extract(**declared, query="select id, v, 7 as more from loose", schema="id INT, v DECIMAL(5,2), gone STRING")
    assert [(row["id"], row["v"], row["_rescued"]) for row in found.good] == [
        (1, Decimal("1.50"), '{"more":"7"}'),
        (4, None, '{"more":"7"}'),
    ]
    assert found.refused == {'{"id":"2","v":"1.555","more":"7"}': ["cast:v"], '{"id":"x","v":"1","more":"7"}': ["cast:id"]}
    assert {(part.kind, part.column) for part in found.extract.records.differences} == {("new", "more"), ("missing", "gone")}


def test_no_secret_is_in_what_is_said(postgres, declared, extract) -> None:
    place = f"127.0.0.1:{postgres.port}"
    cases = [
        ({"table": "none"}, rf"{place}/db/none: relation \"none\" does not exist"),
        ({"table": "t", "password": "wrong word"}, rf"{place}/db/t: password authentication failed for user \"\*\*\*\""),
        ({"table": "t", "url": f"jdbc:postgresql://{USER}:p@ss@{place}/no_db?password=geheim", "user": None}, "127.0.0.1"),
        ({"table": "t", "url": "jdbc:postgresql://127.0.0.1:1/db"}, "127.0.0.1:1/db/t: Connection refused"),
    ]
    for changed, told in cases:
        with pytest.raises(SourceError, match=told) as error:
            extract(**{**declared, **changed})
        assert not [word for word in (USER, PASSWORD, "wrong word", "p@ss", "geheim") if word in str(error.value)]
        assert "\n" not in str(error.value)
    postgres.run("create table few (id int, j json)")
    with pytest.raises(UsageError, match="has no column 'idd'; did you mean 'id'"):
        extract(**declared, table="few", load="incremental", watermark="idd", key=["id"])
    with pytest.raises(UsageError, match="is INT, which has no 10m"):
        extract(**declared, table="few", load="incremental", watermark="id", key=["id"], overlap="10m")
    with pytest.raises(SetupError, match="no driver"):
        extract(format="jdbc", url="jdbc:mysql://u:geheim@h/db", table="t")


def test_sqlites_values_have_types_of_their_own(tmp_path, extract, monkeypatch) -> None:
    file = tmp_path / "a CANARYq7Zx91.db"
    monkeypatch.setenv("TIDEMILL_SECRET_A_B", "CANARYq7Zx91")
    with sqlite3.connect(file) as base:
        base.execute("create table m (id integer primary key, score real, seen timestamp, day date, x, b blob, yes boolean, n int)")
        rows = [
            (1, 0.1 + 0.2, "2026-01-01 10:00:00.123", "2026-01-01", 5, b"\x00\xff", 1, 5),
            (2, "junk", "2026-01-01T11:00:00", None, "text", None, 0, "abc"),
            (2**40, float("inf"), None, None, 1.1, None, None, None),
            (2**41, None, None, None, None, None, None, 7),
        ]
        base.executemany("insert into m values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    url = f"jdbc:sqlite:{tmp_path}/a ${{secret:a/b}}.db"
    source = {"format": "jdbc", "url": url, "table": "m"}
    found = extract(**source)
    assert found.ids == [1, 2**41]
    assert {found.extract.place, *(row["_source_file"] for row in found.good)} == {f"{url}/m"}
    with pytest.raises(SourceError) as refused:
        extract(**{**source, "table": "none"})
    assert "CANARY" not in str(refused.value)
    row = found.good[0]
    assert (row["score"], row["seen"], row["day"]) == (0.1 + 0.2, datetime(2026, 1, 1, 10, 0, 0, 123000), date(2026, 1, 1))
    assert (row["x"], bytes(row["b"]), row["yes"], row["n"]) == ("5", b"\x00\xff", True, 5)
    assert sorted(found.refused.values()) == [["cast:score", "cast:n"], ["not_finite:score"]]
    with sqlite3.connect(file) as base:
        base.execute("insert into m (id, n) values (7, 6), (8, 3), (9, 9)")
    since = json.dumps({"watermark": "n", "type": "bigint", "value": "7"})
    again = extract(since, **source, load="incremental", watermark="n", key=["id"], options={"overlap": 1})
    assert again.ids == [7, 9, 2**41]
    assert json.loads(again.extract.position)["value"] == "9"
    with pytest.raises(SourceError, match=r"none.db/m: Unable to open"):
        extract(**{**source, "url": f"jdbc:sqlite:{tmp_path}/none.db"})
    assert not (tmp_path / "none.db").exists()
