"""The graph of a pipeline: its nodes, what each reads, and which nodes those tables come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from tidemill.errors import UsageError, did_you_mean
from tidemill.spec import Spec

STEPS = ("ingest", "prepare", "dataset", "train", "evaluate", "deploy", "score", "monitor")


@dataclass(frozen=True)
class Node:
    """One unit of work: ``ingest.flights``, ``train`` and so on.

    ``reads`` are its tables (and ``models.<pipeline>``), ``writes`` the main one it commits; ``needs`` are the nodes that must have
    succeeded before; ``after`` are nodes that it follows, however they ended.
    """

    name: str
    reads: tuple[str, ...] = ()
    writes: str = ""
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def step(self) -> str:
        """The step's name: the part before the dot."""
        return self.name.partition(".")[0]

    @property
    def item(self) -> str:
        """The source or table of the node: the part after the dot, empty where there is none."""
        return self.name.partition(".")[2]


@dataclass(frozen=True)
class Graph:
    """The nodes of a pipeline in an order in which they can run."""

    nodes: tuple[Node, ...]

    def __getitem__(self, name: str) -> Node:
        """Return the node of that name."""
        return next(node for node in self.nodes if node.name == name)

    def writer(self, table: str) -> str | None:
        """Return the node that writes the table; a quarantine is written by its main table's node."""
        names = {node.writes: node.name for node in self.nodes if node.writes}
        return names.get(table) or names.get(table.removesuffix("_quarantine"))

    def select(self, *, start: str | None = None, end: str | None = None, only: str | None = None) -> tuple[Node, ...]:
        """Return the nodes from ``start`` to ``end``, or ``only`` one step or node.

        ``start`` selects it and all nodes after it, ``end`` it and all nodes before it.

        Raises:
            UsageError: no step or node has that name, or nothing is left.
        """
        chosen = {node.name for node in self.nodes}
        if only is not None:
            chosen = set(self._match_names(only))
        if start is not None:
            chosen &= self._closure(self._match_names(start), self._children())
        if end is not None:
            chosen &= self._closure(self._match_names(end), {node.name: (*node.needs, *node.after) for node in self.nodes})
        if not chosen:
            raise UsageError(f"nothing lies between --from {start} and --to {end}")
        return tuple(node for node in self.nodes if node.name in chosen)

    def _match_names(self, name: str) -> list[str]:
        names = [node.name for node in self.nodes if name in (node.name, node.step)]
        if not names and name not in STEPS:
            known = [*STEPS, *(node.name for node in self.nodes)]
            raise UsageError(
                f"no step or node is called {name!r}{did_you_mean(name, known)} The nodes: {', '.join(n.name for n in self.nodes)}"
            )
        return names

    def _children(self) -> dict[str, tuple[str, ...]]:
        return {node.name: tuple(other.name for other in self.nodes if node.name in (*other.needs, *other.after)) for node in self.nodes}

    @staticmethod
    def _closure(names: Iterable[str], edges: Mapping[str, Sequence[str]]) -> set[str]:
        reached: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting.extend(edges[name])
        return reached


def build_graph(spec: Spec) -> Graph:
    """Return the nodes of the spec, sorted so that each comes after what it needs."""
    pipeline = spec.pipeline
    dataset, model = pipeline.dataset_table, pipeline.model_name
    scored = spec.scoring_inputs()
    # Items of a user in the dataset are not new to the user, wherever the rows to score come from.
    served = (*scored, dataset) if pipeline.task_kind.recommends else scored
    nodes = [Node(f"ingest.{name}", writes=f"bronze.{name}") for name in pipeline.sources]
    nodes += [Node(f"prepare.{name}", reads=tuple(spec.table_inputs(name)), writes=f"silver.{name}") for name in pipeline.tables]
    nodes += [
        Node("dataset", reads=tuple(spec.dataset_inputs()), writes=dataset),
        Node("train", reads=(dataset,), writes=model),
        Node("evaluate", reads=(dataset, model), needs=("train",)),
        Node("deploy", reads=(model,), needs=("evaluate",)),
        Node("score", reads=tuple(dict.fromkeys((*served, model))), writes=pipeline.predictions_table, after=("deploy",)),
        Node("monitor", reads=tuple(dict.fromkeys((dataset, *scored, model))), needs=("score",)),
    ]
    graph = Graph(tuple(nodes))
    complete = {node.name: _add_needs(node, graph) for node in nodes}
    order = TopologicalSorter({name: (*node.needs, *node.after) for name, node in complete.items()}).static_order()
    rank = {name: position for position, name in enumerate(order)}
    return Graph(tuple(sorted(complete.values(), key=lambda node: (STEPS.index(node.step), rank[node.name]))))


def _add_needs(node: Node, graph: Graph) -> Node:
    """Return the node with the writers of its tables among its needs; the champion is looked up when the node runs."""
    champion_only = node.step in ("score", "monitor")
    writers = [graph.writer(table) for table in node.reads if not (champion_only and table.startswith("models."))]
    needs = dict.fromkeys([*(name for name in writers if name and name != node.name), *node.needs])
    return Node(node.name, node.reads, node.writes, tuple(needs), node.after)
