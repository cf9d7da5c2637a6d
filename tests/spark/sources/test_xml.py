"""Every element of the records' name in an XML file is a record: good with the right values, or refused for a named reason."""

import bz2
import gzip
import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.spark.sources.conftest import good_rows, judged
from tests.unit.sources.xml_documents import Documents, records

from tidemill.errors import SourceError, UsageError
from tidemill.sources.files.damaged import probe_files
from tidemill.sources.files.listing import list_files
from tidemill.sources.records import select_rejected
from tidemill.sources.schema.types import parse_schema
from tidemill.spec.models import SOURCE_KINDS, Source

SCHEMA = "_id INT, name STRING, price DOUBLE, tag ARRAY<STRING>"


def rows(*texts: str) -> bytes:
    """A document of these records, one a line from the second on."""
    return "\n".join(['<?xml version="1.0"?><rows>', *texts, "</rows>"]).encode()


def test_each_malformed_record_is_refused_for_its_reason(spark, read, tmp_path) -> None:
    good = [
        '<row id="1"><name>a &amp; b</name><price> 1.5 </price><tag>x</tag><tag>y</tag></row>',
        "<row id='2'><!-- <row> --><name><![CDATA[</row>]]></name><price/><tag/></row>",
        "<row/>",
        '<row id="3" more="m"><Name>A</Name><extra><b k="1">2</b><b/></extra><name>caf\ufffd</name></row>',
        '<row id="4"><name lang="de"> x<!-- --> y </name><price>1e3</price></row>',
        '<row id="5" xmlns:n="u"><name xsi:nil="true"/><n:name>z</n:name></row>',
    ]
    bad = {
        '<row id="6"><name>a</nme></row>': ["not_xml"],
        '<row id="6"><name>a & b</name></row>': ["not_xml"],
        '<row id="6" id="7"/>': ["not_xml"],
        '<row id="6"><name>&nbsp;</name></row>': ["not_xml"],
        '<row id="6"><price>1 < 2</price></row>': ["not_xml"],
        '<row id="x"/>': ["cast:_id"],
        '<row id="2147483648"/>': ["cast:_id"],
        '<row id="6.5"><price>1.5d</price></row>': ["cast:_id", "cast:price"],
        "<row><price>0x1p3</price></row>": ["cast:price"],
        "<row><price><b>1</b></price></row>": ["cast:price"],
        "<row><price>NaN</price></row>": ["not_finite:price"],
        "<row><price>1e400</price></row>": ["not_finite:price"],
        "<row><price>-INF</price><name>a</name><name>b</name></row>": ["repeated:name", "not_finite:price"],
        "<row><name>a\0</name></row>": ["nul"],
        "<row>" + "<d>" * 300 + "</d>" * 300 + "</row>": ["too_deep"],
        "<row><name>open</name>": ["not_xml"],
    }
    invalid = b"<row><name>\xff</name></row>"
    data = rows(*good, *bad, '<row id="7"/>').replace(b"</rows>", invalid + b"</rows>")
    found = read("xml", {"a.xml": data}, SCHEMA, rowTag="row")
    assert {raw: names for raw, names in found.refused.items() if raw in bad} == bad
    assert found.refused["<row><name>\ufffd</name></row>"] == ["invalid_bytes"]
    assert found.counts == {"a.xml": (len(good) + len(bad) + 2, len(good) + 1, len(bad) + 1)}
    told = {row["_id"]: row for row in found.good}
    assert (told[1]["name"], told[1]["price"], told[1]["tag"]) == ("a & b", 1.5, ["x", "y"])
    assert (told[2]["name"], told[2]["price"], told[2]["tag"]) == ("</row>", None, [""])
    assert (told[None]["name"], told[None]["_rescued"]) == (None, None)
    assert json.loads(told[3]["_rescued"]) == {"_more": "m", "Name": "A", "extra": {"b": [{"_k": "1", "_VALUE": "2"}, ""]}}
    assert (told[3]["name"], told[4]["name"], told[4]["price"]) == ("caf\ufffd", "x y", 1000.0)
    assert json.loads(told[4]["_rescued"]) == {"name._lang": "de"}
    assert (told[5]["name"], json.loads(told[5]["_rescued"])) == (None, {"n:name": "z"})

    source = Source(format="xml", path=str(tmp_path / "in"), options={"rowTag": "row"})
    schema = parse_schema(spark, SCHEMA)
    whole = SOURCE_KINDS.get("xml").read(spark, source, list_files(source.paths), schema)
    refused = select_rejected(judged(whole, schema), with_repeated_headers=False)
    lines = {row["raw"]: row["_source_line"] for row in whole.locate(refused).collect()}
    first = 2 + len(good)
    assert lines == {raw: first + place for place, raw in enumerate(bad)} | {"<row><name>\ufffd</name></row>": first + len(bad) + 1}


