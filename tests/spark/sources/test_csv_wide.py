"""Lines with very many fields are parsed in pieces, by the same rules as those with few."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from tests.tiers import parametrize_first

from tidemill.runtime.session import child_session
from tidemill.sources import records as wide
from tidemill.sources.files.csv import wide as csv_wide
from tidemill.sources.files.listing import list_files
from tidemill.sources.schema.types import parse_schema
from tidemill.spec.models import SOURCE_KINDS, Source

SCHEMA = "id INT, name STRING, price DOUBLE, day DATE, cost DECIMAL(6,2), size FLOAT"
LINES = [
    b'1,"a ""quoted"", name",1.5,2013-01-01,1.25,2',
    b'2,5" pipe,2,2013-01-02,1.2500,-1e3',
    b"3,,,,,",
    "4,caf\u00e9 \ufffd,1e3,2013-01-04,,".encode(),
    b'5,"NaN",1,2013-01-05,-0.5,1',
    b'6,"1.5d, Infinity",1,2013-01-05,1.5,"2"',
    b"",
    b"7,x,1",
    b"8,x,1,2013-01-01,1,1,",
    b"x,x,1,2013-01-01,1,1",
    b"9,x,abc,2013-13-01,1.255,y",
    b"99999999999,x,1,2013-01-01,99999,1",
    b"10,x,NaN,2013-01-01,1,Infinity",
    b"11,x,1.5d,2013-01-01,1,0x1p3",
    b'12,"open,1,2013-01-01,1,1',
    b'13,x,1,2013-01-01,1,"open',
    b"14,nul\0,1,2013-01-01,1,1",
    b"15,\xff\xfe,1,2013-01-01,1,1",
    b"   ",
    b"id,name,price,day,cost,size",
    b'16,"a"b,1,2013-01-01,"1",1',
]


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every line for a long one, and two fields for a piece."""
    monkeypatch.setattr(wide, "WIDE", 0)
    monkeypatch.setattr(csv_wide, "_CHUNK_FIELDS", 2)


def judged(found) -> tuple:
    # In which order the rules of a record are told is of no matter.
    return sorted(map(str, found.good)), {raw: sorted(rules) for raw, rules in found.refused.items()}, found.counts, found.differing


@pytest.mark.parametrize(
    ("header", "options"),
    [
        (b"id,name,price,day,cost,size", {}),
        (b"size,id,name,price,day,unknown", {"nullValue": "x"}),
        (b"id;name;price;day;cost;size", {"sep": ";", "quote": "'", "comment": "1"}),
        (b"id,name,price,day,cost,size", {"quote": "", "ignoreLeadingWhiteSpace": True}),
        (b"id,name,price,day,cost,size", {"escape": "\\", "multiLine": True}),
    ],
)
def test_they_are_judged_alike(read, in_pieces, monkeypatch: pytest.MonkeyPatch, header: bytes, options: dict) -> None:
    swap = {"sep": (b",", b";"), "quote": (b'"', b"'")} if "sep" in options else {}
    lines = [*LINES, b'17,"back\\"slash",1,2013-01-01,1,1'] if "escape" in options else LINES
    data = b"\n".join([header, *lines])
    for old, new in swap.values():
        data = data.replace(old, new)
    pieces = judged(read("csv", {"a.csv": data}, SCHEMA, header=True, **options))
    monkeypatch.setattr(wide, "WIDE", 1000)
    whole = judged(read("csv", {"a.csv": data}, SCHEMA, header=True, **options))
    assert pieces[1] == whole[1]
    assert pieces == whole
    assert len(pieces[0]) > 0
    assert len(pieces[1]) > 5


@parametrize_first("number", [3_000, 30_000], 1)
def test_columns_by_the_thousand(spark, tmp_path: Path, number: int) -> None:
    kinds = ["INT", "DOUBLE", "STRING", "DECIMAL(6,2)"]
    text = ", ".join(f"c{place} {kinds[place % 4]}" for place in range(number))

    def fields(row: int) -> list[str]:
        return [f'"{row}, {place}"' if place % 4 == 2 else f"{row + place % 97}" for place in range(number)]

    wrong = [fields(3)[:-1], [*fields(4), "1"], fields(5)]
    wrong[2][number - 4], wrong[2][1], wrong[2][7] = "x", "NaN", "1.255"
    lines = [",".join(row) for row in ([f"c{place}" for place in range(number)], fields(1), fields(2), *wrong)]
    (tmp_path / "a.csv").write_text("\n".join(lines))

    session = child_session(spark)
    schema = parse_schema(session, text)
    wide.disable_codegen_if_wide(session, schema)
    source = Source(format="csv", path=str(tmp_path), options={"header": True})
    frame = SOURCE_KINDS.get("csv").read(session, source, list_files([str(tmp_path)]), schema).frame
    # Some of each piece, its ends among them: a test of all of them would take longer than the reading.
    chosen = sorted({place for cut in range(0, number, 500) for place in (cut, cut + 1, cut + 234, cut + 498, cut + 499)})
    rows = frame.where("NOT _tidemill_is_header").select("_tidemill_rules", "_tidemill_raw", *[f"c{place}" for place in chosen]).collect()
    assert {row["_tidemill_raw"]: sorted(row["_tidemill_rules"]) for row in rows if row["_tidemill_rules"]} == {
        lines[3]: ["field_count"], lines[4]: ["field_count"], lines[5]: sorted([f"cast:c{number - 4}", "cast:c7", "not_finite:c1"]),
    }  # fmt: skip
    types = [int, float, lambda text: text.strip('"'), Decimal]
    expected = [[types[place % 4](fields(row)[place]) for place in chosen] for row in (1, 2)]
    assert sorted(list(row)[2:] for row in rows if not row["_tidemill_rules"]) == expected
