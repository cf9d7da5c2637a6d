"""The adapter to Spark's own parser, which has the last word on what a statement does."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidemill.errors import UsageError
from tidemill.lake.safety import function_reason, table_reason

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


_QUERY_WORDS = """
    Aggregate Distinct Except Filter Generate GlobalLimit Intersect Join LateralJoin LimitAll LocalLimit LocalRelation Offset OneRowRelation
    PipeOperator Pivot Project RelationTimeTravel RepartitionByExpression Sample Sort SubqueryAlias Union UnresolvedHaving UnresolvedHint
    UnresolvedInlineTable UnresolvedQualify UnresolvedRelation UnresolvedSubqueryColumnAliases UnresolvedTVFAliases
    UnresolvedTableValuedFunction UnresolvedWith Unpivot Window WithWindowDefinition
"""
_DESCRIPTION_WORDS = """
    CurrentNamespace$ DescribeColumn DescribeDeltaDetailCommand DescribeDeltaHistory DescribeFunction DescribeNamespace
    DescribeQueryCommand DescribeRelation DescribeRelationJsonCommand ExplainCommand ShowCatalogsCommand ShowColumns ShowCreateTable
    ShowCurrentNamespaceCommand ShowFunctions ShowNamespaces ShowNamespacesCommand ShowPartitions ShowTableProperties ShowTables
    ShowTablesExtended ShowViews UnresolvedFunctionName UnresolvedNamespace UnresolvedTable UnresolvedTableOrView
