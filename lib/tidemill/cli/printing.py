"""Writes rows: tables for people; JSON, CSV or Parquet for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import pyarrow as pa
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidemill.errors import UsageError
from tidemill.redaction import redact
from tidemill.runtime.terminal import escape_controls, escape_controls_in_lines

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


Row = Mapping[str, object]
_DAY = 86_400_000_000
_CONTROLS = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *range(0xD800, 0xE000))}  # what JSON may hold and a terminal obeys


def read_rows(reader: pa.RecordBatchReader) -> Iterator[Row]:
    """Yield the rows of a reader as Python values without loss: see ``_values``."""
    names = reader.schema.names
    for batch in reader:
        for row in zip(*(_values(column) for column in batch.columns), strict=True):
            yield dict(zip(names, row, strict=True))


def _values(array: pa.Array) -> list[Any]:
    """Return the values of an array: instants and dates as text (Python's end at the year 9999), 32-bit floats by their own digits."""
    kind = array.type
    if pa.types.is_timestamp(kind):
        zone = "Z" if kind.tz else ""
        micros = array.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64())
        return [None if value is None else _instant(value) + zone for value in micros.to_pylist()]
    if pa.types.is_date(kind):
        days = array.cast(pa.date32()).cast(pa.int32())
        return [None if value is None else _day(value) for value in days.to_pylist()]
    if pa.types.is_float32(kind):
        return [None if value is None else _single(value) for value in array.to_pylist()]
    if pa.types.is_map(kind):
        return _groups(array, list(zip(_values(array.keys), _values(array.items), strict=True)), dict)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _groups(array, _values(array.values), list)
    if pa.types.is_struct(kind):
        fields = [_values(array.field(place)) for place in range(kind.num_fields)]
        names = [field.name for field in kind]
        is_null = array.is_null().to_pylist()
        return [None if is_null[row] else dict(zip(names, values, strict=True)) for row, values in enumerate(zip(*fields, strict=True))]
    values: list[Any] = array.to_pylist()
    return values


def _groups(array: pa.Array, values: list[Any], group: Callable[[list[Any]], Any]) -> list[Any]:
    offsets, is_null = array.offsets.to_pylist(), array.is_null().to_pylist()
    return [None if is_null[row] else group(values[offsets[row] : offsets[row + 1]]) for row in range(len(array))]


def _single(value: float) -> float:
    """Return the double with the fewest digits that is this 32-bit float: 0.1, not 0.10000000149011612."""
    import numpy as np

    return float(str(np.float32(value)))


def _instant(micros: int) -> str:
    days, rest = divmod(micros, _DAY)
    seconds, fraction = divmod(rest, 1_000_000)
    shown = f"{_day(days)}T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{shown}.{fraction:06d}" if fraction else shown


def _day(days: int) -> str:
    """Return the date so many days after 1970-01-01, of any year, as ISO 8601 writes it: those beyond four digits with a sign."""
    era, day = divmod(days + 719_468, 146_097)
    of_era = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    of_year = day - (365 * of_era + of_era // 4 - of_era // 100)
    month = (5 * of_year + 2) // 153
    number = of_year - (153 * month + 2) // 5 + 1
    month += 3 if month < 10 else -9
    year = of_era + era * 400 + (month <= 2)
    sign = "" if 0 <= year <= 9999 else "-" if year < 0 else "+"
    return f"{sign}{abs(year):04d}-{month:02d}-{number:02d}"


def plain_text(value: object) -> str:
    """Return a value as text without quotes: of numbers all digits, ``Z`` after instants that have a zone; nested values are JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat() if value.tzinfo is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return value.hex()
    return json_text(value) if isinstance(value, Mapping | list | tuple) else str(value)


def json_text(value: object) -> str:
    """Return a value as JSON: DECIMAL as a number with all its digits, NaN and the infinities as strings, bytes as hexadecimal."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_string(_key(key))}: {json_text(cell)}" for key, cell in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(json_text, value)) + "]"
    is_number = isinstance(value, int | Decimal) or (isinstance(value, float) and math.isfinite(value))
    return plain_text(value) if is_number else _string(plain_text(value))


def _key(key: object) -> str:
    return json_text(key) if isinstance(key, bool) or key is None else plain_text(key)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).translate(_CONTROLS)


Format = Literal["table", "csv", "json", "parquet"]
FORMATS: dict[str, Format] = {".csv": "csv", ".json": "json", ".parquet": "parquet"}
"""The formats of files by suffix."""

CONSOLE = Console(highlight=False)
_WIDEST = 10_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ROW_GROUP = 100_000


def write(text: str) -> None:
    """Write a message to standard output, with control characters escaped and secrets redacted."""
    sys.stdout.write(escape_controls_in_lines(redact(text)))


def warn(text: str) -> None:
    """Write a message to standard error, with control characters escaped and secrets redacted."""
    sys.stderr.write(escape_controls_in_lines(redact(text)))


