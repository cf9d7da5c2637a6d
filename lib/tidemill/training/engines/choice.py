"""Which engine fits which family: the whole cluster for each fit, or a fit a task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tidemill.errors import Fault, SpecError
from tidemill.families import IN_TASKS, ON_CLUSTER, PATIENCE, Engine
from tidemill.learners.base import library
from tidemill.quoting import is_local
from tidemill.training.problem import Problem

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tidemill.spec.models import Space


# A copy is opened by each fit, and what a library makes of it is about as large again; so is what fits beside it.
_MOST_BYTES = 1 << 31
_PARTS_OF_MEMORY = 8


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a search has: training rows, columns that features are made of, where copies may lie, and the bytes that one may take."""

    scratch: str
    rows: int
    columns: int
    most_bytes: int


@dataclass(frozen=True)
class Engines:
    """The way to fit each family; ``scratch`` is where copies lie, ``most_bytes`` what one may take, ``notes`` say why for people.

    ``is_free``: a family may go to the other engine where the copy turns out to be too large.
    """

    of: Mapping[str, str] = field(default_factory=dict)
    scratch: str = ""
    most_bytes: int = _MOST_BYTES
    is_free: bool = False
    notes: tuple[str, ...] = ()

    def way(self, family: str) -> str:
        """Return how a family is fitted: ``spark`` or ``tasks``."""
        return self.of.get(family, ON_CLUSTER)

    def library(self, family: str, problem: Problem) -> str:
        """Return the name and version of the library that fits the family; a fit by tasks may know better."""
        return library(problem.family(family).library(in_tasks=self.way(family) == IN_TASKS))

    def without_tasks(self, problem: Problem, n_bytes: int) -> Engines:
        """Return the engines where a copy of ``n_bytes`` is too large; families that MLlib does not have stay, and will fail.

        Raises:
            SpecError: the spec asks for tasks, or no family is MLlib's.
        """
        size = f"the vectors of a fold take {n_bytes / 1e9:.1f} GB, a task may have {self.most_bytes / 1e9:.1f} GB"
        own = [name for name in self.of if _is_mllib(name, problem)]
        if not self.is_free or not own:
            raise SpecError([_fault("training.engine", f"{size}; write `engine: spark`, with families of MLlib")])
        moved = dict.fromkeys(self.of, ON_CLUSTER)
        return Engines(moved, self.scratch, self.most_bytes, True, (f"engine spark: {size}",))


def choose_engines(engine: Engine, spaces: Mapping[str, Space], problem: Problem, resources: Resources) -> Engines:
    """Return how each family of ``spaces`` is fitted, as ``engine`` chooses.

    Raises:
        SpecError: a family cannot be fitted the way that is chosen.
    """
    chosen = engine.load()(spaces, problem, resources)
    return chosen if isinstance(chosen, Engines) else _engines_of(engine, chosen, spaces, problem, resources)


def _engines_of(engine: Engine, chosen: Mapping[str, str], spaces: Mapping[str, Space], problem: Problem, resources: Resources) -> Engines:
    """Return the choice of an engine of one's own, after each family has been checked."""
    faults = []
    for name, space in spaces.items():
        way = chosen.get(name)
        if way not in engine.ways:
            faults.append(_fault(f"training.models.{name}", f"{engine.name} chose {way!r}, expected {' or '.join(sorted(engine.ways))}"))
        elif why := _unfit_reason(name, space, problem, resources, way):
            faults.append(_fault(f"training.models.{name}", f"{engine.name} chose {way!r}: {why}"))
    if faults:
        raise SpecError(faults)
    return Engines(dict(chosen), resources.scratch, resources.most_bytes)


def _unfit_reason(name: str, space: Space, problem: Problem, resources: Resources, way: str) -> str | None:
    if way == IN_TASKS:
        return _reason(name, space, problem, resources.scratch)
    return None if _is_mllib(name, problem) else problem.unsupported_on_cluster(name) or f"{name} is no family of MLlib"


