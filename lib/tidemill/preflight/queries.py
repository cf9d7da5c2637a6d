"""The columns of a query: those it returns, and unknown ones that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tidemill.preflight.expression_types import expression_type

Columns = Mapping[str, exp.DataType | None]
"""Columns by name, each with its type if known."""
Tables = Callable[[str], Columns | None]
"""Returns the columns of ``layer.name``, None if they are not known."""

# Functions without brackets, and units of functions, which the parser reads as columns.
_KEYWORDS = frozenset(
    {"current_user", "session_user", "user", "current_catalog", "current_database", "current_schema", "current_timezone", "localtimestamp",
     "current_time", "current_date", "current_timestamp", "_metadata", "all"}
)  # fmt: skip
_UNITS = frozenset(
    {"year", "yearofweek", "quarter", "month", "week", "day", "days", "dayofweek", "dayofweek_iso", "dow", "doy", "dayofyear", "hour",
     "minute", "second", "millisecond", "microsecond", "nanosecond", "decade", "century", "millennium", "epoch", "timezone"}
)  # fmt: skip


@dataclass(frozen=True)
class UnknownColumn:
    """A column that a query names and none of its tables has: its offset in the text, and the known columns."""

    name: str
    start: int
    known: tuple[str, ...]


def resolve_query(sql: str, tables: Tables) -> tuple[Columns | None, list[UnknownColumn]]:
    """Return the columns of a query's result, None if they are not known, and the unknown columns that it names."""
    try:
        tree = sqlglot.parse_one(sql, dialect="databricks")
        resolver = _Resolver(tables)
        columns = None if "|>" in sql else resolver.output(tree, {}, ())
    except (SqlglotError, RecursionError):
        return None, []
    return columns, [] if "|>" in sql else resolver.unknown


def resolve_condition(sql: str, columns: Columns) -> list[UnknownColumn]:
    """Return the unknown columns that a condition or an expression over one table names."""
    try:
        tree = sqlglot.parse_one(sql, dialect="databricks")
    except (SqlglotError, RecursionError):
        return []
    resolver = _Resolver(lambda _: None)
    resolver.check([tree], _Scope({"": columns}), ())
    return resolver.unknown


@dataclass(frozen=True)
class _Scope:
    """The tables of one SELECT by the prefix of their columns, in lower case; None: columns not known.

    Of two tables of one name (``bronze.x`` and ``silver.x``), the second one's name has a space and a number appended.
    """

    sources: Mapping[str, Columns | None]
    aliases: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_known(self) -> bool:
        return all(columns is not None for columns in self.sources.values())

    def tables_named(self, name: str) -> Mapping[str, Columns | None]:
        """Return the tables of this name."""
        return {key: columns for key, columns in self.sources.items() if key.partition(" ")[0] == name.lower()}

    def types_of(self, name: str) -> Iterator[exp.DataType | None]:
        """Yield the types of the columns of this name."""
        for columns in self.sources.values():
            yield from (kind for other, kind in (columns or {}).items() if other.lower() == name.lower())

    def type_of(self, column: exp.Column) -> exp.DataType | None:
        """Return the type of a column, None if it is unknown or ambiguous."""
        if column.args.get("db") is not None or not self.is_known:
            return None
        scope = _Scope(self.tables_named(column.table)) if column.table else self
        kinds = list(scope.types_of(column.name))
        return kinds[0] if len(kinds) == 1 else None


