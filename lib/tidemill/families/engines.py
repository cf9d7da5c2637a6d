"""Engines by name: an engine chooses for each family of a search whether the whole cluster runs a fit, or one Spark task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tidemill.extensions import Registry, describe, import_attribute
from tidemill.families.family import BOTH_WAYS, IN_TASKS, ON_CLUSTER


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine, as ``training.engine`` names it.

    Args:
        name: the name in a spec.
        choose: a function of the spaces, the problem and the `Resources` of a search (`tidemill.training.engines.choice`), or its
            ``module:function``. It returns ``spark`` or ``tasks`` for each family.
        ways: the values that it may return.
    """

    name: str
    choose: str | Callable[..., Any]
    ways: frozenset[str] = BOTH_WAYS

    @property
    def required_way(self) -> str:
        """The engine (``spark`` or ``tasks``) that must support what the spec requires of a family."""
        return IN_TASKS if IN_TASKS in self.ways else ON_CLUSTER

    def load(self) -> Callable[..., Any]:
        """Return the function ``choose``."""
        if not isinstance(self.choose, str):
            return self.choose
        function: Callable[..., Any] = import_attribute(self.choose)
        return function


def _accept(name: str, candidate: Any) -> Engine:
    """Return an Engine unchanged; wrap a class or an object with ``choose(spaces, problem, resources)``."""
    if isinstance(candidate, Engine):
        return replace(candidate, name=name)
    declared = candidate() if isinstance(candidate, type) else candidate
    ways = getattr(declared, "ways", BOTH_WAYS)
    if not callable(getattr(declared, "choose", None)):
        raise TypeError(f"expected a method `choose(spaces, problem, resources)`, found {describe(candidate)}")
    if isinstance(ways, str) or not ways or not set(ways) <= BOTH_WAYS:
        raise TypeError(f"its `ways` are {ways!r}, expected a tuple of some of {', '.join(sorted(BOTH_WAYS))}")
    return Engine(name=name, choose=declared.choose, ways=frozenset(ways))


_CHOICE = "tidemill.training.engines.choice"
ENGINES: Registry[Engine] = Registry(
    "engine",
    "tidemill.engines",
    {
        "auto": Engine(name="auto", choose=f"{_CHOICE}:choose_by_size"),
        "spark": Engine(name="spark", choose=f"{_CHOICE}:choose_cluster", ways=frozenset({ON_CLUSTER})),
        "tasks": Engine(name="tasks", choose=f"{_CHOICE}:choose_tasks", ways=frozenset({IN_TASKS})),
    },
    _accept,
)
