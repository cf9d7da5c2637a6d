"""The lake's tables under their names, in one session, for reading with SQL."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deltalake import DeltaTable

from tidemill.errors import TableNotFound, UsageError, did_you_mean
from tidemill.lake.names import LAYERS, is_local, quoted
from tidemill.lake.sql import is_query, table_names
from tidemill.lake.tables import Lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_ASKS = re.compile(r"^\s*(SHOW|DESCRIBE|DESC|EXPLAIN)\b", re.IGNORECASE)
# The latest row of a run, of a node of a run: the current state.
_VIEWS = {"ops.runs_now": ("ops.runs", "run_id"), "ops.steps_now": ("ops.steps", "run_id, node")}


class Catalog:
    """Registers tables in the session when a query first names them; nothing outlives the process."""

    def __init__(self, spark: SparkSession, lake: Lake) -> None:
        """Make the layers known as schemas.

        Raises:
            UsageError: an earlier version of tidemill has written the lake.
        """
        lake.ledger.refuse_earlier_layout()
        self._spark, self._lake = spark, lake
        self._registered: set[str] = set()
        for layer in LAYERS:
            spark.sql(f"CREATE SCHEMA IF NOT EXISTS {layer}")

    @staticmethod
    def check(query: str) -> None:
        """Refuse what is not one reading statement.

        Raises:
            UsageError: the SQL does not parse, or would write: tables are written by steps alone, so that every row has a run.
        """
        if not _ASKS.match(query) and not is_query(query):
            raise UsageError("`tidemill sql` only reads: SELECT, WITH, SHOW, DESCRIBE, EXPLAIN; tables are written by the pipeline's steps")

    def tables(self) -> list[str]:
        """Return the names of all tables and views of the lake."""
        found = tables_of(self._lake)
        return sorted([*found, *(view for view, (base, _) in _VIEWS.items() if base in found)])

    def query(self, query: str) -> DataFrame:
        """Return what the statement gives.

        Raises:
            TableNotFound: it names a table that the lake does not hold.
        """
        self.check(query)
        for table in self.tables() if _ASKS.match(query) else sorted(table_names(query)):
            self._register(table)
        return self._spark.sql(query)

    def _register(self, table: str) -> None:
        if table in self._registered:
            return
        if table in _VIEWS:
            base, key = _VIEWS[table]
            self._register(base)
            newest = f"SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY seq DESC) AS _rank FROM {base}"
            columns = ", ".join(quoted(name) for name in self._spark.table(base).columns)
            self._spark.sql(f"CREATE OR REPLACE VIEW {table} AS SELECT {columns} FROM ({newest}) WHERE _rank = 1")
        elif self._lake.exists(table):
            place = self._lake.path(table).replace("\\", "\\\\").replace("'", "\\'")
            self._spark.sql(f"CREATE TABLE IF NOT EXISTS {table} USING delta LOCATION '{place}'")
        else:
            known = self.tables()
            raise TableNotFound(
                f"{table} is not in {self._lake.root}{did_you_mean(table, known)} It holds: {', '.join(known) or 'no table yet'}"
            )
        self._registered.add(table)


def tables_of(lake: Lake, layers: Sequence[str] = LAYERS) -> list[str]:
    """Return the tables of these layers as ``layer.name``, layer by layer, sorted in each; starts no JVM."""
    return [f"{layer}.{name}" for layer in layers for name in _names(lake, layer)]


def _names(lake: Lake, layer: str) -> list[str]:
    if is_local(lake.root):
        folder = Path(lake.root) / layer
        return sorted(entry.name for entry in folder.iterdir() if DeltaTable.is_deltatable(str(entry))) if folder.is_dir() else []
    from pyarrow import fs

    filesystem, base = fs.FileSystem.from_uri(lake.root)
    entries = filesystem.get_file_info(fs.FileSelector(f"{base}/{layer}", allow_not_found=True))
    return sorted(entry.base_name for entry in entries if entry.type == fs.FileType.Directory)
