"""Numbers that are learnt, kept out of the code that Spark generates of a query.

A literal stands in that code. Queries that differ in a mean alone, as those of the folds do, would be compiled and warmed up by Java one by
one, which takes longer than the folds' rows; columns of a table of one row, which is broadcast, give the same code for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from tidemill.features.names import number
from tidemill.lake.names import quoted

_TABLE = "_learnt"
# Code with more numbers than this is too long to be compiled anyway.
_MOST = 250


class Learnt:
    """The numbers of one statement, in the order in which it names them."""

    def __init__(self) -> None:
        """Hold none yet."""
        self._values: list[float] = []

    def number(self, value: float) -> str:
        """Return SQL for ``value`` in a statement of `selected`."""
        self._values.append(value)
        return f"{_TABLE}.n{len(self._values) - 1}" if len(self._values) <= _MOST else number(value)

    def beside(self, table: str) -> str:
        """Return SQL for ``table`` with the numbers beside each of its rows; itself where there are none."""
        held = self._values[:_MOST]
        names = ", ".join(f"n{place}" for place in range(len(held)))
        return f"{table} CROSS JOIN VALUES ({', '.join(map(number, held))}) AS {_TABLE}({names})" if held else table


def selected(columns: Mapping[str, str], table: str, learnt: Learnt | None = None) -> str:
    """Return a statement that adds ``columns`` (name → SQL) to ``table``; ``learnt`` are numbers that they name."""
    listed = "".join(f", {sql} AS {quoted(name)}" for name, sql in columns.items())
    if learnt is None:
        return f"SELECT *{listed} FROM {table}"
    return f"SELECT /*+ BROADCAST({_TABLE}) */ _rows.*{listed} FROM {learnt.beside(f'{table} AS _rows')}"