"""
_QUERY, _DESCRIPTION = frozenset(_QUERY_WORDS.split()), frozenset(_DESCRIPTION_WORDS.split())
_RELATIONS = {
    "UnresolvedRelation": "multipartIdentifier",
    "UnresolvedTable": "multipartIdentifier",
    "UnresolvedTableOrView": "multipartIdentifier",
}
_CALLS = {"UnresolvedFunction": "nameParts", "UnresolvedTableValuedFunction": "name", "UnresolvedGenerator": "name"}
_WORDS = {
    "ScriptTransformation": "TRANSFORM … USING runs a program",
    "UnresolvedPathBasedDeltaTable": "a path is named; SQL reads the lake's tables, such as silver.flights",
    "UnresolvedPathBasedTable": "a path is named; SQL reads the lake's tables, such as silver.flights",
    "PlanWithUnresolvedIdentifier": "IDENTIFIER(…) names a table or function that is known too late",
    "ExpressionWithUnresolvedIdentifier": "IDENTIFIER(…) names a table or function that is known too late",
}
_CATALYST = "org.apache.spark.sql.catalyst"
_BUILTIN = ((), ("builtin",), ("system", "builtin"))


@dataclass(frozen=True)
class Reading:
    """What a statement that only reads is: the root of its plan, the tables it names, and the pattern of SHOW TABLES and SHOW VIEWS."""

    kind: str
    tables: frozenset[tuple[str, ...]]
    pattern: str | None = None
    is_of_all: bool = False

    @property
    def is_description(self) -> bool:
        """True for SHOW, DESCRIBE and EXPLAIN."""
        return self.kind in _DESCRIPTION


def judge(spark: SparkSession, sql: str, paths: Collection[str] = ()) -> Reading | None:
    """Return what the statement reads, as Spark parses it; None where the session does not show its parser (Spark Connect).

    ``paths`` are the Delta tables that it may name by their place.

    Raises:
        UsageError: it would do more than read tables of the lake with Spark's own functions.
        ParseException: Spark cannot parse it.
    """
    session = getattr(spark, "_jsparkSession", None)
    if session is None:
        return None
    root = session.sessionState().sqlParser().parsePlan(sql)
    tables: set[tuple[str, ...]] = set()
    nodes = _Nodes(spark)
    for short, node, is_plan in nodes.walk(root):
        if short in _RELATIONS:
            parts = nodes.texts(getattr(node, _RELATIONS[short])())
            is_placed = len(parts) == 2 and parts[0] == "delta" and parts[1] in paths
            if (reason := table_reason(parts)) and not is_placed:
                raise UsageError(f"{_place(node)}`{'.'.join(parts)}` {reason}")
            if short == "UnresolvedRelation" and not node.options().isEmpty():
                raise UsageError(f"{_place(node)}`{'.'.join(parts)}` is given options; SQL reads the lake's tables as they are")
            tables.add(parts)
        elif short in _CALLS:
            _refuse_call(node, nodes.texts(getattr(node, _CALLS[short])()))
        is_known = not is_plan or short in _QUERY or short in _DESCRIPTION
        if short in _WORDS or not is_known:
            raise UsageError(f"{_place(node)}{_WORDS.get(short) or f'{short} does more than read'}")
    kind = str(root.getClass().getSimpleName())
    if kind not in ("ShowTables", "ShowViews"):
        return Reading(kind, frozenset(tables))
    pattern = root.pattern()
    is_of_all = root.namespace().getClass().getSimpleName() == "CurrentNamespace$"
    return Reading(kind, frozenset(tables), str(pattern.get()) if pattern.isDefined() else None, is_of_all)


def _refuse_call(node: Any, parts: tuple[str, ...]) -> None:
    if tuple(part.lower() for part in parts[:-1]) not in _BUILTIN:
        raise UsageError(f"{_place(node)}`{'.'.join(parts)}` is none of Spark's own functions that only compute")
    if reason := function_reason(parts[-1]):
        raise UsageError(f"{_place(node)}`{parts[-1]}` {reason}")


def _place(node: Any) -> str:
    line, column = node.origin().line(), node.origin().startPosition()
    return f"line {line.get()}, column {column.get() + 1}: " if line.isDefined() and column.isDefined() else ""


class _Nodes:
    """Walks a plan of Catalyst's: every node in it, wherever it stands among the arguments of another."""

    def __init__(self, spark: SparkSession) -> None:
        self._gateway: Any = spark._sc._gateway
        self._kinds: dict[str, str] = {}

    def walk(self, root: Any) -> Iterator[tuple[str, Any, bool]]:
        """Yield, for ``root`` and every node below it, the name of its class, the node, and whether it is a plan (else an expression)."""
        waiting = [root]
        while waiting:
            value = waiting.pop()
            get_class = getattr(value, "getClass", None)  # what is no object of the JVM's is a number, a text or None
            if get_class is None:
                continue
            name = str(get_class().getName())
            if name not in self._kinds:
                self._kinds[name] = self._kind(value, name)
            kind = self._kinds[name]
            if kind in ("plan", "expression"):
                yield name.rpartition(".")[2], value, kind == "plan"
            if kind != "leaf":
                waiting += _elements(value.iterator() if kind == "many" else value.productIterator())

    def texts(self, value: Any) -> tuple[str, ...]:
        """Return the parts of a name: of a sequence of texts, or of a function's identifier."""
        if value.getClass().getSimpleName() == "FunctionIdentifier":
            database = value.database()
            return (*([str(database.get())] if database.isDefined() else []), str(value.funcName()))
        return tuple(str(part) for part in _elements(value.iterator()))

    def _kind(self, value: Any, name: str) -> str:
        from py4j.java_gateway import is_instance_of

        def is_a(of: str) -> bool:
            return bool(is_instance_of(self._gateway, value, of))

        if name.startswith("org.apache.spark.sql.types."):
            return "leaf"
        if is_a(f"{_CATALYST}.trees.TreeNode"):
            return "expression" if is_a(f"{_CATALYST}.expressions.Expression") else "plan"
        if is_a("scala.collection.Iterable"):
            return "many"
        return "some" if is_a("scala.Product") else "leaf"


def _elements(iterator: Any) -> list[Any]:
    elements = []
    while iterator.hasNext():
        elements.append(iterator.next())
    return elements
