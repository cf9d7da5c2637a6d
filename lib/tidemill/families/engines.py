"""Engines by name: what decides for each family of a search whether the whole cluster fits it, or one Spark task each fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from tidemill.extensions import Registry, describe
from tidemill.families.family import BOTH_WAYS, IN_TASKS, ON_CLUSTER


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine, as ``training.engine`` names it.

    Args:
        name: the name in a spec.
        choose: a function of the spaces, the problem and the `Resources` of a search (`tidemill.training.engines.choice`), or its
            ``module:function``. It returns for each family the way to fit it: ``spark`` or ``tasks``.
        ways: the ways that it may choose.
    """

    name: str
    choose: str | Callable[..., Any]
    ways: frozenset[str] = BOTH_WAYS

    @property
    def required_way(self) -> str:
        """The way by which a family must be able to do what the spec asks for."""
        return IN_TASKS if IN_TASKS in self.ways else ON_CLUSTER

    def load(self) -> Callable[..., Any]:
        """Return the function that chooses."""
        if not isinstance(self.choose, str):
            return self.choose
        module, _, attribute = self.choose.partition(":")
        function: Callable[..., Any] = getattr(import_module(module), attribute)
        return function


def _accept(name: str, candidate: Any) -> Engine:
    """Take an Engine as it is, and a class, or an object of one, with ``choose(spaces, problem, resources)`` as what declares one."""
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
