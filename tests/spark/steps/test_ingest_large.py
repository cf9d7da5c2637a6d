"""Records far larger than most: kept whole to the byte, good or refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from deltalake import DeltaTable

MEGABYTES = 3 * 2**20
# With what could end a field early: separators, quotes, an accent of two bytes; no line end.
PATTERN = 'caf\u00e9, "x" \\ 0123456789'


def long_text(start: str, pattern: str = PATTERN) -> str:
    return (start + pattern * (MEGABYTES // len(pattern) + 1))[:MEGABYTES]


def digest(text: str) -> tuple[int, str]:
    return len(text), hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def declared(raw: Path) -> dict[str, object]:
    return {"path": str(raw), "load": "incremental"}


@pytest.fixture
def load(load, raw: Path):
    """Write a file, ingest it as source ``x``, and return the counts of its records."""

    def _load(kind: str, text: str, run_id: str = "r1", **source: object):
        (raw / f"{run_id}.txt").write_bytes(text.encode())
        result = load(run_id, format=kind, **source)
        return result.rows_in, result.rows_out, result.rows_quarantined

    return _load


@pytest.fixture
def refused(spark, lake):
    """Return line, rules, length and hash of the refused records, sorted by their line."""

    def _refused() -> list[tuple]:
        rows = lake.read(spark, "bronze.x_quarantine").collect()
        return sorted((row["_source_line"], row["rules"], *digest(row["raw"])) for row in rows)

    return _refused


@pytest.mark.long("megabytes in each of seven records")
def test_three_megabytes_in_a_field_of_csv(load, refused, lake, spark) -> None:
    plain, quoted = long_text("p", "plain text; "), long_text("q")
    written = '"' + quoted.replace('"', '""') + '"'
    wrong = [f"x,{plain},1", f"x,{written},1", f"3,{plain},1,more", f'4,1,"{plain}', f"5,,{written}"]
    lines = ["id,v,n", f"1,{plain},1", *wrong, f"2,{written},"]
    assert load("csv", "\r\n".join(lines), schema="id INT, v STRING, n DOUBLE", options={"header": True}) == (7, 2, 5)
    rows = {row["id"]: digest(row["v"]) for row in lake.read(spark, "bronze.x").collect()}
    assert rows == {1: digest(plain), 2: digest(quoted)}
    rules = [["cast:id"], ["cast:id"], ["field_count"], ["unclosed_quote", "cast:n"], ["cast:n"]]
    assert refused() == [(place, names, *digest(raw)) for place, (names, raw) in enumerate(zip(rules, wrong, strict=True), start=3)]


@pytest.mark.slow
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


@pytest.mark.slow
def test_three_megabytes_in_a_line_of_text(load, refused, lake, spark) -> None:
    good, wrong = long_text("t"), long_text("n") + "\0"
    assert load("text", f"{good}\n{wrong}\nshort\n") == (3, 2, 1)
    assert sorted(digest(row["value"]) for row in lake.read(spark, "bronze.x").collect()) == sorted([digest(good), digest("short")])
    assert refused() == [(2, ["nul"], *digest(wrong))]


@pytest.mark.long("plans over 1,200 columns, twice")
def test_thousands_of_columns_become_a_table(load, refused, lake) -> None:
    # More than a thousand are read in pieces; ``test_csv_wide`` reads 30,000.
    number = 1200
    header = ",".join(f"c{place}" for place in range(number))
    rows = {row: [row * 10 + place % 7 for place in range(number)] for row in range(1, 5)}
    lines = {row: ",".join(map(str, values)) for row, values in rows.items()}
    short, long = lines[1].rpartition(",")[0], lines[1] + ",1"
    assert load("csv", "\n".join([header, lines[1], short, lines[2], long]), options={"header": True}) == (4, 2, 2)
    found = [(3, ["field_count"], *digest(short)), (5, ["field_count"], *digest(long))]
    assert refused() == found
    # With the columns that are known by now, in another order and one of them missing.
    mixed = [f"{header.rpartition(',')[0]}\n{lines[3].rpartition(',')[0]}", f"{lines[4].rpartition(',')[0]},7"]
    assert load("csv", "\n".join(mixed), "r2", options={"header": True}) == (2, 1, 1)
    assert refused() == sorted([*found, (3, ["field_count"], *digest(mixed[1]))])
    table = DeltaTable(lake.path("bronze.x")).to_pyarrow_table().to_pylist()
    values = sorted([row[f"c{place}"] for place in range(number)] for row in table if row["_batch_id"] == 1)
    assert values == [rows[1], rows[2]]
    [last] = [row for row in table if row["_batch_id"] == 2]
    assert [last[f"c{place}"] for place in range(number)] == [*rows[3][:-1], None]
