"""Writes rows: a table for people; JSON, CSV or Parquet for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidemill.cli.cells import Row, json_text, plain_text, rows_of
from tidemill.errors import UsageError
from tidemill.redaction import redact
from tidemill.terminal import visible, visible_lines

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

Format = Literal["table", "csv", "json", "parquet"]
FORMATS: dict[str, Format] = {".csv": "csv", ".json": "json", ".parquet": "parquet"}
"""The formats of files by the ends of their names."""

CONSOLE = Console(highlight=False)
_WIDEST = 10_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ROW_GROUP = 100_000


def write(text: str) -> None:
    """Write a message of one's own on standard output, what it quotes made safe for a terminal and free of secrets."""
    sys.stdout.write(visible_lines(redact(text)))


def warn(text: str) -> None:
    """Write a message of one's own on standard error, what it quotes made safe for a terminal and free of secrets."""
    sys.stderr.write(visible_lines(redact(text)))


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
        text = visible(text) if is_terminal else text
        return '"' + text.replace('"', '""') + '"' if text == "" or any(sign in text for sign in ',"\r\n') else text

    out.write(",".join(cell(name) for name in columns) + "\n")
    for row in rows:
        out.write(",".join(cell(row[name]) for name in columns) + "\n")


def write_parquet(reader: pa.RecordBatchReader, output: Path) -> None:
    """Write what a reader gives to one Parquet file, with the types that it has."""
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
    """Print what a query gives, or write it to ``output``; only a table is limited, and says so where there is more."""
    from tidemill.lake.batches import read_batches

    if format_ == "table":
        reader = read_batches(frame.limit(limit + 1))
        with _opened(output) as out:
            print_table(rows_of(reader), reader.schema.names, most=limit, out=out)
        return
    reader = read_batches(frame)
    if format_ == "parquet":
        assert output is not None
        with _in_place(output) as place:
            write_parquet(reader, place)
        return
    with _opened(output) as out:
        if format_ == "json":
            write_json_rows(rows_of(reader), out)
        else:
            write_csv_rows(rows_of(reader), reader.schema.names, out, safe=safe_csv)


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """Yield standard output, or the file: it is there when all of it has been written."""
    if output is None:
        yield sys.stdout
        return
    with _in_place(output) as place, place.open("w", encoding="utf-8", newline="") as out:
        yield out


@contextmanager
def _in_place(output: Path) -> Iterator[Path]:
    """Yield a file beside ``output`` that takes its name in the end, and is removed where the block fails."""
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
    """Print rows as a table for people; with ``most`` the first of them, and that there are more."""
    shown = list(rows if most is None else islice(rows, most + 1))
    cells = [[_cell(row[name]) for name in columns] for row in shown[:most]]
    table = Table(header_style="dim" if title else "bold", box=None, pad_edge=False)
    for name in columns:
        numeric = any(_is_number(row[name]) for row in shown)
        table.add_column(Text(visible(name)), justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    console = CONSOLE if CONSOLE.is_terminal and out is None else _wide_console(columns, cells, out)
    if title:
        console.print(Text(visible(title), style="bold"))
    console.print(table)
    if most is not None and len(shown) > most:
        warn(f"the first {most} rows; --limit shows more, JSON, CSV and Parquet hold all\n")


def _wide_console(columns: Sequence[str], cells: Sequence[Sequence[Text]], out: TextIO | None) -> Console:
    """Return a console so wide that no cell is broken over lines, as programs read them too."""
    widths = [max([cell_len(visible(name)), *(row[place].cell_len for row in cells)]) for place, name in enumerate(columns)]
    return Console(highlight=False, width=min(_WIDEST, max(200, sum(widths) + 2 * len(widths))), file=out)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _cell(value: object) -> Text:
    return Text("null", style="dim") if value is None else Text(visible(plain_text(value)))
