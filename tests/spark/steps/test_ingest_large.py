"""Records far larger than most: kept whole to the byte, good or refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tidemill.steps.ingest import ingest

MEGABYTES = 3 * 2**20
# With what could end a field early: separators, quotes, an accent of two bytes; no line end.
PATTERN = 'caf\u00e9, "x" \\ 0123456789'


def long_text(start: str, pattern: str = PATTERN) -> str:
    return (start + pattern * (MEGABYTES // len(pattern) + 1))[:MEGABYTES]


def digest(text: str) -> tuple[int, str]:
    return len(text), hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def load(make_context, tmp_path: Path):
    """Write a file, ingest it as source ``x``, and return the result."""

    def _load(kind: str, text: str, **source: object):
        (tmp_path / "raw").mkdir(exist_ok=True)
        (tmp_path / "raw" / "a.txt").write_bytes(text.encode())
        spec = {
            "pipeline": "p",
            "sources": {"x": {"format": kind, "path": str(tmp_path / "raw"), "load": "incremental", **source}},
            "dataset": {"from": "bronze.x", "key": ["id"], "label": "v"},
            "training": {"task": "binary"},
        }
        result = ingest(make_context(spec, "ingest.x"))
        return result.rows_in, result.rows_out, result.rows_quarantined

    return _load


@pytest.fixture
def refused(spark, lake):
    """Return line, rules, length and hash of the refused records, sorted by their line."""

    def _refused() -> list[tuple]:
        rows = lake.read(spark, "bronze.x_quarantine").collect()
        return sorted((row["_source_line"], row["rules"], *digest(row["raw"])) for row in rows)

    return _refused


def test_three_megabytes_in_a_field_of_csv(load, refused, lake, spark) -> None:
    plain, quoted = long_text("p", "plain text; "), long_text("q")
    written = '"' + quoted.replace('"', '""') + '"'
    wrong = [f"x,{plain}", f"x,{written}", f"3,{plain},more", f'4,"{plain}']
    lines = ["id,v", f"1,{plain}", *wrong, f"2,{written}"]
    assert load("csv", "\r\n".join(lines), schema="id INT, v STRING", options={"header": True}) == (6, 2, 4)
    rows = {row["id"]: digest(row["v"]) for row in lake.read(spark, "bronze.x").collect()}
    assert rows == {1: digest(plain), 2: digest(quoted)}
    rules = [["cast:id"], ["cast:id"], ["field_count"], ["unclosed_quote"]]
    assert refused() == [(place, names, *digest(raw)) for place, (names, raw) in enumerate(zip(rules, wrong, strict=True), start=3)]


def test_three_megabytes_in_a_value_of_json(load, refused, lake, spark) -> None:
    value = long_text("j")
    wrong = [json.dumps({"id": "x", "v": value}), json.dumps({"id": 2, "v": value})[:-1]]
    unknown = json.dumps({"id": 4, "more": value})
    lines = [json.dumps({"id": 1, "v": value}), *wrong, json.dumps({"id": 3, "v": value}, ensure_ascii=False), unknown]
    assert load("json", "\n".join(lines), schema="id INT, v STRING") == (5, 3, 2)
    rows = {row["id"]: (row["v"], row["_rescued"]) for row in lake.read(spark, "bronze.x").collect()}
    assert {key: digest(text) for key, (text, _) in rows.items() if text} == {1: digest(value), 3: digest(value)}
    assert digest(json.loads(rows[4][1])["more"]) == digest(value)
    assert refused() == [(2, ["cast:id"], *digest(wrong[0])), (3, ["not_json"], *digest(wrong[1]))]


def test_three_megabytes_in_a_line_of_text(load, refused, lake, spark) -> None:
    good, wrong = long_text("t"), long_text("n") + "\0"
    assert load("text", f"{good}\n{wrong}\nshort\n") == (3, 2, 1)
    assert sorted(digest(row["value"]) for row in lake.read(spark, "bronze.x").collect()) == sorted([digest(good), digest("short")])
    assert refused() == [(2, ["nul"], *digest(wrong))]
