"""The columns of a source's bronze table, as far as they are known without Spark."""

from __future__ import annotations

import json

import sqlglot
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tidemill.column_names import PROVENANCE, list_table_columns
from tidemill.errors import TidemillError
from tidemill.lake import Lake
from tidemill.preflight.expression_types import named_type
from tidemill.preflight.queries import Columns
from tidemill.spec import Spec
from tidemill.spec.models import SOURCE_KINDS, Source
from tidemill.spec.models.source_kinds import SourceKind


def bronze_columns(spec: Spec, lake: Lake, name: str) -> Columns | None:
    """Return the columns of ``bronze.<name>`` after the next run, including those that ingest adds; None if they are not known."""
    source = spec.pipeline.sources[name]
    kind = SOURCE_KINDS.get(source.format, spec.folder)
    if source.on_new_column == "add":
        return None
    if source.schema_ is not None:
        columns = None if kind.adds_columns else declared_columns(spec.schema_text(source.schema_))
    elif lake.exists(f"bronze.{name}"):
        columns = delta_columns(lake.path(f"bronze.{name}"))
    else:
        columns = _inferred_columns(kind, source)
    if columns and source.on_type_change == "widen":
        columns = dict.fromkeys(columns)  # new files may widen the types
    return None if not columns else {**columns, **dict.fromkeys(PROVENANCE)}


def declared_columns(text: str) -> Columns | None:
    """Return the columns of a schema: DDL, or Spark's JSON of a schema; None if it cannot be parsed here."""
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
    """Return the columns of a Delta table, None if it cannot be opened."""
    try:
        fields = DeltaTable(path, version=version).schema().fields
        return {part.name: named_type(getattr(part.type, "type", None)) for part in fields}
    except (DeltaError, OSError, ValueError):
        return None


def _inferred_columns(kind: SourceKind, source: Source) -> Columns | None:
    """Return the columns that schema inference will find, None if only a run can find them."""
    try:
        types = kind.known_columns(source)
    except (TidemillError, OSError, EOFError, ValueError):
        return None  # ingest reports faults of files
    if types is None:
        return None
    return {column: named_type(types[name]) for column, name in zip(list_table_columns(list(types)), types, strict=True)}
