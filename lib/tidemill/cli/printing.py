"""Prints rows: a table for people, JSON or CSV for programs."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, object]
CONSOLE = Console(highlight=False)


def jsonable(value: object) -> object:
    """Return ``value`` as JSON can hold it: instants in ISO 8601, numbers that are none as null, bytes as hexadecimal."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): jsonable(cell) for key, cell in value.items()}
    if isinstance(value, (list, tuple)):
        named = getattr(value, "asDict", None)
        return jsonable(named()) if named else [jsonable(cell) for cell in value]
    return value


def print_json(value: object) -> None:
    """Write one JSON document on standard output."""
    sys.stdout.write(json.dumps(jsonable(value), ensure_ascii=False) + "\n")


def write_json_rows(rows: Iterable[Row], out: TextIO) -> None:
    """Write rows as one JSON array of objects, one at a time."""
    out.write("[")
    for number, row in enumerate(rows):
        out.write((",\n " if number else "") + json.dumps(jsonable(row), ensure_ascii=False))
    out.write("]\n")


def write_csv_rows(rows: Iterable[Row], columns: Sequence[str], out: TextIO) -> None:
    """Write rows as CSV with a header; a null is an empty field, what is not a plain value is JSON."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [jsonable(row[name]) for name in columns]
        writer.writerow([json.dumps(cell) if isinstance(cell, (list, dict)) else cell for cell in cells])


def print_table(rows: Iterable[Row], columns: Sequence[str], *, title: str | None = None, most: int = 100) -> None:
    """Print at most ``most`` rows as a table for people."""
    shown = list(islice(rows, most + 1))
    table = Table(header_style="dim" if title else "bold", box=None, pad_edge=False)
    for name in columns:
        numeric = any(_is_number(row[name]) for row in shown)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in shown[:most]:
        table.add_row(*(_cell(row[name]) for name in columns))
    console = CONSOLE if CONSOLE.is_terminal else Console(highlight=False, width=max(200, 24 * len(columns)))
    if title:
        console.print(Text(title, style="bold"))
    console.print(table)
    if len(shown) > most:
        sys.stderr.write(f"the first {most} rows; --limit shows more, --format csv or json all\n")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _cell(value: object) -> Text:
    if value is None:
        return Text("null", style="dim")
    if isinstance(value, float):
        return Text(f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}")
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%S}")
    plain = jsonable(value)
    return Text(json.dumps(plain, ensure_ascii=False) if isinstance(plain, (list, dict)) else str(plain))