def print_json(value: object) -> None:
    """Write one JSON document on standard output."""
    sys.stdout.write(json_text(value) + "\n")


def write_json_rows(rows: Iterable[Row], out: TextIO) -> None:
    """Write rows as one JSON array of objects, one at a time."""
    out.write("[")
    for number, row in enumerate(rows):
        out.write((",\n " if number else "") + json_text(row))
    out.write("]\n")


def write_csv_rows(rows: Iterable[Row], columns: Sequence[str], out: TextIO, *, safe: bool = False) -> None:
    """Write rows as CSV with a header: a null is an empty field, an empty text ``""``, what is nested is JSON.

    On a terminal control characters are escaped. ``safe`` puts an apostrophe before texts that a spreadsheet would run.
    """
    is_terminal = out.isatty()
    is_single = len(columns) == 1

    def cell(value: object) -> str:
        if value is None:
            return '""' if is_single else ""  # a line with nothing in it is no row to most readers
        text = plain_text(value)
        if safe and isinstance(value, str) and text.startswith(_FORMULA):
            text = "'" + text
        text = escape_controls(text) if is_terminal else text
        return '"' + text.replace('"', '""') + '"' if text == "" or any(sign in text for sign in ',"\r\n') else text

    out.write(",".join(cell(name) for name in columns) + "\n")
    for row in rows:
        out.write(",".join(cell(row[name]) for name in columns) + "\n")


def write_parquet(reader: pa.RecordBatchReader, output: Path) -> None:
    """Write the rows of a reader to one Parquet file, with the reader's types."""
    import pyarrow as pa
    from pyarrow import parquet

    waiting: list[pa.RecordBatch] = []
    with parquet.ParquetWriter(output, reader.schema) as writer:
        for batch in reader:
            waiting.append(batch)
            if sum(len(each) for each in waiting) >= _ROW_GROUP:
                writer.write_table(pa.Table.from_batches(waiting, reader.schema))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, reader.schema))


def write_frame(frame: DataFrame, format_: Format, output: Path | None, *, limit: int, safe_csv: bool = False) -> None:
    """Print the result of a query, or write it to ``output``; only tables are limited, with a note where there are more rows."""
    from tidemill.lake.catalog import read_batches

    if format_ == "table":
        reader = read_batches(frame.limit(limit + 1))
        with _open_output(output) as out:
            print_table(read_rows(reader), reader.schema.names, most=limit, out=out)
        return
    reader = read_batches(frame)
    if format_ == "parquet":
        assert output is not None
        with _in_place(output) as place:
            write_parquet(reader, place)
        return
    with _open_output(output) as out:
        if format_ == "json":
            write_json_rows(read_rows(reader), out)
        else:
            write_csv_rows(read_rows(reader), reader.schema.names, out, safe=safe_csv)


@contextmanager
def _open_output(output: Path | None) -> Iterator[TextIO]:
    """Yield standard output, or the file, which appears when it is complete."""
    if output is None:
        yield sys.stdout
        return
    with _in_place(output) as place, place.open("w", encoding="utf-8", newline="") as out:
        yield out


@contextmanager
def _in_place(output: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``output`` that is renamed to it at the end, and removed where the block fails."""
    if output.is_dir():
        raise UsageError(f"--output {output}: this is a folder; give the name of a file")
    output.parent.mkdir(parents=True, exist_ok=True)
    place = output.with_name(f".{output.name}.part")
    try:
        yield place
        place.replace(output)
    finally:
        place.unlink(missing_ok=True)


def print_table(
    rows: Iterable[Row], columns: Sequence[str], *, title: str | None = None, most: int | None = None, out: TextIO | None = None
) -> None:
    """Print rows as a table; with ``most`` the first ones, with a note where there are more."""
    shown = list(rows if most is None else islice(rows, most + 1))
    cells = [[_cell(row[name]) for name in columns] for row in shown[:most]]
    table = Table(header_style="dim" if title else "bold", box=None, pad_edge=False)
    for name in columns:
        numeric = any(_is_number(row[name]) for row in shown)
        table.add_column(Text(escape_controls(name)), justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    console = CONSOLE if CONSOLE.is_terminal and out is None else _wide_console(columns, cells, out)
    if title:
        console.print(Text(escape_controls(title), style="bold"))
    console.print(table)
    if most is not None and len(shown) > most:
        warn(f"the first {most} rows; --limit shows more, JSON, CSV and Parquet hold all\n")


def _wide_console(columns: Sequence[str], cells: Sequence[Sequence[Text]], out: TextIO | None) -> Console:
    """Return a console wide enough that no cell is wrapped, as programs read the table too."""
    widths = [max([cell_len(escape_controls(name)), *(row[place].cell_len for row in cells)]) for place, name in enumerate(columns)]
    return Console(highlight=False, width=min(_WIDEST, max(200, sum(widths) + 2 * len(widths))), file=out)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _cell(value: object) -> Text:
    return Text("null", style="dim") if value is None else Text(escape_controls(plain_text(value)))