class _Resolver:
    """One walk through a query; ``unknown`` collects the unknown columns."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.unknown: list[UnknownColumn] = []

    def output(self, query: exp.Expr, ctes: Mapping[str, Columns | None], outer: tuple[_Scope, ...]) -> Columns | None:
        """Return the columns of a query's result, and check the columns in it."""
        ctes = self._with_ctes(query, ctes, outer)
        if isinstance(query, exp.Subquery):
            columns = self.output(query.this, ctes, outer)
            return None if query.args.get("pivots") else _apply_alias(columns, query)
        if isinstance(query, exp.SetOperation):
            sides = [self.output(side, ctes, outer) for side in (query.left, query.right)]
            return None if query.args.get("by_name") else _union_columns(*sides)
        return self._select(query, ctes, outer) if isinstance(query, exp.Select) else None

    def check(
        self, parts: Sequence[object], scope: _Scope, outer: tuple[_Scope, ...], ctes: Mapping[str, Columns | None] | None = None
    ) -> None:
        """Check the columns of expressions and of their subqueries."""
        for part in parts:
            if isinstance(part, list):
                self.check(part, scope, outer, ctes)
            elif isinstance(part, exp.Query):
                self.output(part, ctes or {}, (scope, *outer))
            elif isinstance(part, exp.Column):
                self._check_column(part, (scope, *outer))
            elif isinstance(part, exp.Expr):
                self.check(list(part.args.values()), scope, outer, ctes)

    def _with_ctes(self, query: exp.Expr, ctes: Mapping[str, Columns | None], outer: tuple[_Scope, ...]) -> Mapping[str, Columns | None]:
        block = query.args.get("with_")
        if block is None:
            return ctes
        known = dict(ctes)
        for cte in block.expressions:
            if block.args.get("recursive"):
                known[cte.alias.lower()] = None
            columns = self.output(cte.this, known, outer)
            known[cte.alias.lower()] = None if block.args.get("recursive") else _apply_alias(columns, cte)
        return known

    def _select(self, select: exp.Select, ctes: Mapping[str, Columns | None], outer: tuple[_Scope, ...]) -> Columns | None:
        sources: dict[str, Columns | None] = {}
        visible: list[str] = []  # the tables that `*` expands to
        start = select.args.get("from_")
        joins = select.args.get("joins") or []
        parts = [(start.this, "")] if start is not None else []
        parts += [(join.this, str(join.kind).upper()) for join in joins]
        for place, (part, kind) in enumerate(parts):
            name, columns = self._source(part, ctes, outer, _Scope(dict(sources)))
            key = name if name and name not in sources else f"{name} {place}"
            sources[key] = columns
            if kind not in ("SEMI", "ANTI"):
                visible.append(key)
            for lateral in part.args.get("laterals") or [] if isinstance(part, exp.Expr) else []:
                visible += self._lateral_view(lateral, sources, outer, ctes)
        for lateral in select.args.get("laterals") or []:
            visible += self._lateral_view(lateral, sources, outer, ctes)
        aliases = frozenset(name.lower() for each in select.expressions for name in _output_names(each))
        inner, full = _Scope(sources), _Scope(sources, aliases)
        rest = [value for key, value in select.args.items() if key not in ("expressions", "from_", "joins", "laterals", "with_", "where")]
        self.check([join.args.get("on") for join in joins], inner, outer, ctes)
        self.check([select.args.get("where")], inner, outer, ctes)
        self.check([*select.expressions, *rest], full, outer, ctes)
        self._check_using(joins, sources)
        merged = {name.name.lower() for join in joins for name in join.args.get("using") or []}
        is_natural = any(join.args.get("method") == "NATURAL" for join in joins)
        shown = _drop_merged_columns({name: sources[name] for name in visible}, merged, is_natural=is_natural)
        if merged or is_natural:  # a merged column may have the type of either side
            shown = {name: None if columns is None else dict.fromkeys(columns) for name, columns in shown.items()}
        return _project(select.expressions, shown, inner)

    def _check_using(self, joins: Sequence[exp.Join], sources: Mapping[str, Columns | None]) -> None:
        if any(columns is None for columns in sources.values()):
            return
        known = {name.lower() for columns in sources.values() for name in columns or {}}
        for name in (name for join in joins for name in join.args.get("using") or []):
            if isinstance(name, exp.Identifier) and name.name.lower() not in known:
                self._report(name, [_Scope(sources)])

    def _source(
        self, part: exp.Expr, ctes: Mapping[str, Columns | None], outer: tuple[_Scope, ...], before: _Scope
    ) -> tuple[str, Columns | None]:
        """Return the name and the columns of a source in FROM or JOIN."""
        name = (part.alias or part.name if isinstance(part, exp.Table) else part.alias_or_name).lower()
        columns: Columns | None = None
        if isinstance(part, exp.Table) and isinstance(part.this, exp.Identifier):
            is_cte = not part.db and part.name.lower() in ctes
            columns = ctes[part.name.lower()] if is_cte else self.tables(f"{part.db.lower()}.{part.name}") if part.db else None
        elif isinstance(part, exp.Subquery):
            columns = self.output(part.this, self._with_ctes(part, ctes, outer), outer) if isinstance(part.this, exp.Query) else None
        elif isinstance(part, exp.Lateral):
            self.check([part.this], before, outer, ctes)
        elif isinstance(part, exp.Values) and part.alias_column_names:
            columns = dict.fromkeys(part.alias_column_names)
            return name, columns
        if part.args.get("pivots") or part.args.get("joins"):
            return name, None
        return name, _apply_alias(columns, part)

    def _lateral_view(
        self, lateral: exp.Expr, sources: dict[str, Columns | None], outer: tuple[_Scope, ...], ctes: Mapping[str, Columns | None]
    ) -> list[str]:
        self.check([lateral.this], _Scope(dict(sources)), outer, ctes)
        name = lateral.alias.lower() or f" lateral {len(sources)}"
        names = lateral.args["alias"].columns if lateral.args.get("alias") else []
        sources[name] = {each.name: None for each in names} if names else None
        return [name]

    def _check_column(self, column: exp.Column, scopes: Sequence[_Scope]) -> None:
        if isinstance(column.this, exp.Star):
            return
        parts = [part for part in (column.args.get(key) for key in ("catalog", "db", "table", "this")) if part is not None]
        first = parts[0]
        name = first.name.lower()
        if not isinstance(first, exp.Identifier) or name in _KEYWORDS or (name in _UNITS and isinstance(column.parent, exp.Func)):
            return
        if not any(_resolves(parts, scope) for scope in scopes) and all(scope.is_known for scope in scopes):
            self._report(first if len(parts) == 1 else column.this, scopes)

    def _report(self, name: exp.Identifier, scopes: Sequence[_Scope]) -> None:
        start = name.meta.get("start")
        known = tuple(dict.fromkeys(other for scope in scopes for columns in scope.sources.values() for other in columns or {}))
        if start is not None and known:
            self.unknown.append(UnknownColumn(name.name, int(start), known))


