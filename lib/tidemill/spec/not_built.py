"""What the grammar accepts and this version cannot do yet: each is refused by name, with what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tidemill.errors import Fault
from tidemill.spec.node import Key, Node, dotted


@dataclass(frozen=True)
class Later:
    """One thing that is not built: the keys (``*`` for any name or item), the values, and what to do instead."""

    path: str
    is_later: Callable[[Node], bool]
    instead: str


def _given(node: Node) -> bool:
    """Return True for anything but null, false and empty."""
    return bool(node.value) or (isinstance(node.value, int | float) and not isinstance(node.value, bool))


def _is(*values: str) -> Callable[[Node], bool]:
    return lambda node: node.value in values


def _uses_slices(node: Node) -> bool:
    return bool(re.search(r"\bslices\b", node.string or ""))


def _is_catalog(node: Node) -> bool:
    return (node.string or "").startswith("catalog:")


LATER = (
    Later("lake", _is_catalog, "give a path, such as ./lake"),
    Later("tables.*.load", _is("incremental"), "leave `full`"),
    Later("evaluation.slices", _given, "leave it out"),
    Later("evaluation.gates.*", _uses_slices, "gate the metrics of all rows"),
    Later("evaluation.approval", _is("manual"), "leave `auto`"),
    Later("scoring.load", _is("incremental"), "leave `full`: the predictions are merged by key"),
    Later("scoring.shadow", _given, "leave it out"),
    Later("monitoring.drift.method", _is("js", "ks"), "write `method: psi`"),
    Later("monitoring.labels", _given, "leave it out"),
    Later("monitoring.performance", _given, "leave it out"),
    Later("monitoring.freshness", _given, "leave it out"),
    Later("monitoring.retrain", _given, "leave it out"),
)


def not_built_faults(root: Node) -> list[Fault]:
    """Return a fault for each value of the spec that this version cannot do."""
    faults: dict[tuple[Key, ...], Fault] = {}
    for later in LATER:
        for path, node in _matches(root, later.path.split(".")):
            if later.is_later(node) and path not in faults:
                faults[path] = Fault(*node.fault_place(), dotted(path), f"not built yet; {later.instead}")
    return list(faults.values())


def _matches(node: Node, pattern: list[str], path: tuple[Key, ...] = ()) -> Iterator[tuple[tuple[Key, ...], Node]]:
    if not pattern:
        yield path, node
        return
    children: list[tuple[Key, Node]] = [*node.mapping.items(), *enumerate(node.items)]
    for key, child in children:
        if pattern[0] in ("*", key):
            yield from _matches(child, pattern[1:], (*path, key))