def test_types(read) -> None:
    record = (
        "<row><day>2013-01-31</day><at>2013-01-31T10:00:00+02:00</at><local>2013-01-31 10:00</local><exact>1.50</exact><flag>true</flag>"
        "<big>9223372036854775807</big><home zip='007'><street no='5'>Main<!-- --> St</street><geo><x>1.5</x><x>2</x></geo></home>"
        "<item n='1'><d>2013-01-01</d></item><item n='2' odd='o'/><sizes><s>1</s><m>2</m></sizes><free><a>1</a><b/></free></row>"
    )
    schema = (
        "day DATE, at TIMESTAMP, local TIMESTAMP, exact DECIMAL(6,2), flag BOOLEAN, big BIGINT, "
        "home STRUCT<_zip: STRING, street: STRUCT<_no: INT, _VALUE: STRING>, geo: STRUCT<x: ARRAY<DOUBLE>>, none: STRUCT<y: INT>>, "
        "item ARRAY<STRUCT<_n: INT, d: DATE>>, sizes MAP<STRING, INT>, free STRING"
    )
    wrong = {
        "<row><home><geo><x>1</x><x>b</x></geo></home></row>": ["cast:home"],
        "<row><home><geo><x>1</x><x>INF</x></geo></home></row>": ["not_finite:home"],
        "<row><home><street>a</street><street>b</street></home></row>": ["repeated:home.street"],
        "<row><item><d>1</d></item></row>": ["cast:item"],
        "<row><sizes><s>x</s></sizes></row>": ["cast:sizes"],
        "<row><sizes><s>1</s><s>2</s></sizes></row>": ["repeated:sizes.value"],
        "<row><exact>1.555</exact><day>2013-02-30</day></row>": ["cast:day", "cast:exact"],
    }
    found = read("xml", {"a.xml": rows(record, *wrong)}, schema, rowTag="row")
    assert found.refused == wrong
    [row] = found.good
    assert (row["day"], row["exact"], row["flag"], row["big"]) == (date(2013, 1, 31), Decimal("1.50"), True, (1 << 63) - 1)
    assert [at.astimezone(UTC) for at in (row["at"], row["local"])] == [datetime(2013, 1, 31, hour, tzinfo=UTC) for hour in (8, 10)]
    assert row["home"].asDict(recursive=True) == {
        "_zip": "007",
        "street": {"_no": 5, "_VALUE": "Main St"},
        "geo": {"x": [1.5, 2.0]},
        "none": None,
    }
    assert [item.asDict() for item in row["item"]] == [{"_n": 1, "d": date(2013, 1, 1)}, {"_n": 2, "d": None}]
    assert (row["sizes"], json.loads(row["free"])) == ({"s": 1, "m": 2}, {"a": "1", "b": ""})
    assert json.loads(row["_rescued"]) == {"item": [{"_n": "1", "d": "2013-01-01"}, {"_n": "2", "_odd": "o"}]}


def test_schema_is_inferred_from_all_records(read) -> None:
    files = {
        "a.xml": rows("<row id='1'><a>1</a></row>", "<row><a>b</row>"),
        "b.xml": rows(*["<row id='2'><a>2</a></row>"] * 500, "<row id='3'><a>2.5</a><c k='1'>x</c><c/></row>"),
    }
    found = read("xml", files, rowTag="row")
    assert found.schema.simpleString() == "struct<_id:bigint,a:double,c:array<struct<_VALUE:string,_k:bigint>>>"
    assert found.counts == {"a.xml": (2, 1, 1), "b.xml": (501, 501, 0)}
    last = next(row for row in found.good if row["_id"] == 3)
    assert (last["a"], [each and each.asDict() for each in last["c"]]) == (2.5, [{"_VALUE": "x", "_k": 1}, None])


def test_records_at_random_are_those_of_another_parser(read) -> None:
    documents = Documents(3, "\r\n")
    made = [(documents.document(), f"{number}.xml") for number in range(60)]
    texts = {name: text for text, name in made if records(text)}
    expected = {name: records(text) for name, text in texts.items()}
    encoded = {name: text.encode("utf-16" if int(name[:-4]) % 3 == 0 else "utf-8-sig") for name, text in texts.items()}
    found = read("xml", encoded, "_id STRING, _row STRING, name ARRAY<STRING>", rowTag="row")
    assert found.counts == {name: (len(elements), len(elements), 0) for name, elements in expected.items()}
    assert len(expected) > 40
    told = sorted((Path(row["_source_file"]).name, row["_id"] or "", row["_row"] or "") for row in found.good)
    wanted = [
        (name, *[each.get(key, "").strip(" \t\r\n") for key in ("id", "row")]) for name, elements in expected.items() for each in elements
    ]
    assert told == sorted(wanted)