def _resolves(parts: Sequence[exp.Expr], scope: _Scope) -> bool:
    """Return True if these parts may name a column, with or without its table, or a field of a struct."""
    names = [part.name for part in parts]
    if names[0].lower() in scope.aliases:
        return True
    for first in range(min(len(names), 3)):  # how many parts name the table
        of_table = _Scope(scope.tables_named(names[first - 1])) if first else scope
        if not of_table.sources:
            continue
        if not of_table.is_known or (first == len(names)):
            return True
        if any(_has_field(kind, names[first + 1 :]) for kind in of_table.types_of(names[first])):
            return True
    return False


def _has_field(kind: exp.DataType | None, names: Sequence[str]) -> bool:
    """Return False only if the type is known not to have the field."""
    if not names or kind is None or kind.this != exp.DataType.Type.STRUCT:
        return True
    fields = {part.name.lower(): part.args.get("kind") for part in kind.expressions if isinstance(part, exp.ColumnDef)}
    return names[0].lower() in fields and _has_field(fields[names[0].lower()], names[1:]) if fields else True


def _union_columns(left: Columns | None, right: Columns | None) -> Columns | None:
    """Return the columns of a UNION: the names of the left side, and the types that both sides have."""
    if left is None:
        return None
    others = list((right or {}).values())
    if len(others) != len(left):
        return dict.fromkeys(left)
    return {name: kind if kind == other else None for (name, kind), other in zip(left.items(), others, strict=True)}


def _drop_merged_columns(sources: Mapping[str, Columns | None], merged: set[str], *, is_natural: bool) -> dict[str, Columns | None]:
    """Return the tables without the columns that a join merges into those of an earlier table."""
    earlier: set[str] = set()
    remaining: dict[str, Columns | None] = {}
    for name, columns in sources.items():
        lower = {column.lower() for column in columns or {}}
        gone = (lower if is_natural else lower & merged) & earlier
        remaining[name] = None if columns is None else {column: kind for column, kind in columns.items() if column.lower() not in gone}
        earlier |= lower
    return remaining


def _apply_alias(columns: Columns | None, part: exp.Expr) -> Columns | None:
    """Return columns under the names that an alias such as ``t(a, b)`` gives them."""
    alias = part.args.get("alias")
    names = [each.name for each in alias.columns] if isinstance(alias, exp.TableAlias) else []
    if not names or columns is None:
        return dict.fromkeys(names) if names else columns
    return dict(zip(names, columns.values(), strict=True)) if len(names) == len(columns) else None


def _output_names(part: exp.Expr) -> list[str]:
    """Return the aliases of a SELECT expression."""
    if isinstance(part, exp.Aliases):
        return [each.name for each in part.expressions]
    return [part.alias] if isinstance(part, exp.Alias) else []


def _project(expressions: Sequence[exp.Expr], sources: Mapping[str, Columns | None], scope: _Scope) -> Columns | None:
    """Return the columns that a SELECT returns."""
    projected: dict[str, exp.DataType | None] = {}
    for part in expressions:
        star = part if isinstance(part, exp.Star) else part.this if isinstance(part, exp.Column) else None
        if isinstance(star, exp.Star):
            chosen = scope.tables_named(part.table) or {"": None} if isinstance(part, exp.Column) else sources
            columns = _expand_star(star, chosen)
            if columns is None:
                return None
            projected |= columns
        elif names := _output_names(part):
            kind = expression_type(part.this, scope.type_of) if isinstance(part, exp.Alias) else None
            projected |= dict.fromkeys(names, kind)
        elif isinstance(part, exp.Column | exp.Dot):
            projected[part.name] = scope.type_of(part) if isinstance(part, exp.Column) else None
        else:
            return None  # Spark gives it a name of its own
    return projected


def _expand_star(star: exp.Star, sources: Mapping[str, Columns | None]) -> Columns | None:
    if star.args.get("rename") or any(columns is None for columns in sources.values()):
        return None
    left_out = {part.name.lower() for part in star.args.get("except_") or []}
    columns = {name: kind for each in sources.values() for name, kind in (each or {}).items() if name.lower() not in left_out}
    replaced = {part.alias.lower() for part in star.args.get("replace") or []}
    return {name: None if name.lower() in replaced else kind for name, kind in columns.items()}
