"""Numbers that are learnt, kept out of the code that Spark generates of a query.

A literal stands in that code. Queries that differ in a mean alone, as those of the folds do, would be compiled and warmed up by Java one by
one, which takes longer than the folds' rows; columns of a table of one row, which is broadcast, give the same code for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from tidemill.features.names import PREFIX, number
from tidemill.lake.names import quoted

_TABLE = f"{PREFIX}learnt"
# With the rows' own columns more than Spark generates code for (`spark.sql.codegen.maxFields` is 100) are no gain.
_MOST = 66


class Learnt:
    """The numbers of one statement, in the order in which it names them."""

    def __init__(self) -> None:
        """Hold none yet."""
        self._values: list[float] = []

    def number(self, value: float) -> str:
        """Return SQL for ``value`` in a statement of `selected`."""
        self._values.append(value)
        return f"{_TABLE}.{_name(len(self._values) - 1)}"

    @property
    def is_worth_it(self) -> bool:
        """True where there are numbers, and not too many of them."""
        return 0 < len(self._values) <= _MOST

    def beside(self, table: str) -> str:
        """Return SQL for ``table`` with the numbers beside each of its rows."""
        names = ", ".join(map(_name, range(len(self._values))))
        return f"{table} CROSS JOIN VALUES ({', '.join(map(number, self._values))}) AS {_TABLE}({names})"


def selected(columns: Mapping[str, str], table: str, learnt: Learnt | None = None) -> str:
    """Return a statement that adds ``columns`` (name → SQL) to ``table``; ``learnt`` are numbers that they name."""
    listed = "".join(f", {sql} AS {quoted(name)}" for name, sql in columns.items())
    if learnt is None:
        return f"SELECT *{listed} FROM {table}"
    rows = f"{PREFIX}rows"
    return f"SELECT /*+ BROADCAST({_TABLE}) */ {rows}.*{listed} FROM {learnt.beside(f'{table} AS {rows}')}"


def _name(place: int) -> str:
    return f"{PREFIX}learnt_{place}"
