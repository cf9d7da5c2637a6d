"""Rows for people and for programs: nothing of a value is lost, and nothing of it reaches the terminal raw."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pyarrow as pa
import pytest
from pyarrow import parquet

from tidemill.cli import main
from tidemill.cli.printing import json_text, plain_text, print_table, read_rows, write_csv_rows, write_json_rows, write_parquet
from tidemill.lake.catalog import unique_names
from tidemill.runtime.terminal import escape_controls, escape_controls_in_lines

ROWS = [
    {"n": 1, "x": float("nan"), "at": datetime(2013, 1, 1, 5, tzinfo=UTC), "on": date(2013, 1, 1), "list": [1.5, None], "text": 'a,"b"\nc'},
    {"n": None, "x": Decimal("1.50"), "at": None, "on": None, "list": None, "text": ""},
    {"n": 2**63 - 1, "x": 0.1 + 0.2, "at": datetime(2013, 1, 1, 5, 0, 0, 7), "on": None, "list": {"k": Decimal("0E-9")}, "text": "=1+1"},
]
DAY = 86_400_000_000


def table() -> pa.Table:
    """Return one row of each kind that Spark hands over, the values beside them worked out by hand."""
    columns = {
        "instant": pa.array([1_719_835_200_000_001], pa.timestamp("us", "UTC")),  # date -u -d @1719835200: 2024-07-01 12:00:00
        "local": pa.array([1_719_835_200_000_000], pa.timestamp("us")),
        "far": pa.array([253_402_300_800_000_000], pa.timestamp("us", "UTC")),  # the second after 9999-12-31T23:59:59
        "before": pa.array([-DAY + 1], pa.timestamp("us", "UTC")),
        "leap": pa.array([11_016], pa.date32()),  # 30 * 365 + 7 leap days + 31 + 28 days after 1970-01-01
        "first": pa.array([-719_528], pa.date32()),  # the year 0
        "exact": pa.array([Decimal("12345678901234567.89")], pa.decimal128(20, 2)),
        "scale": pa.array([Decimal("0.000000001")], pa.decimal128(38, 18)),
        "single": pa.array([0.1], pa.float32()),
        "tiny": pa.array([5e-324]),
        "infinite": pa.array([float("-inf")]),
        "none": pa.array([None], pa.float64()),
        "list": pa.array([[Decimal("1.10"), None]], pa.list_(pa.decimal128(5, 2))),
        "struct": pa.array([{"a": 1, "b": 0}], pa.struct([("a", pa.int32()), ("b", pa.timestamp("us", "UTC"))])),
        "map": pa.array([[("k", [0.5])]], pa.map_(pa.string(), pa.list_(pa.float32()))),
        "bytes": pa.array([b"\x00\xff"], pa.binary()),
    }
    return pa.table(columns)


EXPECTED = {
    "instant": "2024-07-01T12:00:00.000001Z",
    "local": "2024-07-01T12:00:00",
    "far": "+10000-01-01T00:00:00Z",
    "before": "1969-12-31T00:00:00.000001Z",
    "leap": "2000-02-29",
    "first": "0000-01-01",
    "exact": "12345678901234567.89",
    "scale": "0.000000001000000000",
    "single": "0.1",
    "tiny": "5e-324",
    "infinite": "-Infinity",
    "none": "",
    "list": "[1.10, null]",
    "struct": '{"a": 1, "b": "1970-01-01T00:00:00Z"}',
    "map": '{"k": [0.5]}',
    "bytes": "00ff",
}


def test_every_format_has_every_digit(tmp_path, capsys):
    [row] = read_rows(table().to_reader())
    out = io.StringIO()
    write_csv_rows([row], list(row), out)
    assert next(csv.DictReader(io.StringIO(out.getvalue()))) == EXPECTED
    out = io.StringIO()
    write_json_rows([row], out)
    [read] = json.loads(out.getvalue(), parse_float=Decimal)
    assert (read["exact"], read["scale"], read["tiny"]) == (Decimal("12345678901234567.89"), Decimal("1E-9"), Decimal("5E-324"))
    assert (read["infinite"], read["none"], read["list"], read["map"]) == (
        "-Infinity",
        None,
        [Decimal("1.10"), None],
        {"k": [Decimal("0.5")]},
    )
    assert {name: read[name] for name in ("instant", "local", "far", "leap", "bytes")} == {
        name: EXPECTED[name] for name in ("instant", "local", "far", "leap", "bytes")
    }
    print_table([row], list(row))
    cells = capsys.readouterr().out.splitlines()[1]
    assert all(text in cells for text in EXPECTED.values())
    write_parquet(table().to_reader(), tmp_path / "t.parquet")
    assert parquet.read_table(tmp_path / "t.parquet").equals(table())


def test_json_is_one_array_that_json_reads_back():
    out = io.StringIO()
    write_json_rows(iter(ROWS), out)
    first, second, third = json.loads(out.getvalue())
    assert first == {"n": 1, "x": "NaN", "at": "2013-01-01T05:00:00Z", "on": "2013-01-01", "list": [1.5, None], "text": 'a,"b"\nc'}
    assert second == {"n": None, "x": 1.5, "at": None, "on": None, "list": None, "text": ""}
    assert third == {
        "n": 2**63 - 1, "x": 0.1 + 0.2, "at": "2013-01-01T05:00:00.000007", "on": None, "list": {"k": 0.0}, "text": "=1+1",
    }  # fmt: skip


def test_no_rows_are_an_empty_array():
    out = io.StringIO()
    write_json_rows(iter(()), out)
    assert json.loads(out.getvalue()) == []


def test_csv_is_what_the_csv_module_reads_back():
    out = io.StringIO()
    write_csv_rows(iter(ROWS), list(ROWS[0]), out)
    first, second, third = csv.DictReader(io.StringIO(out.getvalue()))
    assert (first["text"], first["list"], first["x"]) == ('a,"b"\nc', "[1.5, null]", "NaN")
    assert (second["n"], second["text"], third["text"], third["n"]) == ("", "", "=1+1", "9223372036854775807")
    assert out.getvalue().splitlines()[3] == ',1.50,,,,""'  # null and empty text are told apart
    out = io.StringIO()
    write_csv_rows([{"x": None}, {"x": "a"}], ["x"], out)
    assert out.getvalue() == 'x\n""\na\n'  # a row of one null is no empty line, which readers pass over


def test_safe_csv_disarms_texts_and_headers_and_leaves_numbers(capsys):
    texts = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "x=1", ""]
    out = io.StringIO()
    write_csv_rows([{"=a": text, "b": -1.5} for text in texts], ["=a", "b"], out, safe=True)
    rows = list(csv.reader(io.StringIO(out.getvalue(), newline="")))
    assert rows[0] == ["'=a", "b"]
    assert rows[1:] == [[f"'{text}", "-1.5"] for text in texts[:6]] + [["x=1", "-1.5"], ["", "-1.5"]]
    assert main(["sql", "SELECT 1", "--safe-csv"]) == 2
    assert "--format csv" in capsys.readouterr().err


def test_instants_with_another_zone_are_shown_in_utc():
    assert plain_text(datetime(2024, 7, 1, 8, 0, 0, 250, tzinfo=timezone(timedelta(hours=-4)))) == "2024-07-01T12:00:00.000250Z"
    assert json_text({1: Decimal("-0.50"), None: True}) == '{"1": -0.50, "null": true}'


def test_names_of_columns_are_unique_and_never_another_columns():
    assert unique_names(["x", "y", "x"]) == ["x", "y", "x_2"]
    assert unique_names(["x", "x", "x_2", "x"]) == ["x", "x_3", "x_2", "x_4"]


ESCAPES = "a\x1b]0;title\x07\x1b[2J\r\x9b31m\u202eb\udc80"
SHOWN = "a\\x1b]0;title\\x07\\x1b[2J\\r\\x9b31m\\u202eb\\udc80"


def test_control_characters_are_shown_and_not_obeyed(capsys):
    assert (escape_controls(f"{ESCAPES}\n\t"), escape_controls_in_lines(f"{ESCAPES}\n\t")) == (f"{SHOWN}\\n\\t", f"{SHOWN}\n\t")
    print_table([{ESCAPES: f"{ESCAPES}\n", "[bold]": [ESCAPES]}], [ESCAPES, "[bold]"], title=ESCAPES)
    shown = capsys.readouterr().out
    assert shown.count(SHOWN) == 3 and "\x1b" not in shown and "\x9b" not in shown and "[bold]" in shown
    assert "\x9b" not in json_text(ESCAPES) and json.loads(json_text(ESCAPES)) == ESCAPES


class Terminal(io.StringIO):
    """Standard output of a person."""

    def isatty(self) -> bool:
        return True


def test_csv_is_raw_for_programs_and_escaped_on_a_terminal():
    raw, terminal = io.StringIO(), Terminal()
    for out in (raw, terminal):
        write_csv_rows([{"x": "\x1b[2J"}], ["x"], out)
    assert raw.getvalue() == "x\n\x1b[2J\n"
    assert terminal.getvalue() == "x\n\\x1b[2J\n"


@pytest.mark.parametrize(
    "words", [["check", "a\x1b[2J.yml"], ["a\x1b[2J"], ["status", "--lake", "/a\x1b[2J"], ["run", "x.yml", "--\x1b[2J"]]
)
def test_messages_do_not_obey_what_they_quote(words, capsys):
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert "\x1b" not in shown and "\\x1b[2J" in shown
