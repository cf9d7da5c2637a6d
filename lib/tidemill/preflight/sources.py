"""The columns that a source will have in bronze, as far as that can be known without reading it."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import sqlglot
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tidemill.column_names import PROVENANCE, table_columns
from tidemill.errors import TidemillError
from tidemill.lake import Lake
from tidemill.preflight.expression_types import named_type
from tidemill.preflight.queries import Columns
from tidemill.sources.files.listing import SourceFile, list_source_files
from tidemill.spec import Spec
from tidemill.spec.models import Source

_MOST_FILES = 500
_MOST_BYTES = 8 * 2**20
"""JSON files that are larger together are not read: a later record may have columns of its own."""

_ARROW = {
    "bool": "boolean", "int8": "byte", "int16": "short", "int32": "integer", "int64": "long", "float": "float", "double": "double",
    "string": "string", "large_string": "string", "date32[day]": "date", "timestamp[us]": "timestamp_ntz",
    "timestamp[us, tz=UTC]": "timestamp",
}  # fmt: skip
"""Names of types by what Arrow calls them, where Spark reads them as the same."""

Names = Sequence[str] | None


def bronze_columns(spec: Spec, lake: Lake, name: str) -> Columns | None:
    """Return the columns of ``bronze.<name>`` after the next run, those that ingest adds among them; None where they are not known."""
    source = spec.pipeline.sources[name]
    if source.on_new_column == "add":
        return None
    if source.schema_ is not None:
        columns = None if source.format == "kafka" else declared_columns(spec.schema_text(source.schema_))
    elif lake.exists(f"bronze.{name}"):
        columns = delta_columns(lake.path(f"bronze.{name}"))
    else:
        columns = _inferred_columns(source)
    if columns and source.on_type_change == "widen":
        columns = dict.fromkeys(columns)  # what the files hold may widen them
    return None if not columns else {**columns, **dict.fromkeys(PROVENANCE)}


def declared_columns(text: str) -> Columns | None:
    """Return the columns of a schema: DDL, or Spark's JSON of a schema; None where it is not understood here."""
    try:
        if text.lstrip().startswith("{"):
            return {str(field["name"]): named_type(field.get("type")) for field in json.loads(text)["fields"]}
        table = sqlglot.parse_one(f"CREATE TABLE t ({text}\n)", dialect="databricks")
    except (SqlglotError, ValueError, KeyError, TypeError, RecursionError):
        return None
    declared = table.this.expressions if isinstance(table.this, exp.Schema) else []
    known = {part.name: part.args.get("kind") for part in declared if isinstance(part, exp.ColumnDef)}
    return known if len(known) == len(declared) else None


def delta_columns(path: str, version: int | None = None) -> Columns | None:
    """Return the columns of a Delta table, None where it cannot be opened."""
    try:
        fields = DeltaTable(path, version=version).schema().fields
        return {part.name: named_type(getattr(part.type, "type", None)) for part in fields}
    except (DeltaError, OSError, ValueError):
        return None


def _inferred_columns(source: Source) -> Columns | None:
    """Return the columns that inference will find, None where only a run can tell."""
    infer = _KINDS.get(source.format)
    if infer is None:
        return None
    try:
        names = infer(source)
        kinds = _column_types(source)
    except (TidemillError, OSError, EOFError, ValueError, sqlite3.Error):
        return None  # what is wrong with the files is for ingest to say, or for the preflight of files
    return None if names is None else {new: kinds.get(old) for new, old in zip(table_columns(names), names, strict=True)}


def _column_types(source: Source) -> Mapping[str, exp.DataType | None]:
    """Return the types of the columns that are of one type in all Parquet files."""
    if source.format != "parquet":
        return {}
    import pyarrow.parquet as pq

    found: dict[str, exp.DataType | None] = {}
    for file in _files(source):
        for part in pq.read_schema(file.readable):
            kind = named_type(_ARROW.get(str(part.type)))
            found[part.name] = kind if found.get(part.name, kind) == kind else None
    return found


