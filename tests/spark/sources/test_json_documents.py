"""Whole JSON documents: an array, an object, several one after another; each record is judged on its own, nothing is lost."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from tests.spark.sources.conftest import good_rows, judged
from tests.tiers import parametrize_first

from tidemill.sources.files.listing import list_files
from tidemill.sources.records import count_by_file, select_rejected
from tidemill.sources.schema.types import parse_schema
from tidemill.spec.models import SOURCE_KINDS, Source

SCHEMA = "id INT, name STRING"


def values(found) -> list[tuple]:
    return sorted((row["id"], row["name"]) for row in found.good)


def test_objects_one_after_another_are_a_record_each(read) -> None:
    # A brace, a line end behind it and another brace in a text are no boundary.
    objects = [{"id": 1, "name": "a"}, {"id": 2, "name": "}\n{"}, {"id": 3, "name": "c", "more": {"x": [{"y": 1}, {"y": 2}]}}]
    pretty = "\n".join(json.dumps(each, indent=2) for each in objects)
    found = read("json", {"a.json": pretty.encode() + b"\n"}, SCHEMA, multiLine=True)
    assert values(found) == [(1, "a"), (2, "}\n{"), (3, "c")]
    assert json.loads(found.good[-1]["_rescued"] or "{}") in ({}, {"more": {"x": [{"y": 1}, {"y": 2}]}})
    assert found.counts == {"a.json": (3, 3, 0)}


def test_what_is_wrong_among_them_is_refused_alone(read) -> None:
    broken = '{\n  "id": 2,\n  "name": "b"'
    data = '{\n  "id": 1\n}\n' + broken + '\n}\n{\n "id": "x"\n}\n\n{"id": 4}\n{"id": 5}{"id": 6}\n'
    found = read("json", {"a.json": data.encode()}, SCHEMA, multiLine=True)
    assert values(found) == [(1, None), (2, "b"), (4, None)]
    # Two objects in one line are not parted: `}{` may stand in a text as well.
    assert found.refused == {'{\n "id": "x"\n}': ["cast:id"], '{"id": 5}{"id": 6}': ["not_json"]}
    unclosed = read("json", {"a.json": (broken + '\n{\n "id": 3\n}\n{"id": 4}\n').encode()}, SCHEMA, multiLine=True)
    assert values(unclosed) == [(4, None)]
    assert unclosed.refused == {broken + '\n{\n "id": 3\n}': ["not_json"]}


def test_the_elements_of_an_array_are_taken_to_the_letter(read) -> None:
    good = [
        '{"id": 1, "name": "[},{\\"]", "v": 12345678901234567890.123456789}',
        '{ "id":2 , "v": 1.50 }',
        '{"id": 3, "more": [[{}, 1], []]}',
    ]
    bad = ['{"id": "x",  "v": 1.10}', "[1, [2]]", '" a, b "', "null", '{"id": 9, "id": 9}', '{"id": 1e400}']
    data = "[" + " ,\n".join([*good, *bad]) + "\t]\n"
    found = read("json", {"a.json": data.encode(), "none.json": b" [ ] "}, "id INT, v DECIMAL(38, 9)", multiLine=True)
    rows = {row["id"]: (row["v"], row["_rescued"]) for row in found.good}
    assert rows == {
        1: (Decimal("12345678901234567890.123456789"), '{"name":"[},{\\"]"}'),
        2: (Decimal("1.5"), None),
        3: (None, '{"more":[[{},1],[]]}'),
    }
    assert sorted(found.refused) == sorted(bad)
    assert found.counts == {"a.json": (9, 3, 6)}
    # What one means by an array is told by the parser's options.
    odd = "[ // two [\n {'id': 1, 'name': '],['} // one, \n, /* , */ {'id': 'x' /* } */} /* ] */ ]"
    options = {"multiLine": True, "allowComments": True, "allowSingleQuotes": True}
    lenient = read("json", {"a.json": odd.encode()}, SCHEMA, **options)
    assert (values(lenient), list(lenient.refused)) == ([(1, "],[")], ["{'id': 'x' /* } */}"])


@parametrize_first("encoding", ["utf-8", "utf-16-be", "utf-16", "utf-16-le"], 2)
def test_documents_with_cr_lf_and_in_wide_encodings(read, encoding: str) -> None:
    array = '[\r\n  {"id": 1, "name": "\u017e"},\r\n  {"id": "x"}\r\n]\r\n'
    objects = '{\r\n  "id": 2\r\n}\r\n{\r\n  "id": 3,\r\n  "name": "c"\r\n}\r\n'
    options = {"multiLine": True} | ({"encoding": encoding.upper()} if encoding.endswith(("le", "be")) else {})
    found = read("json", {"a.json": array.encode(encoding), "b.json": objects.encode(encoding)}, SCHEMA, **options)
    assert values(found) == [(1, "\u017e"), (2, None), (3, "c")]
    assert found.refused == {'{"id": "x"}': ["cast:id"]}
    assert found.counts == {"a.json": (2, 1, 1), "b.json": (2, 2, 0)}


def test_the_line_of_each_record_is_told(spark, tmp_path: Path) -> None:
    texts = {
        "array.json": '[\n  {"id": 1},\n  {"id": "x"}\n]\n',
        "objects.json": '\n{\n  "id": 1\n}\n\n{\n  "id": "x"\n}\n{"id": "y"}\n{"id": "y"}\n',
        "broken.json": '\n\n[{"id": 1}\n',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    source, known = Source(format="json", path=str(tmp_path), options={"multiLine": True}), parse_schema(spark, SCHEMA)
    records = SOURCE_KINDS.get("json").read(spark, source, list_files([str(tmp_path)]), known)
    frame = judged(records, known)
    refused = records.locate(select_rejected(frame, with_repeated_headers=False)).collect()
    found = sorted((Path(row["_source_file"]).name, row["_source_line"], row["raw"]) for row in refused)
    assert found == [
        ("array.json", 3, '{"id": "x"}'),
        ("broken.json", 3, '[{"id": 1}'),
        ("objects.json", 6, '{\n  "id": "x"\n}'),
        ("objects.json", 9, '{"id": "y"}'),
        ("objects.json", 10, '{"id": "y"}'),
    ]
    assert len(found) == sum(count.rejected for count in count_by_file(frame).values())
    assert len(good_rows(frame)) == 2