@pytest.mark.long("a read for each kind of damage")
def test_files_that_cannot_be_read(bad_files) -> None:
    whole = gzip.compress(rows(*[f"<row id='{number * 7919 % 10007}'/>" for number in range(5000)]))
    files = {
        "a+b %20 [x] {y} #é.xml": rows("<row id='1'/>"),
        "good.xml.gz": whole + gzip.compress(b"<!-- a second member -->"),
        "good.xml.bz2": bz2.compress(rows("<row id='1'/>")),
        "none.xml": rows(),
        "cut.xml.gz": whole[: len(whole) // 2],
        "flipped.xml.gz": whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:],
        "not_packed.xml.gz": rows("<row/>"),
        "packed.xml": whole,
        "empty.xml": b"",
        "not_xml.xml": b"id,name\n1,a\n",
        "other.xml": b"<rows><item/></rows>",
        "lol.xml": b"<!DOCTYPE rows [<!ENTITY lol 'lol'><!ENTITY lol2 '&lol;&lol;'>]><rows><row>&lol2;</row></rows>",
        "klingon.xml": b"<?xml version='1.0' encoding='klingon'?><rows><row/></rows>",
    }
    found = bad_files("xml", files, "_id INT", rowTag="row")
    assert found == {
        "cut.xml.gz": "it cannot be read: its packed data (.gz) is cut off",
        "flipped.xml.gz": "it cannot be read: its packed data (.gz) is damaged: Error -3 while decompressing data: incorrect data check",
        "not_packed.xml.gz": (
            "it cannot be read: its packed data (.gz) is damaged: Error -3 while decompressing data: incorrect header check"
        ),
        "packed.xml": (
            "it cannot be read: its bytes are gzip, which its name does not say; unpack it, or end its name in .gz where that is so"
        ),
        "empty.xml": "it is empty (0 bytes)",
        "not_xml.xml": "it cannot be read: it does not begin as XML does, with <",
        "other.xml": "it cannot be read: it has no <row>, but <item>; `options.rowTag` names the element that is a record",
        "lol.xml": "it cannot be read: it declares entities (<!ENTITY …>), which are not expanded; write their text in their place",
        "klingon.xml": "it cannot be read: its first line says encoding 'KLINGON', which is not known; set `options.encoding`",
    }


def test_names_of_files_and_their_texts(read) -> None:
    odd = "a+b %20 [x] {y} #é.xml"
    files = {
        odd: rows("<row id='1'><name>a</name></row>"),
        "b.xml.gz": gzip.compress(rows("<row id='2'><name>b</name></row>")) + gzip.compress(b"<row id='3'/>"),
        "latin.xml": b'<?xml version="1.0" encoding="ISO-8859-1"?><rows><row id="4"><name>\xe9</name></row></rows>',
        "wide.xml": rows("<row id='5'><name>\u017e</name></row>", "<row id='x'/>").decode().encode("utf-16"),
        "old.xml": b"<rows>\r<row id='6'><name>a\rb</name></row>\r</rows>",
    }
    found = read("xml", files, SCHEMA, rowTag="row")
    assert sorted((row["_id"], row["name"], Path(row["_source_file"]).name) for row in found.good) == [
        (1, "a", odd),
        (2, "b", "b.xml.gz"),
        (3, None, "b.xml.gz"),
        (4, "\u00e9", "latin.xml"),
        (5, "\u017e", "wide.xml"),
        (6, "a\nb", "old.xml"),
    ]
    assert found.refused == {"<row id='x'/>": ["cast:_id"]}


def test_files_of_another_file_system_come_through_spark(spark, tmp_path) -> None:
    (tmp_path / "a [x] %20.xml").write_bytes(rows("<row id='1'/>", "<row id='x'/>"))
    (tmp_path / "b.xml.gz").write_bytes(gzip.compress(rows("<row id='2'/>")))
    (tmp_path / "cut.xml.gz").write_bytes(gzip.compress(rows("<row id='3'/>"))[:-1])
    # A path with a scheme is one that Python does not open itself.
    files = [replace(file, path=f"file:{file.path}") for file in list_files([str(tmp_path)])]
    large = replace(files[0], path="s3a://bucket/large.xml", size=1 << 31)
    source, schema = Source(format="xml", path="x", options={"rowTag": "row"}), parse_schema(spark, "_id INT")
    kind = SOURCE_KINDS.get("xml")
    found = kind.read(spark, source, [*files[:2], large], schema)
    frame = judged(found, schema)
    assert [why.split(";")[0] for why in found.bad_files.values()] == [
        "it has 2147483648 bytes, and one that is not on this machine's file system may have 2 GB"
    ]
    assert sorted((row["_id"], row["_source_file"]) for row in good_rows(frame)) == [(1, files[0].path), (2, files[1].path)]
    [refused] = found.locate(select_rejected(frame, with_repeated_headers=False)).collect()
    assert (refused["raw"], refused["_source_file"], refused["_source_line"]) == ("<row id='x'/>", files[0].path, 3)
    assert kind.infer(spark, source, files[:2]).simpleString() == "struct<_id:string>"
    assert probe_files(spark, kind, source, files, schema) == {files[2].path: "it cannot be read: its packed data (.gz) is cut off"}


