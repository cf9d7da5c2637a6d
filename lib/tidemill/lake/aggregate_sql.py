"""Aggregate expressions in SQL, such as custom metrics: split into sums over rows and a formula of the sums; starts no Spark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tidemill.errors import UsageError

METRIC_COLUMNS = ("label", "prediction", "probability", "weight")
"""The columns that custom metrics read besides those of the rows."""
_DIALECT = "databricks"
_ADDITIVE = (exp.Sum, exp.Avg, exp.Count, exp.CountIf)
_FORM = "write an aggregate over rows, such as sum(CASE WHEN prediction AND label THEN 5 ELSE -1 END)"


@dataclass(frozen=True)
class AggregateSql:
    """An aggregate expression.

    ``columns`` are those it reads. Where it consists of ``sum``, ``avg`` and ``count`` alone, ``terms`` are SQL expressions of a row, and
    ``formula`` is the expression with the sum of each term in place of the aggregates, as ``term_0``, ``term_1`` …; both are empty else.
    """

    text: str
    columns: tuple[str, ...]
    terms: tuple[str, ...] = ()
    formula: str = ""

    @property
    def is_additive(self) -> bool:
        """True where it is a formula of sums over rows."""
        return bool(self.terms)


def parse_aggregate(text: str) -> AggregateSql:
    """Parse an aggregate expression.

    Raises:
        UsageError: it does not parse, aggregates nothing, has a query in it, or a column outside of its aggregates.
    """
    try:
        tree = sqlglot.parse_one(text, dialect=_DIALECT)
    except (SqlglotError, RecursionError) as error:
        detail = (getattr(error, "errors", None) or [{}])[0].get("description") or str(error).splitlines()[0]
        raise UsageError(f"{text!r} does not parse: {detail}; {_FORM}") from error
    if tree.find(exp.Query, exp.Window) or isinstance(tree, exp.Alias):
        raise UsageError(f"{text!r} is not one expression over the rows; {_FORM}")
    aggregates = list(_outermost_aggregates(tree))
    # A function that the parser does not know may be an aggregate; a filter and an order belong to one.
    has_foreign = tree.find(exp.Anonymous, exp.AnonymousAggFunc, exp.Filter, exp.WithinGroup) is not None
    if not aggregates and not has_foreign:
        raise UsageError(f"{text!r} aggregates no rows; {_FORM}")
    outside = [node for node in tree.find_all(exp.Column) if not any(_is_below(node, aggregate) for aggregate in aggregates)]
    columns = tuple(dict.fromkeys(node.name for node in tree.find_all(exp.Column)))
    if outside and not has_foreign:
        raise UsageError(f"{text!r}: the column {outside[0].name} is outside of sum(…), avg(…) and count(…); {_FORM}")
    if outside or not all(_is_additive(aggregate) for aggregate in aggregates):
        return AggregateSql(text, columns)
    terms: list[str] = []
    for aggregate in aggregates:
        formula = _replace(aggregate, terms)
        if aggregate is tree:
            tree = formula
        else:
            aggregate.replace(formula)
    return AggregateSql(text, columns, tuple(terms), tree.transform(_divide_safely).sql(_DIALECT))


def _outermost_aggregates(tree: exp.Expr) -> Iterator[exp.Expr]:
    for node in tree.walk(prune=lambda part: isinstance(part, exp.AggFunc)):
        if isinstance(node, exp.AggFunc):
            yield node


def _is_below(node: exp.Expr, ancestor: exp.Expr) -> bool:
    return any(part is node for part in ancestor.walk())


def _is_additive(aggregate: exp.Expr) -> bool:
    is_known = isinstance(aggregate, _ADDITIVE) and not isinstance(aggregate.parent, exp.Filter | exp.WithinGroup)
    return is_known and not any(isinstance(node, exp.Distinct | exp.AggFunc) for node in aggregate.walk() if node is not aggregate)


def _replace(aggregate: exp.Expr, terms: list[str]) -> exp.Expr:
    """Return what stands for an aggregate in the formula; its terms are appended."""
    inner = aggregate.this
    if isinstance(aggregate, exp.CountIf):
        return _add_term(terms, f"CASE WHEN {inner.sql(_DIALECT)} THEN 1 ELSE 0 END")
    if isinstance(aggregate, exp.Count):
        values = [inner, *aggregate.expressions]
        is_there = " AND ".join(f"({value.sql(_DIALECT)}) IS NOT NULL" for value in values if not isinstance(value, exp.Star))
        return _add_term(terms, f"CASE WHEN {is_there} THEN 1 ELSE 0 END" if is_there else "1")
    sql = inner.sql(_DIALECT)
    total = _add_term(terms, f"COALESCE(CAST(({sql}) AS DOUBLE), 0)")
    n = _add_term(terms, f"CASE WHEN ({sql}) IS NOT NULL THEN 1 ELSE 0 END")
    if isinstance(aggregate, exp.Avg):
        return exp.func("try_divide", total, n)
    return exp.Paren(this=exp.Case(ifs=[exp.If(this=exp.GT(this=n, expression=exp.Literal.number(0)), true=total)]))


def _add_term(terms: list[str], sql: str) -> exp.Expr:
    if sql not in terms:
        terms.append(sql)
    return exp.column(f"term_{terms.index(sql)}")


def _divide_safely(node: exp.Expr) -> exp.Expr:
    """Replace a division, which raises for 0 in Spark, by one that gives null."""
    return exp.func("try_divide", node.this, node.expression) if isinstance(node, exp.Div) else node
