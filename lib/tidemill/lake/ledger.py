"""The ledger: the ops tables, appended to and read without Spark, so that asking for states starts no JVM."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Literal, TypeVar

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Transaction, write_deltalake
from deltalake.exceptions import DeltaError

from tidemill.errors import LakeError, UsageError
from tidemill.lake.delta_log import engine_root, has_table, open_table, translate_errors
from tidemill.lake.ops_row import RECORDED_AT, SEQUENCE, OpsRow
from tidemill.quoting import is_local, split_name
from tidemill.redaction import redact
from tidemill.runtime.locks import hold_lock

logger = logging.getLogger(__name__)

Row = TypeVar("Row", bound=OpsRow)
Rows = list[dict[str, object]]

# Under this app id Delta's log keeps the last ``seq`` of an ops table, in the same commit as the rows that have it.
_SEQUENCE_APP = "tidemill/seq"
_ATTEMPTS = 100
_LONGEST_PAUSE_S = 0.5

# Each append leaves a small file and an entry in the log, and every reader reads all of them.
_MOST_SMALL_FILES = 16
_FULL_FILE_BYTES = 2 << 20

_FREE_TEXT = frozenset({"error", "message", "reason", "sample", "evidence"})
"""Columns that hold what others said; no other one, such as the path that a file is known by, may depend on secrets that were looked up."""


class Ledger:
    """The ops tables of the lake at ``root``: rows are appended, never updated; the greatest ``seq`` is current.

    Every row gets the next ``seq`` of its table from a commit that fails when the table's version has moved since, and is then made
    anew: ``seq`` increases in the order of the commits, whatever the clocks of the writers say.
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

        No other commit comes between: where one does, ``decide`` is asked again with the rows as they are then.
        """

        def write(opened: DeltaTable | None) -> None:
            rows = decide([row.from_cells(cells) for cells in _select(opened, equals)])
            if rows:
                self._insert(opened, rows, predicate=None)

        self._commit(row.TABLE, write)

    def put(self, row: type[Row], rows: Sequence[Row], *, where: Mapping[str, str | int]) -> None:
        """Replace the rows whose columns equal ``where`` by ``rows``, which may be none, in one commit: safe to repeat."""
        condition = _condition(where)

        def write(opened: DeltaTable | None) -> None:
            if rows:
                self._insert(opened, rows, predicate=condition if opened else None)
            elif opened:
                opened.delete(condition, commit_properties=_properties(_last_sequence(opened)))

        self._commit(row.TABLE, write)

    def read(self, row: type[Row], /, **equals: object) -> list[Row]:
        """Return the rows whose columns equal ``equals``, oldest first; an absent table has none."""
        return [row.from_cells(cells) for cells in self.rows(row.TABLE, **equals)]

    def rows(self, table: str, /, **equals: object) -> Rows:
        """Return the rows as column → value, as SQL shows them: for output. Code that works with rows calls ``read``."""
        return _select(self._open(table), equals)

    def compact(self, table: str) -> int:
        """Put the small files of an ops table together in one commit; return how many there were, 0 where there is nothing to do."""
        with hold_lock(self._root, table) if is_local(self._root) else nullcontext(), translate_errors(table, self._path(table)):
            opened = self._open(table)
            return 0 if opened is None else _compact(opened, most=1)

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
        path = self._path(table)
        if not has_table(path):
            return None
        opened = open_table(path, table)
        if SEQUENCE not in {field.name for field in opened.schema().fields}:
            raise UsageError(
                f"the lake {self._root} was written by an earlier version of tidemill: {table} has no column {SEQUENCE}; "
                "choose another `lake:`, and a run fills it from the sources, or go on with that version"
            )
        return opened

    def _commit(self, table: str, write: Callable[[DeltaTable | None], None]) -> None:
        """Let ``write`` commit to the table as it is, again and again where another writer was faster.

        Raises:
            LakeError: others were faster each time.
        """
        # The commits themselves decide who was first; a lock spares writers of one machine their attempts.
        with hold_lock(self._root, table) if is_local(self._root) else nullcontext(), translate_errors(table, self._path(table)):
            for attempt in range(_ATTEMPTS):
                opened = self._open(table)
                try:
                    write(opened)
                except DeltaError:
                    if not self._has_moved(table, opened):
                        raise
                    time.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, 0.01 * 2**attempt)))
                else:
                    logger.debug("%s: rows are committed", table)
                    if opened is not None:
                        _compact(opened)
                    return
        raise LakeError(f"{table} of {self._root}: {_ATTEMPTS} times another process committed first; run again when fewer write to it")

    def _has_moved(self, table: str, opened: DeltaTable | None) -> bool:
        now = self._open(table)
        return (now and now.version()) != (opened and opened.version())

    def _insert(self, opened: DeltaTable | None, rows: Sequence[OpsRow], predicate: str | None) -> None:
        schema, last = rows[0].arrow_schema(), _last_sequence(opened)
        data, properties = _as_arrow(rows, last), _properties(last + len(rows))
        if opened is None:
            write_deltalake(self._path(rows[0].TABLE), data, mode="error", commit_properties=properties)
            return
        # A lake of an earlier version may lack a column that has come since.
        is_older = set(schema.names) > {part.name for part in opened.schema().fields}
        schema_mode: Literal["merge"] | None = "merge" if is_older else None
        if predicate is None:
            write_deltalake(opened, data, mode="append", schema_mode=schema_mode, commit_properties=properties)
        else:
            write_deltalake(opened, data, mode="overwrite", predicate=predicate, schema_mode=schema_mode, commit_properties=properties)


def query(table: DeltaTable, sql: str) -> pa.Table:
    """Return what ``sql`` gives over the table, which it calls ``rows``.

    Delta-rs reads by itself here: PyArrow's datasets leave reader threads behind that now and then abort a process which ends soon.
    """
    with translate_errors(str(table.table_uri)):
        return pa.table(QueryBuilder().register("rows", table).execute(sql).read_all())


def _compact(table: DeltaTable, most: int | None = None) -> int:
    """Put small files together and write a checkpoint, where there are more than ``most``; return how many there were.

    The old files stay for those who read them just now.

    Not with Delta-rs' own `optimize`: of two at once, the second adds the same rows again. This is a commit like any other, which fails
    when the table's version has moved.
    """
    files = pa.table(table.get_add_actions(flatten=True)).select(["size_bytes", f"max.{SEQUENCE}"]).to_pylist()
    small = sum(file["size_bytes"] < _FULL_FILE_BYTES for file in files)
    if small <= (_MOST_SMALL_FILES if most is None else most):
        return 0
    settled = max((file[f"max.{SEQUENCE}"] for file in files if file["size_bytes"] >= _FULL_FILE_BYTES), default=0)
    recent = f"{SEQUENCE} > {settled}"
    rows = query(table, f"SELECT * FROM rows WHERE {recent} ORDER BY {SEQUENCE}")
    try:
        write_deltalake(table, rows, mode="overwrite", predicate=recent, commit_properties=_properties(_last_sequence(table)))
        table.create_checkpoint()
    except DeltaError as error:  # another writer was faster; the rows are there, and the next append tries again
        logger.info("%s was not compacted: %s", table.table_uri, error)
        return 0
    logger.debug("%s: %d small files are put together", table.table_uri, small)
    return small


def _select(table: DeltaTable | None, equals: Mapping[str, object]) -> Rows:
    if table is None:
        return []
    where = f" WHERE {_condition(equals)}" if equals else ""
    rows: Rows = query(table, f"SELECT * FROM rows{where}").to_pylist(maps_as_pydicts="strict")
    return sorted(rows, key=lambda row: int(str(row[SEQUENCE])))


def _as_arrow(rows: Sequence[OpsRow], last: int) -> pa.Table:
    """Return the rows with the numbers behind ``last`` as ``seq``, and free of secrets."""
    schema, now = rows[0].arrow_schema(), datetime.now(UTC)
    columns: dict[str, list[object]] = {name: [_without_secrets(name, getattr(row, name)) for row in rows] for name in schema.names}
    columns[SEQUENCE] = list(range(last + 1, last + len(rows) + 1))
    columns[RECORDED_AT] = [recorded_at or now for recorded_at in columns[RECORDED_AT]]
    return pa.table({name: pa.array(_cells(columns[name]), schema.field(name).type) for name in schema.names}, schema=schema)


def _without_secrets(name: str, cell: object) -> object:
    return redact(cell) if name in _FREE_TEXT and isinstance(cell, str) else cell


def _last_sequence(table: DeltaTable | None) -> int:
    """Return the last ``seq`` that was given out, also where its row is gone."""
    if table is None:
        return 0
    last = table.transaction_version(_SEQUENCE_APP)
    if last is None:  # the log was made anew by another tool
        last = query(table, f"SELECT max({SEQUENCE}) AS last FROM rows")["last"][0].as_py()
    return int(last or 0)


def _properties(last: int) -> CommitProperties:
    """Return what makes a commit fail where the table's version has moved; ``last`` is the last ``seq`` that it gives out."""
    return CommitProperties(max_commit_retries=0, app_transactions=[Transaction(_SEQUENCE_APP, last)])


def _cells(values: list[object]) -> list[object]:
    """Return map cells as the list of pairs that Arrow wants; others as they are."""
    return [list(value.items()) if isinstance(value, Mapping) else value for value in values]


def _condition(equals: Mapping[str, object]) -> str:
    return " AND ".join(f'"{name}" = {_literal(value)}' for name, value in equals.items())


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"
