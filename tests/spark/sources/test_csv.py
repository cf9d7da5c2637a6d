"""Every line of a CSV file is a record: good with the right values, or refused for a named reason."""

import csv
import gzip
import io

import pytest

from tidemill.errors import UsageError

SCHEMA = "id INT, name STRING, price DOUBLE, day DATE"


def values(rows: list, *names: str) -> list[tuple]:
    return sorted(tuple(row[name] for name in names) for row in rows)


def test_each_malformed_line_is_refused_for_its_reason(read) -> None:
    good = [
        b'1,"a ""quoted"", name",1.5,2013-01-01',
        b'2,5" pipe,2,2013-01-02',
        b"3,,,",
        "4,caf\u00e9 \ufffd,1e3,2013-01-04".encode(),
        b"5,back\\,1,2013-01-05",
    ]
    bad = {
        "6,x,1": ["field_count"],
        "7,x,1,2013-01-01,": ["field_count"],
        "x,x,1,2013-01-01": ["cast:id"],
        "8,x,abc,2013-13-01": ["cast:price", "cast:day"],
        "99999999999,x,1,2013-01-01": ["cast:id"],
        "9,x,NaN,2013-01-01": ["not_finite:price"],
        "10,x,Infinity,2013-01-01": ["not_finite:price"],
        "11,x,1.5d,2013-01-01": ["cast:price"],
        '12,"open,1,2013-01-01': ["unclosed_quote", "field_count"],
        "13,nul\0,1,2013-01-01": ["nul"],
        "   ": ["field_count"],
        "id,name,price,day": ["repeated_header"],
    }
    invalid = b"14,\xff\xfe,1,2013-01-01"
    lines = [b"\xef\xbb\xbfid,name,price,day", *good, b"", *[line.encode() for line in bad], invalid]
    found = read("csv", {"a.csv": b"\r\n".join(lines)}, SCHEMA, header=True)
    assert found.refused == {**bad, "14,\ufffd\ufffd,1,2013-01-01": ["invalid_bytes"]}
    assert found.counts == {"a.csv": (len(good) + len(bad) + 1, len(good), len(bad) + 1)}
    assert values(found.good, "id", "name", "price") == sorted(
        [(1, 'a "quoted", name', 1.5), (2, '5" pipe', 2.0), (3, None, None), (4, "caf\u00e9 \ufffd", 1000.0), (5, "back\\", 1.0)],
    )
    # The records that Python's own reader finds, but for the lines that it joins behind the open quote.
    text = b"\n".join(line for line in (*good, *[line.encode() for line in bad if '"' not in line], invalid)).decode(errors="replace")
    assert len([row for row in csv.reader(io.StringIO(text.replace("\0", ""))) if row]) == sum(found.counts["a.csv"][1:]) - 1


def test_columns_map_by_name_file_by_file(read) -> None:
    files = {
        "a.csv": b"id,name,price,day\n1,a,1,2013-01-01\n",
        "b.csv": b"name,id,day,price\nb,2,2013-01-02,2\n",
        "c.csv.gz": gzip.compress(b"id,name,colour,size\n3,c,red,\n"),
        "d.csv": b"ID,Name,price,day\n4,d,4,2013-01-04\n",
        "only_header.csv": b"id,name,price,day\n",
    }
    found = read("csv", files, SCHEMA, header=True)
    assert values(found.good, "id", "name") == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    assert {row["id"]: (row["price"], row["_rescued"]) for row in found.good} == {
        1: (1.0, None),
        2: (2.0, None),
        3: (None, '{"colour":"red","size":null}'),
        4: (4.0, None),
    }
    assert not found.refused
    assert found.bad == {}
    assert any(each.column == "colour" for each in found.differences)
    assert {each.column for each in found.differences if each.kind == "missing"} == {"price", "day"}


