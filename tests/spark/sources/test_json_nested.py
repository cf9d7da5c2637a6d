"""Nothing that lies deeper in a JSON record is dropped unseen."""

import json


def test_nested_fields_that_the_schema_lacks_are_rescued(read) -> None:
    schema = "id INT, a STRUCT<x: INT, b: STRUCT<y: DOUBLE>>, items ARRAY<STRUCT<n: INT>>, reals ARRAY<DOUBLE>"
    good = {
        1: ('{"id": 1, "a": {"x": 1, "b": {"y": 2}}, "items": [{"n": 1}], "reals": [1.5, null]}', None),
        2: ('{"id": 2, "a": {"x": 1, "more": [1, {"z": 2}], "b": {"y": 1, "other": "o"}}}', {"a.more": [1, {"z": 2}], "a.b.other": "o"}),
        3: ('{"id": 3, "top": true, "items": [{"n": 1}, {"n": 2, "m": 3}]}', {"top": True, "items": [{"n": 1}, {"n": 2, "m": 3}]}),
        4: ('{"id": 4, "a": null, "items": null}', None),
        5: ('{"id": 5, "a": {"X": 7}}', {"a.X": 7}),
    }
    bad = {
        '{"id": 6, "a": {"x": 1, "x": 2}}': ["duplicate_key"],
        '{"id": 7, "a": {"b": {"y": 1e400}}}': ["not_finite:a"],
        '{"id": 8, "reals": [1, 1e999]}': ["not_finite:reals"],
    }
    lines = [text for text, _ in good.values()] + list(bad)
    found = read("json", {"a.json": "\n".join(lines).encode()}, schema)
    assert {row["id"]: row["_rescued"] and json.loads(row["_rescued"]) for row in found.good} == {
        key: told for key, (_, told) in good.items()
    }
    assert found.refused == bad
    assert found.counts == {"a.json": (8, 5, 3)}
    by_id = {row["id"]: row for row in found.good}
    assert by_id[2]["a"]["b"]["y"] == 1.0
    assert [item["n"] for item in by_id[3]["items"]] == [1, 2]
    # A value that does not fit deeper down is refused as well, with its text.
    wrong = read("json", {"b.json": b'{"id": 1, "a": {"x": "no"}}\n{"id": 2}\n'}, schema)
    assert wrong.counts["b.json"] == (2, 1, 1)