def test_a_record_has_one_hash_whatever_is_thought_of_its_encoding(read) -> None:
    files = {"a.xml": b"<rows><row><name>\xe9</name></row></rows>"}
    [refused] = read("xml", files, SCHEMA, rowTag="row").rows
    [good] = read("xml", files, SCHEMA, rowTag="row", encoding="latin1").good
    assert (good["name"], good["_source_row_hash"]) == ("\u00e9", refused["_source_row_hash"])


def test_options(read) -> None:
    files = {"a.xml": b"<x:rows><x:row raw='1'><y:a k='2'> NA </y:a><a> b </a></x:row></x:rows>"}
    schema = "`@raw` INT, a ARRAY<STRUCT<`@k`: INT, text: STRING>>"
    more = {"attributePrefix": "@", "valueTag": "text", "ignoreNamespace": True, "nullValue": "NA", "charset": "utf8"}
    [row] = read("xml", files, schema, rowTag="row", **more).good
    assert (row["@raw"], [tuple(each) for each in row["a"]]) == (1, [(2, None), (None, "b")])
    assert read("xml", files, rowTag="x:row", excludeAttribute=True).schema.simpleString() == "struct<a:string,y:a:string>"
    assert read("xml", files, rowTag="x:row").good[0]["_raw"] == 1
    reserved = {"a.xml": b"<rows><row rescued='1'/></rows>"}
    with pytest.raises(SourceError, match=r"column '_rescued' has a name that tidemill uses itself; set `options.attributePrefix`"):
        read("xml", reserved, rowTag="row")
    declared = read("xml", files, "a STRING", rowTag="x:row")
    assert json.loads(declared.good[0]["_rescued"]) == {"_raw": "1", "y:a": {"_k": "2", "_VALUE": "NA"}}
    for options, message in (
        ({}, "options.rowTag: expected the name of the element that is a record, such as `book`"),
        ({"rowTag": "a b"}, "options.rowTag: expected the name of the element that is a record, such as `book`, found 'a b'"),
        ({"rowTag": "row", "encoding": "klingon"}, "options.encoding: klingon is not known; write one such as UTF-8"),
        ({"rowTag": "row", "attributPrefix": "@"}, "options.attributPrefix: unknown option of xml; did you mean 'attributePrefix'?"),
        ({"rowTag": "row", "mode": "FAILFAST"}, "options.mode is not for a xml source to set"),
    ):
        with pytest.raises(UsageError) as caught:
            read("xml", files, "a STRING", **options)
        assert str(caught.value).startswith(message)
    with pytest.raises(SourceError, match="column a: XML has no arrays of arrays"):
        read("xml", files, "a ARRAY<ARRAY<INT>>", rowTag="row")
    with pytest.raises(SourceError, match=r"no well-formed <none> in .*a\.xml"):
        read("xml", {"a.xml": b"<rows/>"}, rowTag="none")


def test_a_large_file_is_cut_as_a_small_one(read) -> None:
    texts = [f"<row id='{number}'><name>{'n' * (number % 97)}</name></row>" for number in range(60_000)]
    texts[30_000] = "<row id='30000'><name>open</row>"
    texts[40_000] = "<row id='40000'>"
    data = rows(*texts)
    assert len(data) > 4 << 20
    found = read("xml", {"a.xml": data, "b.xml": rows("<row id='1'/>")}, "_id INT, name STRING", rowTag="row")
    assert found.counts == {"a.xml": (60_000, 59_998, 2), "b.xml": (1, 1, 0)}
    assert found.refused == {texts[30_000]: ["not_xml"], texts[40_000]: ["not_xml"]}
    expected = sum(int(ElementTree.fromstring(text).get("id", "0")) for text in texts[:30_000] + texts[30_001:40_000] + texts[40_001:])
    assert sum(row["_id"] for row in found.good) == expected + 1
