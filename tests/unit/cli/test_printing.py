"""Rows for programs: JSON and CSV as other readers understand them."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal

from tidemill.cli.printing import write_csv_rows, write_json_rows

ROWS = [
    {"n": 1, "x": float("nan"), "at": datetime(2013, 1, 1, 5, tzinfo=UTC), "on": date(2013, 1, 1), "list": [1.5, None], "text": 'a,"b"\nc'},
    {"n": None, "x": Decimal("1.50"), "at": None, "on": None, "list": None, "text": "é"},
]


def test_json_is_one_array_that_json_reads_back():
    out = io.StringIO()
    write_json_rows(iter(ROWS), out)
    first, second = json.loads(out.getvalue())
    assert first == {"n": 1, "x": None, "at": "2013-01-01T05:00:00+00:00", "on": "2013-01-01", "list": [1.5, None], "text": 'a,"b"\nc'}
    assert second == {"n": None, "x": 1.5, "at": None, "on": None, "list": None, "text": "é"}


def test_no_rows_are_an_empty_array():
    out = io.StringIO()
    write_json_rows(iter(()), out)
    assert json.loads(out.getvalue()) == []


def test_csv_is_what_the_csv_module_reads_back():
    out = io.StringIO()
    write_csv_rows(iter(ROWS), list(ROWS[0]), out)
    first, second = csv.DictReader(io.StringIO(out.getvalue()))
    assert (first["text"], first["list"], first["x"]) == ('a,"b"\nc', "[1.5, null]", "")
    assert (second["n"], second["text"]) == ("", "é")
