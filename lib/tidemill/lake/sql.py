"""SQL that names tables as ``layer.name``: which tables it reads, and the same SQL with each at a fixed place and version."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tidemill.errors import UsageError
from tidemill.lake.statements import is_keyword, one_statement, quote_names
from tidemill.quoting import LAYERS, quoted

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # what it cannot parse is told by what raises, not by a warning beside it


@lru_cache(maxsize=256)
def parse(sql: str) -> tuple[exp.Expr, str, tuple[int, ...]]:
    """Return the tree of the one statement in ``sql``, the text it stands for, and where that text has characters more than ``sql``.

    Raises:
        UsageError: the SQL does not parse, or is more than one statement.
    """
    text, added = quote_names(one_statement(sql).text)
    try:
        trees = [tree for tree in sqlglot.parse(text, dialect="databricks") if tree is not None and not isinstance(tree, exp.Semicolon)]
    except SqlglotError as error:
        detail = getattr(error, "errors", None) or [{}]
        line, near = detail[0].get("line"), detail[0].get("highlight")
        place = f" at line {line}, near {near!r}" if line else ""
        raise UsageError(f"SQL that does not parse{place}: {detail[0].get('description') or str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise UsageError("SQL that is nested too deeply to be parsed; split it into common table expressions or tables") from error
    if len(trees) != 1:
        raise UsageError(f"expected one SQL statement, found {len(trees)}")
    return trees[0], text, tuple(added)


def _tables(tree: exp.Expr) -> list[exp.Table]:
    return [table for table in tree.find_all(exp.Table) if table.db.lower() in LAYERS]


def is_query(sql: str) -> bool:
    """Return True where ``sql`` only reads (SELECT, WITH, VALUES, set operations)."""
    return isinstance(parse(sql)[0], exp.Query)


def table_names(sql: str) -> frozenset[str]:
    """Return the lake's tables that ``sql`` reads, as ``layer.name``.

    Raises:
        UsageError: the SQL does not parse, or is more than one statement.
    """
    return frozenset(f"{table.db.lower()}.{table.name}" for table in _tables(parse(sql)[0]))


def has_join(sql: str) -> bool:
    """Return True where the query joins tables, or makes several rows of one, so that keys may come to stand in more rows than before."""
    return parse(sql)[0].find(exp.Join, exp.Lateral, exp.Explode, exp.Posexplode) is not None


def with_tables(sql: str, place: Callable[[str], str]) -> str:
    """Return the statement with each ``layer.name`` replaced by ``place("layer.name")``; every other character stays.

    A table without an alias gets its own name as one, so that ``flights.carrier`` still means its column.
    """
    tree, text, _ = parse(sql)
    edits: list[tuple[int, int, str]] = []
    for table in _tables(tree):
        own = quoted(table.name) if is_keyword(table.name) else table.name
        alias = "" if table.alias else f" AS {own}"
        edits.append((_start(table.args["db"]), _end(table.this), place(f"{table.db.lower()}.{table.name}") + alias))
    for column in tree.find_all(exp.Column):
        if column.args.get("db") is not None and column.db.lower() in LAYERS:
            edits.append((_start(column.args["db"]), _start(column.args["table"]), ""))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _start(identifier: exp.Identifier) -> int:
    return int(identifier.meta["start"])


def _end(identifier: exp.Identifier) -> int:
    return int(identifier.meta["end"]) + 1
