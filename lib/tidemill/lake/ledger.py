"""The ledger: the ops tables, appended to and read without Spark, so that asking for states starts no JVM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from tidemill.lake.lock import locked
from tidemill.lake.names import split_name
from tidemill.lake.ops import OPS_TABLES

Row = Mapping[str, object]


class Ledger:
    """The ops tables of the lake at ``root``: rows are appended, never updated; the latest ``at`` is current."""

    def __init__(self, root: str) -> None:
        """Remember where the lake is; nothing is read or written yet."""
        self._root = root.rstrip("/")

    def append(self, table: str, rows: Sequence[Row]) -> None:
        """Add rows to an ops table in one commit; absent columns are null, an absent ``at`` is now."""
        if rows:
            self._write(table, rows, predicate=None)

    def put(self, table: str, rows: Sequence[Row], *, where: Mapping[str, str | int]) -> None:
        """Replace the rows whose columns equal ``where`` by ``rows``, in one commit: safe to repeat."""
        if not rows:
            return
        if self._table(table) is None:
            self._write(table, rows, predicate=None)
        else:
            self._write(table, rows, predicate=_condition(where))

    def rows(self, table: str, /, **equals: object) -> list[dict[str, object]]:
        """Return the rows whose columns equal ``equals``, oldest first; an absent table has none."""
        opened = self._table(table)
        if opened is None:
            return []
        found = query(opened, f"SELECT * FROM rows{_where(equals)}").to_pylist(maps_as_pydicts="strict")
        return sorted(found, key=lambda row: row["at"])

    def _path(self, table: str) -> str:
        layer, name = split_name(table)
        return f"{self._root}/{layer}/{name}"

    def _table(self, table: str) -> DeltaTable | None:
        path = self._path(table)
        return DeltaTable(path) if DeltaTable.is_deltatable(path) else None

    def _write(self, table: str, rows: Sequence[Row], *, predicate: str | None) -> None:
        schema = OPS_TABLES[table]
        unknown = {name for row in rows for name in row} - set(schema.names)
        if unknown:
            raise ValueError(f"{table} has no column {', '.join(sorted(unknown))}; its columns are {', '.join(schema.names)}")
        now = datetime.now(UTC)
        columns = {name: [row.get(name, now if name == "at" else None) for row in rows] for name in schema.names}
        data = pa.table({name: pa.array(_cells(columns[name]), schema.field(name).type) for name in schema.names}, schema=schema)
        with locked(self._root, table):
            existing = self._table(table)
            # A lake of an earlier version may lack a column that has come since.
            is_older = existing is not None and set(schema.names) > {part.name for part in existing.schema().fields}
            schema_mode: Literal["merge"] | None = "merge" if is_older else None
            if predicate is None:
                write_deltalake(self._path(table), data, mode="append", schema_mode=schema_mode)
            else:
                write_deltalake(self._path(table), data, mode="overwrite", predicate=predicate, schema_mode=schema_mode)


def _cells(values: list[object]) -> list[object]:
    """Return map cells as the list of pairs that Arrow wants; others as they are."""
    return [list(value.items()) if isinstance(value, Mapping) else value for value in values]


def query(table: DeltaTable, sql: str) -> pa.Table:
    """Return what ``sql`` gives over the table, which it calls ``rows``.

    Delta-rs reads by itself here: PyArrow's datasets leave reader threads behind that now and then abort a process which ends soon.
    """
    return pa.table(QueryBuilder().register("rows", table).execute(sql).read_all())


def _where(equals: Mapping[str, object]) -> str:
    return f" WHERE {_condition(equals)}" if equals else ""


def _condition(equals: Mapping[str, object]) -> str:
    return " AND ".join(f'"{name}" = {_literal(value)}' for name, value in equals.items())


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"