def choose_cluster(spaces: Mapping[str, Space], problem: Problem, resources: Resources) -> Engines:
    """Have the whole cluster fit every family.

    Raises:
        SpecError: MLlib does not have a family, or it cannot do what is asked for.
    """
    faults = [
        _fault(f"training.models.{name}", problem.unsupported_on_cluster(name) or f"{name} is no family of MLlib; write `engine: auto`")
        for name in spaces
        if not _is_mllib(name, problem)
    ]
    early = [f"training.models.{name}.{PATIENCE}" for name, space in spaces.items() if PATIENCE in space]
    faults += [_fault(key, "`engine: spark` fits every round; leave it out, or write `engine: auto`") for key in early]
    if faults:
        raise SpecError(faults)
    return Engines(dict.fromkeys(spaces, ON_CLUSTER))


def choose_tasks(spaces: Mapping[str, Space], problem: Problem, resources: Resources) -> Engines:
    """Have each fit of every family be one task.

    Raises:
        SpecError: a family cannot be fitted so.
    """
    reasons = {name: _reason(name, space, problem, resources.scratch) for name, space in spaces.items()}
    faults = [_fault(f"training.models.{name}", f"cannot be fitted by `engine: tasks`: {why}") for name, why in reasons.items() if why]
    if faults:
        raise SpecError(faults)
    return Engines(dict.fromkeys(spaces, IN_TASKS), resources.scratch, resources.most_bytes)


def choose_by_size(spaces: Mapping[str, Space], problem: Problem, resources: Resources) -> Engines:
    """Take tasks wherever a family has a learner that knows its parameters and the vectors fit.

    What they take is measured when they are made, and before that rows and columns tell the least of it.

    Raises:
        SpecError: a family can be fitted neither way.
    """
    scratch, most_bytes, least = resources.scratch, resources.most_bytes, 8 * resources.rows * resources.columns
    if least > most_bytes:
        return Engines(dict.fromkeys(spaces, IN_TASKS), scratch, most_bytes, True).without_tasks(problem, least)
    reasons = {name: _reason(name, space, problem, scratch) for name, space in spaces.items()}
    mllib = {name: _is_mllib(name, problem) for name in spaces}
    stuck = [
        _fault(f"training.models.{name}", f"{why}, and {lack}")
        for name, why in reasons.items()
        if why and (lack := problem.unsupported_on_cluster(name))
    ]
    if stuck:
        raise SpecError(stuck)
    ways = {name: ON_CLUSTER if why and mllib[name] else IN_TASKS for name, why in reasons.items()}
    notes = tuple(f"{name}: engine spark, {why}" for name, why in reasons.items() if why and mllib[name])
    return Engines(ways, scratch, most_bytes, True, notes)


def _is_mllib(name: str, problem: Problem) -> bool:
    """Return True where the engine ``spark`` has the family, and it can do all that is asked for."""
    return problem.family(name).has_estimator(problem.task) and not problem.unsupported_on_cluster(name)


def max_copy_bytes(spark: SparkSession) -> int:
    """Return the bytes that a copy may take: an eighth of an executor's memory, of this machine's where Spark runs on it alone."""
    if (spark.conf.get("spark.master", "") or "").startswith("local"):
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        whole = _bytes(spark.conf.get("spark.executor.memory", "1g") or "1g")
    return min(_MOST_BYTES, whole // _PARTS_OF_MEMORY)


def _bytes(text: str) -> int:
    units = {"k": 10, "m": 20, "g": 30, "t": 40}
    number = text.lower().rstrip("b")
    return int(number[:-1]) << units[number[-1]] if number[-1] in units else int(number) << units["m"]  # as Spark has it


def _reason(name: str, space: Space, problem: Problem, scratch: str) -> str | None:
    """Return why a family cannot be fitted in tasks, None where it can."""
    family = problem.family(name)
    if family.learner is None:
        return "no other library has this family for it"
    if not scratch or not is_local(scratch):
        return "the lake lies on no file system that all executors see"
    unknown = family.learner.unknown_parameters(dict(space), problem.task)
    if unknown:
        return f"{family.learner.package} knows no {', '.join(unknown)}"
    return None


def _fault(key: str, message: str) -> Fault:
    return Fault("pipeline.yml", None, key, message)
