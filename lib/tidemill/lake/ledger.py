"""The ledger: the ops tables, appended to and read without Spark, so that asking for states starts no JVM."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from tidemill.errors import LakeError, UsageError
from tidemill.lake.delta_tables import open_if_present, query, to_rows, translate_errors
from tidemill.lake.lake_paths import engine_root
from tidemill.lake.ledger_files import CONFIGURATION, commit_properties, compact_files, last_sequence, remove_expired_files
from tidemill.lake.ops_row import RECORDED_AT, SEQUENCE, OpsRow
from tidemill.quoting import is_local, split_name
from tidemill.redaction import redact
from tidemill.runtime.locks import hold_lock

logger = logging.getLogger(__name__)

Row = TypeVar("Row", bound=OpsRow)
Rows = list[dict[str, Any]]
EMPTY: Mapping[str, object] = MappingProxyType({})

_ATTEMPTS = 100
_LONGEST_PAUSE_S = 0.5

_FREE_TEXT = frozenset({"error", "message", "reason", "sample", "evidence"})
"""Columns of free text, which are redacted. Other columns, such as the path of a file, must not depend on which secrets were looked up."""


class Ledger:
    """The ops tables of the lake at ``root``: rows are appended, never updated; the greatest ``seq`` is current.

    Every row gets the next ``seq`` of its table in a commit that fails when another commit came first, and is then retried: ``seq``
    increases in the order of the commits, whatever the clocks of the writers show.
    """

    def __init__(self, root: str) -> None:
        """Remember where the lake is; nothing is read or written yet."""
        self._root = root.rstrip("/")

    def append(self, rows: Sequence[OpsRow]) -> None:
        """Add rows to their ops table in one commit; without ``recorded_at`` they are recorded now."""
        if rows:
            self._commit(rows[0].TABLE, lambda opened: self._insert(opened, rows, predicate=None))

    def extend(self, row: type[Row], decide: Callable[[list[Row]], Sequence[Row]], /, **equals: object) -> None:
        """Append the rows that ``decide`` returns for the present ones whose columns equal ``equals``, which come oldest first.

        The commit is atomic: when another commit comes first, ``decide`` is called again with the rows as they are then.
        """

        def write(opened: DeltaTable | None) -> str:
            present = to_rows(query(opened, f"SELECT * FROM rows{where_clause(equals)}")) if opened else []
            rows = decide([row.from_cells(cells) for cells in sorted(present, key=_sequence)])
            return self._insert(opened, rows, predicate=None) if rows else ""

        self._commit(row.TABLE, write)

    def put(self, row: type[Row], rows: Sequence[Row], *, where: Mapping[str, str | int]) -> None:
        """Replace the rows whose columns equal ``where`` by ``rows``, which may be none, in one commit: safe to repeat."""
        matching = condition(where)

        def write(opened: DeltaTable | None) -> str:
            if rows:
                return self._insert(opened, rows, predicate=matching if opened else None)
            return f"{_delete(opened, matching)} rows removed" if opened else ""

        self._commit(row.TABLE, write)

    def remove(self, row: type[OpsRow], conditions: Sequence[str]) -> int:
        """Remove the rows for which one of the SQL conditions holds, in one commit; return how many there were."""
        count = 0

        def write(opened: DeltaTable | None) -> str:
            nonlocal count
            count = _delete(opened, any_of(conditions)) if opened else 0
            return f"{count} rows removed"

        if self.count(row, conditions):
            self._commit(row.TABLE, write)
        return count

    def count(self, row: type[OpsRow], conditions: Sequence[str]) -> int:
        """Return for how many rows one of the SQL conditions holds."""
        counted = self.query(row.TABLE, f"SELECT count(*) AS n FROM rows WHERE {any_of(conditions)}") if conditions else []
        return int(counted[0]["n"]) if counted else 0

    def read(self, row: type[Row], /, **equals: object) -> list[Row]:
        """Return the rows whose columns equal ``equals``, oldest first; an absent table has none."""
        return self.select(row, f"SELECT * FROM rows{where_clause(equals)}")

    def read_latest(self, row: type[Row], by: Sequence[str], /, having: Mapping[str, object] = EMPTY, **equals: object) -> list[Row]:
        """Return of the rows whose columns equal ``equals`` the latest one of each group that agrees in the columns ``by``, oldest first.

        With ``having`` only those of them whose columns equal these values, or one of these where it is a tuple.
        """
        groups = ", ".join(f'"{name}"' for name in by)
        latest = f"SELECT max({SEQUENCE}) FROM rows{where_clause(equals)} GROUP BY {groups}"
        selected = f" AND {condition(having)}" if having else ""
        return self.select(row, f"SELECT * FROM rows WHERE {SEQUENCE} IN ({latest}){selected}")

    def select(self, row: type[Row], sql: str) -> list[Row]:
        """Return the rows of the ops table that ``sql`` selects with all their columns from ``rows``, oldest first."""
        return [row.from_cells(cells) for cells in sorted(self.query(row.TABLE, sql), key=_sequence)]

    def rows(self, table: str, /, **equals: object) -> Rows:
        """Return the rows as column → value, as SQL shows them: for output. Code that works with rows calls ``read``."""
        return sorted(self.query(table, f"SELECT * FROM rows{where_clause(equals)}"), key=_sequence)

    def query(self, table: str, sql: str) -> Rows:
        """Return what ``sql`` selects from ``rows``, an ops table, as column → value; an absent table gives none."""
        opened = self._open(table)
        return [] if opened is None else to_rows(query(opened, sql))

    def compact(self, table: str) -> int:
        """Put the small files of an ops table together in one commit; return how many there were, 0 where there is nothing to do."""
        with hold_lock(self._root, table) if is_local(self._root) else nullcontext(), translate_errors(table, self._path(table)):
            opened = self._open(table)
            return 0 if opened is None else self._tidy(table, opened, most=1)

    def refuse_earlier_layout(self) -> None:
        """Refuse a lake that an earlier version of tidemill has written.

        Raises:
            UsageError: its ops tables have no ``seq``.
        """
        for table in ("ops.runs", "ops.steps"):
            self._open(table)

    def _path(self, table: str) -> str:
        layer, name = split_name(table)
        return f"{engine_root(self._root)}/{layer}/{name}"

    def _open(self, table: str) -> DeltaTable | None:
        opened = open_if_present(self._path(table), table)
        if opened is not None and SEQUENCE not in {field.name for field in opened.schema().fields}:
            raise UsageError(
                f"the lake {self._root} was written by an earlier version of tidemill: {table} has no column {SEQUENCE}; "
                "choose another `lake:`, and a run fills it from the sources, or go on with that version"
            )
        return opened

    def _commit(self, table: str, write: Callable[[DeltaTable | None], str]) -> None:
        """Call ``write`` with the table as it is, and again each time another writer committed first.

        It returns what it has done, for the log; nothing where it has committed nothing.

        Raises:
            LakeError: another writer was first each time.
        """
        # The commits decide who was first; the lock saves writers on one machine failed attempts.
        with hold_lock(self._root, table) if is_local(self._root) else nullcontext(), translate_errors(table, self._path(table)):
            for attempt in range(_ATTEMPTS):
                opened = self._open(table)
                try:
                    change = write(opened)
                except DeltaError:
                    if not self._has_moved(table, opened):
                        raise
                    time.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, 0.01 * 2**attempt)))
                else:
                    if change:
                        logger.info("%s: version %d is committed: %s", table, opened.version() if opened else 0, change)
                    if opened is not None:
                        self._tidy(table, opened)
                    return
        raise LakeError(f"{table} of {self._root}: {_ATTEMPTS} times another process committed first; run again when fewer write to it")

    def _tidy(self, table: str, opened: DeltaTable, most: int | None = None) -> int:
        """Put small files together where there are more than ``most``, and remove files that are replaced for long; return how many."""
        compacted = compact_files(opened, most)
        if compacted:
            remove_expired_files(self._root, table, opened)
        return compacted

    def _has_moved(self, table: str, opened: DeltaTable | None) -> bool:
        now = self._open(table)
        return (now and now.version()) != (opened and opened.version())

    def _insert(self, opened: DeltaTable | None, rows: Sequence[OpsRow], predicate: str | None) -> str:
        """Write rows in one commit, in place of those that ``predicate`` selects; return what was done."""
        schema, last = rows[0].arrow_schema(), last_sequence(opened)
        data, properties = _as_arrow(rows, last), commit_properties(last + len(rows))
        if opened is None:
            path = self._path(rows[0].TABLE)
            write_deltalake(path, data, mode="error", configuration=CONFIGURATION, commit_properties=properties)
            return f"{len(rows)} rows added"
        # A lake of an earlier version may lack a column that has come since.
        is_older = set(schema.names) > {part.name for part in opened.schema().fields}
        schema_mode: Literal["merge"] | None = "merge" if is_older else None
        if predicate is None:
            write_deltalake(opened, data, mode="append", schema_mode=schema_mode, commit_properties=properties)
        else:
            write_deltalake(opened, data, mode="overwrite", predicate=predicate, schema_mode=schema_mode, commit_properties=properties)
        return f"{len(rows)} rows {'added' if predicate is None else 'put in place of others'}"


def _delete(opened: DeltaTable, predicate: str) -> int:
    """Remove rows in one commit; return how many there were."""
    return int(opened.delete(predicate, commit_properties=commit_properties(last_sequence(opened)))["num_deleted_rows"] or 0)


def _as_arrow(rows: Sequence[OpsRow], last: int) -> pa.Table:
    """Return the rows with the numbers after ``last`` as ``seq``, and without secrets."""
    schema, now = rows[0].arrow_schema(), datetime.now(UTC)
    columns: dict[str, list[object]] = {name: [_without_secrets(name, getattr(row, name)) for row in rows] for name in schema.names}
    columns[SEQUENCE] = list(range(last + 1, last + len(rows) + 1))
    columns[RECORDED_AT] = [recorded_at or now for recorded_at in columns[RECORDED_AT]]
    return pa.table({name: pa.array(_cells(columns[name]), schema.field(name).type) for name in schema.names}, schema=schema)


def _without_secrets(name: str, cell: object) -> object:
    return redact(cell) if name in _FREE_TEXT and isinstance(cell, str) else cell


def _cells(values: list[object]) -> list[object]:
    """Return map cells as the list of pairs that Arrow wants; others as they are."""
    return [list(value.items()) if isinstance(value, Mapping) else value for value in values]


def _sequence(cells: Mapping[str, object]) -> int:
    return int(str(cells[SEQUENCE]))


def where_clause(equals: Mapping[str, object]) -> str:
    """Return the WHERE clause of ``condition``; empty without any column."""
    return f" WHERE {condition(equals)}" if equals else ""


def any_of(conditions: Sequence[str]) -> str:
    """Return the SQL condition that one of several holds."""
    return " OR ".join(f"({condition})" for condition in conditions)


def condition(equals: Mapping[str, object]) -> str:
    """Return the SQL condition that columns equal values, or one of the values of a tuple."""
    return " AND ".join(
        f'"{name}" IN ({", ".join(map(_literal, value))})' if isinstance(value, tuple) else f'"{name}" = {_literal(value)}'
        for name, value in equals.items()
    )


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"
