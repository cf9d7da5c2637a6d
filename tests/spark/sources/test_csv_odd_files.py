"""CSV files that are odd as a whole: headers with gaps, nothing inside, records over lines in other encodings."""

from __future__ import annotations

import gzip

import pytest
from tests.tiers import parametrize_first

from tidemill.errors import UsageError


def test_an_empty_name_among_the_names_of_a_header(read) -> None:
    data = b"id,,name,\n1,x,a,z\n2,,b,\n3,x,c\n"
    found = read("csv", {"a.csv": data}, header=True)
    assert found.schema.simpleString() == "struct<id:int,_c1:string,name:string,_c3:string>"
    assert sorted(tuple(row)[:4] for row in found.good) == [(1, "x", "a", "z"), (2, None, "b", None)]
    assert found.refused == {"3,x,c": ["field_count"]}
    assert found.counts == {"a.csv": (3, 2, 1)}

    # With a schema that knows only the names, what stands below the gaps is rescued under the names they would have had.
    declared = read("csv", {"a.csv": data}, "id INT, name STRING", header=True)
    assert sorted((row["id"], row["name"], row["_rescued"]) for row in declared.good) == [
        (1, "a", '{"_c1":"x","_c3":"z"}'),
        (2, "b", '{"_c1":null,"_c3":null}'),
    ]
    assert {each.column for each in declared.differences} == {"_c1", "_c3"}


def test_a_header_with_fewer_names_than_the_lines_have_fields(read) -> None:
    # As R's write.table leaves out the name of the row names: which name belongs to which field is not told.
    found = read("csv", {"short.csv": b"id,name\n7,1,a\n8,2,b\n", "good.csv": b"id,name\n1,a\n"}, "id INT, name STRING", header=True)
    assert found.refused == {"7,1,a": ["field_count"], "8,2,b": ["field_count"]}
    assert found.counts == {"short.csv": (2, 0, 2), "good.csv": (1, 1, 0)}
    long = read("csv", {"long.csv": b"id,name,more\n1,a\n2,b,c\n"}, "id INT, name STRING", header=True)
    assert (long.refused["1,a"], long.counts["long.csv"]) == (["field_count"], (2, 1, 1))


def test_a_packed_file_of_nothing(read, bad_files) -> None:
    nothing = gzip.compress(b"", mtime=0)
    assert len(nothing) == 20
    found = read("csv", {"none.csv.gz": nothing, "a.csv": b"id\n1\n"}, "id INT", header=True)
    assert list(found.bad) == ["none.csv.gz"]
    assert "no header line" in found.bad["none.csv.gz"]
    assert found.counts == {"a.csv": (1, 1, 0)}
    for kind, options in (("csv", {}), ("json", {}), ("json", {"multiLine": True}), ("text", {})):
        schema = "value STRING" if kind == "text" else "id INT"
        files = {"none.csv.gz": nothing, "a.csv": b'{"id": 1}\n' if kind == "json" else b"1\n"}
        found = read(kind, files, schema, **options)
        assert (found.counts, found.bad) == ({"a.csv": (1, 1, 0)}, {}), kind


@parametrize_first("encoding", ["utf-16", "utf-16-le", "utf-8", "utf-16-be"], 2)
def test_records_over_lines_that_end_with_cr_lf(read, encoding: str) -> None:
    text = '# made "by hand\r\nid,name\r\n1,"two\r\n# lines, \u017e"\r\n# between, "open\r\n2,b\r\n3,"a\r\n\r\nb",c\r\nx,"d\r\n"\r\n'
    options = {"header": True, "multiLine": True, "comment": "#"}
    if encoding.endswith(("le", "be")):
        options["encoding"] = encoding.upper()
    found = read("csv", {"a.csv": text.encode(encoding)}, "id INT, name STRING", **options)
    assert sorted((row["id"], row["name"]) for row in found.good) == [(1, "two\r\n# lines, \u017e"), (2, "b")]
    assert found.refused == {'3,"a\r\n\r\nb",c': ["field_count"], 'x,"d\r\n"': ["cast:id"]}
    assert found.counts == {"a.csv": (4, 2, 2)}


def test_a_comment_is_an_option_of_csv_alone(read) -> None:
    for kind in ("json", "text"):
        with pytest.raises(UsageError, match=rf"options\.comment: unknown option of {kind}"):
            read(kind, {"a.txt": b"x\n"}, "value STRING", comment="#")


def test_an_encoding_that_nobody_knows_is_named(read) -> None:
    for kind in ("csv", "json", "text"):
        with pytest.raises(UsageError, match=r"options\.encoding: klingon is not known; write one such as UTF-8"):
            read(kind, {"a.txt": b"x\n"}, "value STRING", encoding="klingon")