def test_files_that_cannot_be_mapped_are_bad(read) -> None:
    files = {
        "twice.csv": b"id,name,id\n1,a,2\n",
        "latin.csv": "id,n\u00e4me\n1,a\n".encode("latin-1"),
        "no_header.csv": b"1,a,2,2013-01-01\n2,b,3,2013-01-01\n",
        "blank.csv": b"\n\n",
        "not_gz.csv": gzip.compress(b"id\n1\n"),
        "zip.csv": b"PK\x03\x04 and so on\n",
        "cut.csv.gz": gzip.compress(b"id,name\n" + bytes(range(256)) * 4000)[:40],
        "good.csv": b"id,name\n1,a\n",
    }
    found = read("csv", files, SCHEMA, header=True)
    assert set(found.bad) == set(files) - {"good.csv"}
    assert "'id' more than once" in found.bad["twice.csv"]
    assert "options.encoding" in found.bad["latin.csv"]
    assert "none of the columns" in found.bad["no_header.csv"]
    assert "gzip" in found.bad["not_gz.csv"]
    assert values(found.good, "id", "name") == [(1, "a")]


def test_options_are_honoured(read) -> None:
    text = "# made by hand\nid;name;price;day\n1;'x;y';NA;31.12.2013\n# more\n2;\u20ac;7;01.02.2013\n"
    options = {"header": True, "sep": ";", "quote": "'", "nullValue": "NA", "dateFormat": "dd.MM.yyyy", "comment": "#"}
    found = read("csv", {"a.csv": text.encode("windows-1252")}, SCHEMA, encoding="windows-1252", **options)
    rows = {row["id"]: (row["name"], row["price"], str(row["day"])) for row in found.good}
    assert rows == {1: ("x;y", None, "2013-12-31"), 2: ("\u20ac", 7.0, "2013-02-01")}
    assert found.counts == {"a.csv": (2, 2, 0)}


def test_utf_16_and_files_without_a_header(read) -> None:
    found = read("csv", {"a.csv": "\ufeff1,\u017e\r\n2,b\r\n3\r\n".encode("utf-16-le")}, "id INT, name STRING", encoding="UTF-16LE")
    assert values(found.good, "id", "name") == [(1, "\u017e"), (2, "b")]
    assert found.refused == {"3": ["field_count"]}


def test_quoted_line_ends_need_multiline(read) -> None:
    data = b'id,name,price,day\n1,"two\nlines",1,2013-01-01\n2,x,y,2013-01-01\n3,\xff,1,2013-01-01\n4,"say ""hi""",NA,\n5,z\n'
    single = read("csv", {"a.csv": data}, SCHEMA, header=True, nullValue="NA")
    assert single.refused['1,"two'] == ["unclosed_quote", "field_count"]
    multi = read("csv", {"a.csv": data}, SCHEMA, header=True, nullValue="NA", multiLine=True)
    assert values(multi.good, "id", "name") == [(1, "two\nlines"), (4, 'say "hi"')]
    assert sorted(map(tuple, multi.refused.values())) == [("cast:price",), ("field_count",), ("invalid_bytes",)]
    assert multi.counts == {"a.csv": (5, 2, 3)}


def test_schema_is_inferred_over_all_files(read) -> None:
    files = {
        "a.csv": b'"",a,Sepal Length,when\n1,1,1,2013-01-01T10:00:00Z\n',
        "b.csv": b'"",a,Sepal Length,when,new\n2,x,1.5,2013-01-01T10:00:00Z,\n',
    }
    found = read("csv", files, header=True)
    assert found.schema.simpleString() == "struct<_c0:int,a:string,Sepal_Length:double,when:timestamp,new:string>"
    assert values(found.good, "_c0", "a", "Sepal_Length") == [(1, "1", 1.0), (2, "x", 1.5)]


def test_wrong_options_are_named(read) -> None:
    for options, message in (
        ({"nulValue": "NA"}, "did you mean 'nullValue'"),
        ({"mode": "DROPMALFORMED"}, "every record is kept"),
    ):
        with pytest.raises(UsageError, match=message):
            read("csv", {"a.csv": b"id\n1\n"}, "id INT", header=True, **options)
