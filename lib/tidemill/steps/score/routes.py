"""Routes of input rows to the model: the nodes that they can pass one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tidemill.lake.row_sql import NotByRowError, add_carrier
from tidemill.spec.loading.table_inputs import SESSION, function_arguments

if TYPE_CHECKING:
    from tidemill.spec import Spec


CARRIER = "_tidemill_row"
"""The column that identifies an input row; users' columns must not have this name."""

DATASET, SCORING = "dataset", "scoring"


@dataclass(frozen=True)
class Route:
    """The nodes (``silver.<table>``, ``dataset``, ``scoring``) that rows of a table pass to the model, in order.

    ``fault`` is the reason why a row cannot pass one of them alone; empty where it can.
    """

    nodes: tuple[str, ...]
    fault: str = ""

    @property
    def goal(self) -> str:
        """The last node."""
        return self.nodes[-1]


def find_routes(spec: Spec) -> dict[str, Route]:
    """Return the route to the model of each table: by ``scoring``, where it is declared, else by the dataset."""
    routes = _Routes(spec)
    routes_by_table: dict[str, Route] = {}
    for goal in _list_goals(spec):
        for table, route in routes.into(goal).items():
            if table not in routes_by_table or (routes_by_table[table].fault and not route.fault):
                routes_by_table[table] = route
    return routes_by_table


def node_name(spec: Spec, node: str) -> str:
    """Return the name of a node for messages: its table, and its file or function."""
    table = spec.pipeline.tables.get(node.partition(".")[2])
    block = spec.pipeline.scoring if node == SCORING else spec.pipeline.dataset if node == DATASET else table
    text = getattr(block, "python", None) or getattr(block, "sql", None) or ""
    is_file = text and not any(character.isspace() for character in text.strip())
    return f"{node} ({text})" if is_file else node


def _list_goals(spec: Spec) -> tuple[str, ...]:
    scoring = spec.pipeline.scoring
    is_declared = scoring.sql is not None or scoring.from_ is not None
    return (SCORING, DATASET) if is_declared and spec.pipeline.dataset_table not in spec.scoring_inputs() else (DATASET,)


class _Routes:
    """The routes into each node, each computed once."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._routes_by_node: dict[str, dict[str, Route]] = {}

    def into(self, node: str) -> dict[str, Route]:
        """Return the route into ``node`` of each table that it reads, directly or through others."""
        if node not in self._routes_by_node:
            self._routes_by_node[node] = self._find_into(node)
        return self._routes_by_node[node]

    def _find_into(self, node: str) -> dict[str, Route]:
        reads = self._read_tables(node)
        routes_by_place: dict[str, list[tuple[str, Route]]] = {}
        for table, fault in reads.items():
            routes_by_place.setdefault(table, []).append((table, Route((node,), fault)))
            for place, route in self._routes_above(table).items():
                routes_by_place.setdefault(place, []).append((table, Route((*route.nodes, node), route.fault or fault)))
        return {place: self._select_only(node, place, routes, reads) for place, routes in routes_by_place.items()}

    def _select_only(self, node: str, place: str, routes: Sequence[tuple[str, Route]], reads: Mapping[str, str]) -> Route:
        """Return the only usable route of several; two of them, or a join with a table of the same rows, are a fault."""
        name = node_name(self._spec, node)
        open_routes = [(table, route) for table, route in routes if not route.fault]
        if not open_routes:
            return routes[0][1]
        table, route = open_routes[0]
        if len(open_routes) > 1:
            return replace(
                route, fault=f"{name} joins {' and '.join(sorted(each for each, _ in open_routes))}, which are made of the same rows"
            )
        for other in sorted(set(reads) - {table}):
            above = self._routes_above(other).get(place)
            if other == place or (above is not None and not above.fault):
                return replace(route, fault=f"{name} joins {table} and {other}, which are made of the same rows")
        return route

    def _routes_above(self, table: str) -> dict[str, Route]:
        layer, _, noun = table.partition(".")
        return self.into(table) if layer == "silver" and noun in self._spec.pipeline.tables else {}

    def _read_tables(self, node: str) -> dict[str, str]:
        """Return the tables that a node reads, each with the reason why its rows cannot pass; empty where they can."""
        spec = self._spec
        if node in (DATASET, SCORING):
            block = spec.pipeline.dataset if node == DATASET else spec.pipeline.scoring
            return {block.from_: ""} if block.from_ is not None else self._read_sql_tables(node, str(block.sql))
        name = node.partition(".")[2]
        table = spec.pipeline.tables[name]
        if table.sql is not None:
            return self._read_sql_tables(node, table.sql)
        tables = [each for each in function_arguments(spec, name) if each != SESSION]
        later = f"{node_name(spec, node)} takes rows one by one of its first table alone"
        return {each: later if place else "" for place, each in enumerate(dict.fromkeys(tables))}

    def _read_sql_tables(self, node: str, sql: str) -> dict[str, str]:
        routes_by_table = {}
        text = self._spec.sql_text(sql)
        for table in self._spec.sql_inputs(sql):
            try:
                add_carrier(text, table, CARRIER)
                routes_by_table[table] = ""
            except NotByRowError as error:
                routes_by_table[table] = f"{node_name(self._spec, node)} {error}"
        return routes_by_table
