"""How rows that have just arrived get to the model: the tables that they can be taken through one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tidemill.lake.row_sql import NotByRowError, add_carrier
from tidemill.spec.loading.table_inputs import SESSION, function_arguments

if TYPE_CHECKING:
    from tidemill.spec import Spec


CARRIER = "_tidemill_row"
"""The column that tells a row of the input apart on its way; no column of a user's own has this name."""

DATASET, SCORING = "dataset", "scoring"


@dataclass(frozen=True)
class Route:
    """The nodes (``silver.<table>``, ``dataset``, ``scoring``) that rows of a table go through to the model, in order.

    ``fault`` says at which of them a row cannot be taken through alone, and why; empty where it can.
    """

    nodes: tuple[str, ...]
    fault: str = ""

    @property
    def goal(self) -> str:
        """The last node."""
        return self.nodes[-1]


def routes_to_model(spec: Spec) -> dict[str, Route]:
    """Return the route of each table from which rows get to the model: as rows are scored in a run, else as the dataset is made."""
    routes = _Routes(spec)
    found: dict[str, Route] = {}
    for goal in _goals(spec):
        for table, route in routes.into(goal).items():
            if table not in found or (found[table].fault and not route.fault):
                found[table] = route
    return found


def node_name(spec: Spec, node: str) -> str:
    """Return what to call a node in a message: its table, and the file or function that makes it."""
    table = spec.pipeline.tables.get(node.partition(".")[2])
    block = spec.pipeline.scoring if node == SCORING else spec.pipeline.dataset if node == DATASET else table
    text = getattr(block, "python", None) or getattr(block, "sql", None) or ""
    is_file = text and not any(character.isspace() for character in text.strip())
    return f"{node} ({text})" if is_file else node


def _goals(spec: Spec) -> tuple[str, ...]:
    scoring = spec.pipeline.scoring
    is_declared = scoring.sql is not None or scoring.from_ is not None
    return (SCORING, DATASET) if is_declared and spec.pipeline.dataset_table not in spec.scoring_inputs() else (DATASET,)


class _Routes:
    """The routes into each node, found once."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._found: dict[str, dict[str, Route]] = {}

    def into(self, node: str) -> dict[str, Route]:
        """Return the route into ``node`` of each table that it is made of, near or far."""
        if node not in self._found:
            self._found[node] = self._search(node)
        return self._found[node]

    def _search(self, node: str) -> dict[str, Route]:
        reads = self._reads(node)
        ways: dict[str, list[tuple[str, Route]]] = {}
        for table, fault in reads.items():
            ways.setdefault(table, []).append((table, Route((node,), fault)))
            for place, route in self._above(table).items():
                ways.setdefault(place, []).append((table, Route((*route.nodes, node), route.fault or fault)))
        return {place: self._only(node, place, routes, reads) for place, routes in ways.items()}

    def _only(self, node: str, place: str, routes: Sequence[tuple[str, Route]], reads: Mapping[str, str]) -> Route:
        """Return the one route of several that rows can take; two, or whole tables that lack the new rows, are a fault."""
        name = node_name(self._spec, node)
        free = [(table, route) for table, route in routes if not route.fault]
        if not free:
            return routes[0][1]
        table, route = free[0]
        if len(free) > 1:
            return replace(route, fault=f"{name} joins {' and '.join(sorted(each for each, _ in free))}, which are made of the same rows")
        for other in sorted(set(reads) - {table}):
            above = self._above(other).get(place)
            if other == place or (above is not None and not above.fault):
                return replace(route, fault=f"{name} joins {table} and {other}, which are made of the same rows")
        return route

    def _above(self, table: str) -> dict[str, Route]:
        layer, _, noun = table.partition(".")
        return self.into(table) if layer == "silver" and noun in self._spec.pipeline.tables else {}

    def _reads(self, node: str) -> dict[str, str]:
        """Return the tables that a node reads, each with what stands in the way of its rows; empty where nothing does."""
        spec = self._spec
        if node in (DATASET, SCORING):
            block = spec.pipeline.dataset if node == DATASET else spec.pipeline.scoring
            return {block.from_: ""} if block.from_ is not None else self._of_sql(node, str(block.sql))
        name = node.partition(".")[2]
        table = spec.pipeline.tables[name]
        if table.sql is not None:
            return self._of_sql(node, table.sql)
        tables = [each for each in function_arguments(spec, name) if each != SESSION]
        later = f"{node_name(spec, node)} takes rows one by one of its first table alone"
        return {each: later if place else "" for place, each in enumerate(dict.fromkeys(tables))}

    def _of_sql(self, node: str, sql: str) -> dict[str, str]:
        found = {}
        text = self._spec.sql_text(sql)
        for table in self._spec.sql_inputs(sql):
            try:
                add_carrier(text, table, CARRIER)
                found[table] = ""
            except NotByRowError as error:
                found[table] = f"{node_name(self._spec, node)} {error}"
        return found
