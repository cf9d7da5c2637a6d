"""SQL that is row by row over one of its tables, and the same SQL with a column of that table handed through to its result."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.tokens import Token, TokenType  # type: ignore[attr-defined]

from tidemill.lake.sql import parse
from tidemill.quoting import LAYERS, quote_name

_AGGREGATES = re.compile(
    r"any|approx_\w+|bit_(and|or|xor)|bitmap_\w+_agg|bool_(and|or)|collect_(list|set)|count_min_sketch|every|histogram_numeric|"
    r"(hll|kll|theta)_\w*(agg|union)\w*|listagg|(max|min)_by|percentile\w*|regr_\w+|schema_of_\w+_agg|some|std|string_agg|try_(avg|sum)"
)
"""Aggregate functions of Spark that the parser takes for functions of no kind."""


class NotByRowError(ValueError):
    """The result does not come row by row from the table; the message names the obstacle, as the middle of a sentence."""


def add_carrier(sql: str, table: str, carrier: str) -> str:
    """Return ``sql`` with the column ``carrier`` of ``table`` (``layer.name``) among the columns of its result; all else stays.

    The SQL must be row by row over the table: each row of the result comes of one row of it, and of whole other tables.

    Raises:
        NotByRowError: a row of the result may come of several rows of the table, or of none.
        UsageError: the SQL does not parse, or is more than one statement.
    """
    tree, sql, _ = parse(sql)
    carrying = _Carrying(table.lower())
    if not carrying.comes_through(tree, {}):
        raise NotByRowError(f"reads {table}, but no row of its result comes of a row of it")
    places = _select_places(sql)
    edits = {_place_behind(select, places) for select in carrying.lacking}
    for place in sorted(edits, reverse=True):
        sql = f"{sql[:place]} {quote_name(carrier)},{sql[place:]}"
    return sql


_SOME = (
    ("version", "reads it at another version"),
    ("limit", "takes some of its rows (LIMIT)"),
    ("offset", "takes some of its rows (OFFSET)"),
)


class _Carrying:
    """Finds the selects that hand rows of the table on; ``lacking`` are those whose projection does not name the carrier already."""

    def __init__(self, table: str) -> None:
        self._table = table
        self.lacking: list[exp.Select] = []

    def comes_through(self, query: exp.Expr, known: Mapping[str, bool]) -> bool:
        """Return True where the rows of a query come from rows of the table; ``known`` holds the same for the CTEs around it."""
        known = dict(known)
        for cte in getattr(query, "ctes", ()):
            is_carrying = self.comes_through(cte.this, known)
            if is_carrying and (query.args["with_"].args.get("recursive") or cte.args["alias"].args.get("columns")):
                raise NotByRowError(f"reads it in {cte.alias}, a CTE that is recursive or names its columns in brackets")
            known[cte.alias.lower()] = is_carrying
        if isinstance(query, exp.Subquery):
            return self._source(query, known)
        if isinstance(query, exp.SetOperation):
            if any([self.comes_through(query.left, known), self.comes_through(query.right, known)]):
                raise NotByRowError(f"joins its rows with others by {type(query).__name__.upper()}")
            return False
        return self._select(query, known) if isinstance(query, exp.Select) else False

    def _select(self, select: exp.Select, known: Mapping[str, bool]) -> bool:
        first = select.args.get("from_")
        joins = select.args.get("joins") or []
        sources = [*([first.this] if first is not None else []), *(join.this for join in joins)]
        carrying = [self._source(source, known) for source in sources]
        self._refuse_subqueries(select, sources, known)
        if not any(carrying):
            return False
        if sum(carrying) > 1:
            raise NotByRowError("joins its rows with each other")
        _refuse_joins(joins, carrying)
        _refuse_whole(select)
        source = sources[carrying.index(True)]
        if not _has_star(select, source.alias_or_name):
            self.lacking.append(select)
        return True

    def _source(self, source: exp.Expr, known: Mapping[str, bool]) -> bool:
        """Return True where a table, a CTE or a subquery of FROM or JOIN gives rows of the table."""
        if isinstance(source, exp.Table):
            is_carrying = self._is_input(source, known)
        elif isinstance(source, exp.Subquery):
            is_carrying = self.comes_through(source.this, known)
        else:
            if self._reads_input(source, known):
                raise NotByRowError("reads it in another way than FROM or JOIN")
            return False
        if source.args.get("joins") and (is_carrying or any(self._reads_input(join, known) for join in source.args["joins"])):
            raise NotByRowError("joins it within brackets")
        alias = source.args.get("alias")
        for key, what in (("sample", "takes a sample of it"), ("pivots", "pivots it"), *_SOME):
            if is_carrying and source.args.get(key):
                raise NotByRowError(what)
        if is_carrying and alias is not None and alias.args.get("columns"):
            raise NotByRowError("names its columns in brackets")
        return is_carrying

    def _is_input(self, table: exp.Table, known: Mapping[str, bool]) -> bool:
        if table.db.lower() in LAYERS:
            return f"{table.db}.{table.name}".lower() == self._table
        return not table.db and known.get(table.name.lower(), False)

    def _reads_input(self, node: exp.Expr, known: Mapping[str, bool]) -> bool:
        return any(self._is_input(table, known) for table in node.find_all(exp.Table))

    def _refuse_subqueries(self, select: exp.Select, sources: list[exp.Expr], known: Mapping[str, bool]) -> None:
        """Refuse a subquery outside of FROM that looks at the table: there it would see the new rows alone."""
        apart = {id(source) for source in sources}
        for key, value in select.args.items():
            if key in ("with_", "from_"):
                continue
            for node in value if isinstance(value, list) else [value]:
                if isinstance(node, exp.Expr) and any(
                    self._reads_input(query, known) for query in _queries(node) if id(query) not in apart
                ):
                    raise NotByRowError("asks all of its rows in a subquery")


def _queries(node: exp.Expr) -> Iterator[exp.Expr]:
    """Yield the outermost queries below a node that is no source itself."""
    inner = [node.args["on"]] if isinstance(node, exp.Join) and node.args.get("on") is not None else []
    for start in inner if isinstance(node, exp.Join) else [node]:
        yield from (each for each in start.walk(prune=lambda each: isinstance(each, exp.Query)) if isinstance(each, exp.Query))


def _refuse_joins(joins: list[exp.Join], carrying: list[bool]) -> None:
    """Refuse a join that gives rows without a row of the table; ``carrying``: whether FROM and then each join contains the table."""
    at = carrying.index(True)
    for place, join in enumerate(joins, start=1):
        side = join.side.upper()
        if place < at:
            continue
        optional = "RIGHT" if place > at else "LEFT"
        is_other_side = place == at and join.kind.upper() in ("SEMI", "ANTI")
        if side in (optional, "FULL") or is_other_side:
            raise NotByRowError(
                f"joins it on the side of a {' '.join(part for part in (side, join.kind.upper()) if part)} JOIN that may be missing"
            )


def _refuse_whole(select: exp.Select) -> None:
    """Refuse what looks at several rows at once."""
    for key, what in _WHOLE.items():
        if select.args.get(key):
            raise NotByRowError(what)
    for key, value in select.args.items():
        if key in ("with_", "from_", "joins"):
            continue
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, exp.Expr):
                _refuse_functions(part)


_WHOLE = {
    "distinct": "leaves out repeated rows (DISTINCT)",
    "group": "makes groups of its rows (GROUP BY)",
    "having": "makes groups of its rows (HAVING)",
    "qualify": "compares its rows with each other (QUALIFY)",
    "limit": "takes some of its rows (LIMIT)",
    "offset": "takes some of its rows (OFFSET)",
    "fetch": "takes some of its rows (FETCH)",
    "sample": "takes a sample of its rows",
    "windows": "compares its rows with each other (WINDOW)",
}


def _refuse_functions(part: exp.Expr) -> None:
    for node in part.walk(prune=lambda each: isinstance(each, exp.Query)):
        if isinstance(node, exp.Window):
            raise NotByRowError("compares its rows with each other (a window function)")
        is_unknown = isinstance(node, exp.Anonymous) and bool(_AGGREGATES.fullmatch(node.name.lower()))
        if isinstance(node, exp.AggFunc) or is_unknown:
            name = node.name if isinstance(node, exp.Anonymous) else type(node).__name__
            raise NotByRowError(f"makes one row of several (the aggregate {name.lower()})")


def _has_star(select: exp.Select, name: str) -> bool:
    """Return True where the projection takes all columns of the source of that name."""
    for part in select.expressions:
        if isinstance(part, exp.Star):
            return True
        if isinstance(part, exp.Column) and isinstance(part.this, exp.Star) and part.table.lower() == name.lower():
            return True
    return False


@dataclass(frozen=True)
class _SelectPlace:
    """The position of a SELECT in the text: from its keyword to its closing bracket; ``behind`` is where its first column may begin."""

    start: int
    end: int
    behind: int


def _select_places(sql: str) -> list[_SelectPlace]:
    tokens = sqlglot.tokenize(sql, dialect="databricks")
    places: list[_SelectPlace] = []
    open_selects: list[list[tuple[int, int]]] = [[]]
    for number, token in enumerate(tokens):
        if token.token_type == TokenType.L_PAREN:
            open_selects.append([])
        elif token.token_type == TokenType.R_PAREN and len(open_selects) > 1:
            places += [_SelectPlace(start, token.start, behind) for start, behind in open_selects.pop()]
        elif token.token_type == TokenType.SELECT:
            open_selects[-1].append((token.start, _behind(tokens, number)))
    return places + [_SelectPlace(start, len(sql), behind) for level in open_selects for start, behind in level]


def _behind(tokens: list[Token], number: int) -> int:
    while number + 1 < len(tokens) and tokens[number + 1].token_type in (TokenType.HINT, TokenType.ALL):
        number += 1
    return int(tokens[number].end) + 1


def _place_behind(select: exp.Select, places: list[_SelectPlace]) -> int:
    """Return where the columns of a select begin: of the innermost SELECT around a name that is its own."""
    parts = [*select.expressions, select.args["from_"]]
    names = [name for part in parts for name in part.find_all(exp.Identifier) if name.find_ancestor(exp.Select) is select]
    starts = [int(name.meta["start"]) for name in names if "start" in name.meta]
    around = [place for place in places if starts and place.start < starts[0] < place.end]
    if not around:
        raise NotByRowError("cannot be read closely enough to follow a row through it")
    return max(around, key=lambda place: place.start).behind