def _files(source: Source) -> tuple[SourceFile, ...]:
    """Return the files that are to be read; none where some are not on this machine or there are very many."""
    if any("://" in path or "${secret:" in path for path in source.paths):
        return ()
    files = tuple(file for file in list_source_files(source) if file.size)
    return files if len(files) <= _MOST_FILES else ()


def _of_all(source: Source, names_of: Callable[[SourceFile], Names]) -> Names:
    """Return the names of all files, None where those of one are not known."""
    found: dict[str, None] = {}
    for file in _files(source):
        names = names_of(file)
        if names is None:
            return None
        found |= dict.fromkeys(names)
    return list(found) or None


def _csv_names(source: Source) -> Names:
    from tidemill.sources.files.csv.records import completed_options
    from tidemill.sources.files.encodings import can_open
    from tidemill.sources.files.headers import read_header
    from tidemill.sources.options import is_on

    if any("${secret:" in str(value) for value in source.options.values()):
        return None
    options = completed_options(source)
    if not is_on(options, "header"):
        return None
    return _of_all(source, lambda file: read_header(None, file, options).names if can_open(file) else None)  # type: ignore[arg-type]


def _parquet_names(source: Source) -> Names:
    import pyarrow.parquet as pq

    return _of_all(source, lambda file: pq.read_schema(file.readable).names)


def _orc_names(source: Source) -> Names:
    from pyarrow import orc

    return _of_all(source, lambda file: orc.ORCFile(file.readable).schema.names)


def _json_names(source: Source) -> Names:
    files = _files(source)
    if source.options or sum(file.size for file in files) > _MOST_BYTES:
        return None
    return _of_all(source, lambda file: list(dict.fromkeys(_keys(Path(file.readable)))))


def _keys(file: Path) -> Iterator[str]:
    """Yield the keys of all objects, one a line.

    Raises:
        ValueError: a line is no JSON object, or the file has grown too large: what it has of columns is not known then.
    """
    left = _MOST_BYTES * 4  # unpacked
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        while line := stream.readline(_MOST_BYTES * 4):
            left -= len(line)
            if left < 0:
                raise ValueError(f"{file} is too large")
            if line.strip():
                record = json.loads(line.decode("utf-8-sig"))
                if not isinstance(record, dict):
                    raise ValueError(f"{file} holds a line that is no object")
                yield from record


def _sqlite_names(source: Source) -> Names:
    place = (source.url or "").partition("jdbc:sqlite:")[2].partition("?")[0].removeprefix("file:")
    if not place.startswith("/") or "${secret:" in place or not Path(place).is_file():
        return None
    table = (source.table or "").strip('"`[]').replace('"', '""')
    relation = f"({source.query.strip().rstrip(';')})" if source.query else f'"{table}"'
    connection = sqlite3.connect(f"file:{quote(place)}?mode=ro", uri=True, timeout=1)
    try:
        return [column[0] for column in connection.execute(f"SELECT * FROM {relation} LIMIT 0").description]
    finally:
        connection.close()


def _delta_names(source: Source) -> Names:
    options = {name.lower(): value for name, value in source.options.items()}
    if not source.paths or "timestampasof" in options or "${secret:" in source.paths[0]:
        return None
    version = options.get("versionasof")
    columns = delta_columns(source.paths[0], None if version is None else int(str(version)))
    feed = ["_change_type", "_commit_version", "_commit_timestamp"] if source.load == "incremental" else []
    return None if columns is None else [*columns, *feed]


_KINDS: dict[str, Callable[[Source], Names]] = {
    "csv": _csv_names,
    "tsv": _csv_names,
    "parquet": _parquet_names,
    "orc": _orc_names,
    "json": _json_names,
    "jdbc": _sqlite_names,
    "delta": _delta_names,
    "text": lambda _: ["value"],
    "binaryFile": lambda _: ["path", "modificationTime", "length", "content"],
}
