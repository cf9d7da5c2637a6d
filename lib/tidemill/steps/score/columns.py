"""Whose records a file holds, by the columns that it names; read without Spark."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.column_names import table_columns
from tidemill.sources.files.csv.records import completed_options
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.options import is_on
from tidemill.spec.models import Source

if TYPE_CHECKING:
    from tidemill.lake import Lake


_PACKED = {".gz": gzip.open, ".bz2": bz2.open}


def columns_in_common(lake: Lake, table: str, source: Source, file: SourceFile, kind: str | None) -> int | None:
    """Return how many of the file's columns the table has; None where the file does not tell its columns, or there is no table."""
    names = _names(source, file, kind or source.format)
    if not names or not lake.exists(table):
        return None
    known = {field.name.lower() for field in lake.open(table).schema().fields}
    return len(known & {name.lower() for name in table_columns(names)})


def _names(source: Source, file: SourceFile, kind: str) -> list[str] | None:
    try:
        if kind in ("csv", "tsv"):
            return _csv_names(source, file)
        if kind == "json":
            return _json_names(file)
        return list(pq.read_schema(file.readable).names) if kind == "parquet" else None
    except (OSError, EOFError, ValueError, LookupError, csv.Error, pa.ArrowException):
        return None  # whoever reads the whole file says what is wrong with it


def _csv_names(source: Source, file: SourceFile) -> list[str] | None:
    options = completed_options(source) if source.format in ("csv", "tsv") else {"header": "true", "sep": ",", "quote": '"'}
    if not is_on(options, "header"):
        return None
    with _opened(file) as stream:
        text = stream.readline().decode(options.get("encoding", "utf-8")).lstrip("\ufeff")
    return next(csv.reader([text], delimiter=options["sep"], quotechar=options["quote"] or '"'), None)


def _json_names(file: SourceFile) -> list[str] | None:
    with _opened(file) as stream:
        line = next((line for line in stream if line.strip()), b"").strip()
        value = json.loads(line if line.endswith(b"}") else line + stream.read())
    first = value[0] if isinstance(value, list) and value else value
    return list(first) if isinstance(first, dict) else None


def _opened(file: SourceFile) -> IO[bytes]:
    return _PACKED.get(Path(file.path).suffix, open)(file.readable, "rb")  # type: ignore[operator]
