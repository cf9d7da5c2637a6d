"""Every line of a JSON file is a record: good with the right values, or refused for a named reason."""

import json

SCHEMA = "id INT, name STRING, price DOUBLE, tags ARRAY<STRING>"


def test_each_malformed_line_is_refused_for_its_reason(read) -> None:
    good = [
        '{"id": 1, "name": "a", "price": 1.5, "tags": ["x", "y"]}',
        '{"id": 2, "name": 7, "price": null}  ',
        "{}",
        '{"id": 3, "Name": "A", "extra": {"b": [1, null]}, "no": null}',
        '{"id": 4, "name": "\u0000 caf\ufffd"}'.replace("\u0000", "\\u0041"),
    ]
    bad = {
        '{"id": 5} {"id": 6}': ["not_json"],
        '{"id": 5},{"id": 6}': ["not_json"],
        '{"id": 5}] [{}': ["not_json"],
        '{"id": 5': ["not_json"],
        "{'id': 5}": ["not_json"],
        '{"id": 5, "price": NaN}': ["not_json"],
        "[1]": ["not_an_object"],
        "null": ["not_an_object"],
        "   ": ["not_an_object"],
        '"x"': ["not_an_object"],
        '{"id": "5"}': ["cast:id"],
        '{"id": 5.0, "price": "1.5"}': ["cast:id", "cast:price"],
        '{"id": 2147483648}': ["cast:id"],
        '{"id": 5, "id": 6}': ["duplicate_key"],
        '{"id": 5, "price": 1e400}': ["not_finite:price"],
    }
    invalid = b'{"id": 5, "name": "\xff"}'
    lines = [*[line.encode() for line in good], b"", *[line.encode() for line in bad], invalid]
    found = read("json", {"a.jsonl": b"\n".join(lines) + b"\n"}, SCHEMA)
    rules = {raw: names for raw, names in found.refused.items() if raw in bad}
    assert rules == bad
    assert found.refused['{"id": 5, "name": "\ufffd"}'][0] == "invalid_bytes"
    assert found.counts == {"a.jsonl": (len(good) + len(bad) + 1, len(good), len(bad) + 1)}
    rows = {row["id"]: row for row in found.good}
    assert (rows[1]["name"], rows[1]["price"], rows[1]["tags"]) == ("a", 1.5, ["x", "y"])
    assert (rows[2]["name"], rows[2]["_rescued"], rows[None]["_rescued"]) == ("7", None, None)
    assert (rows[3]["name"], rows[4]["name"]) == (None, "A caf\ufffd")
    assert json.loads(rows[3]["_rescued"]) == {"Name": "A", "extra": {"b": [1, None]}, "no": None}


def test_a_fraction_in_a_text_column_stays_as_it_is_written(read) -> None:
    texts = ["12345678901234567890.123456789", "1.10000000000000000001", "-1.50", "1e3", "0.1E-7", "7", "12345678901234567890123"]
    lines = [f'{{"id": {place}, "name": {text}}}' for place, text in enumerate(texts)]
    # These are texts already.
    lines += ['{"id": 8, "name": "v1.2.3"}', '{"id": 9, "name": "1.50"}']
    found = read("json", {"a.jsonl": "\n".join(lines).encode()}, "id INT, name STRING")
    rows = {row["id"]: row["name"] for row in found.good}
    assert [rows[place] for place in range(7)] == texts
    assert (rows[8], rows[9]) == ("v1.2.3", "1.50")


def test_whole_documents(read) -> None:
    files = {
        "array.json": b'[\n {"id": 1, "name": "a"},\n {"id": "x"}, 7\n]\n',
        "object.json": b'{\n "id": 2\n}\n',
        "broken.json": b'[{"id": 3}, {"id":\n',
        "none.json": b"[]",
    }
    found = read("json", files, "id INT, name STRING", multiLine=True)
    assert sorted(row["id"] for row in found.good) == [1, 2]
    assert found.counts == {"array.json": (3, 1, 2), "object.json": (1, 1, 0), "broken.json": (1, 0, 1)}


def test_schema_is_inferred(read) -> None:
    found = read("json", {"a.json": b'{"b": 1, "a": "x"}\n', "b.json": b'{"b": 1.5, "c": true}\nnot json\n'})
    assert found.schema.simpleString() == "struct<a:string,b:double,c:boolean>"
    assert found.refused == {"not json": ["not_an_object"]}


def test_many_keys(read) -> None:
    number = 500
    schema = ", ".join(f"c{place} INT" for place in range(number))
    good = [{f"c{place}": row + place for place in range(number)} for row in range(2)]
    odd = {f"c{place}": "x" if place in (3, number - 1) else place for place in range(number)}
    lines = [*map(json.dumps, good), json.dumps(odd), json.dumps({**good[0], "more": 1}), json.dumps(good[1])[:-1]]
    found = read("json", {"a.json": "\n".join(lines).encode()}, schema)
    assert found.refused == {lines[2]: ["cast:c3", f"cast:c{number - 1}"], lines[4]: ["not_json"]}
    expected = sorted([*(list(row.values()) for row in good), list(good[0].values())])
    assert sorted(list(row)[:number] for row in found.good) == expected
    assert [row["_rescued"] for row in found.good if row["_rescued"]] == ['{"more":1}']
