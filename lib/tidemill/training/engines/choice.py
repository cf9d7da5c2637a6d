"""The choice of an engine for each family: `spark` (each fit uses the whole cluster) or `tasks` (each fit is one Spark task)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tidemill.errors import Fault, SpecError, StepError, TidemillError
from tidemill.families import IN_TASKS, ON_CLUSTER, PATIENCE, Engine
from tidemill.learners.base import library
from tidemill.quoting import is_local
from tidemill.training.problem import Problem

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tidemill.spec.models import Space


# Each fit maps the fold matrix, and the data structures of its library are about as large again; other fits run beside it.
_MAX_BYTES = 1 << 31
_PARTS_OF_MEMORY = 8


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The size of a search: training rows, raw feature columns, the folder for fold matrices, and the most bytes of one."""

    scratch: str
    rows: int
    columns: int
    most_bytes: int


@dataclass(frozen=True)
class Engines:
    """The engine of each family; ``scratch`` is the folder for fold matrices, ``most_bytes`` the most of one, ``notes`` give reasons.

    ``is_free``: families may change to the engine ``spark`` where a fold matrix turns out to be too large.
    """

    by_family: Mapping[str, str] = field(default_factory=dict)
    scratch: str = ""
    most_bytes: int = _MAX_BYTES
    is_free: bool = False
    notes: tuple[str, ...] = ()

    def engine_of(self, family: str) -> str:
        """Return the engine of a family: ``spark`` or ``tasks``."""
        return self.by_family.get(family, ON_CLUSTER)

    def library(self, family: str, problem: Problem) -> str:
        """Return the name and version of the library that fits the family; fits of the engine tasks may name another."""
        return library(problem.family(family).library(in_tasks=self.engine_of(family) == IN_TASKS))

    def without_tasks(self, problem: Problem, n_bytes: int) -> Engines:
        """Return the engine ``spark`` for every family, since a fold matrix of ``n_bytes`` is too large; families without MLlib will fail.

        Raises:
            SpecError: the spec declares the engine tasks, or no family is in MLlib.
        """
        size = f"the vectors of a fold take {n_bytes / 1e9:.1f} GB, a task may have {self.most_bytes / 1e9:.1f} GB"
        own = [name for name in self.by_family if _is_mllib(name, problem)]
        if not self.is_free or not own:
            raise SpecError([_fault("training.engine", f"{size}; write `engine: spark`, with families of MLlib")])
        on_cluster = dict.fromkeys(self.by_family, ON_CLUSTER)
        return Engines(on_cluster, self.scratch, self.most_bytes, True, (f"engine spark: {size}",))


def choose_engines(engine: Engine, spaces: Mapping[str, Space], problem: Problem, resources: Resources) -> Engines:
    """Return the engine of each family of ``spaces``, as ``engine`` chooses.

    Raises:
        SpecError: a family cannot be fitted by the engine that was chosen for it.
        StepError: the code of a custom engine failed.
    """
    try:
        chosen = engine.load()(spaces, problem, resources)
    except TidemillError:
        raise
    except Exception as error:
        raise StepError(f"training.engine: {engine.name} failed: {type(error).__name__}: {error}") from error
    return chosen if isinstance(chosen, Engines) else _engines_of(engine, chosen, spaces, problem, resources)


def _engines_of(engine: Engine, chosen: Mapping[str, str], spaces: Mapping[str, Space], problem: Problem, resources: Resources) -> Engines:
    """Check the choice of a user-defined engine for each family, and return it."""
    if not isinstance(chosen, Mapping):
        raise SpecError([_fault("training.engine", f"{engine.name} returned {chosen!r}, expected a mapping of families to engines")])
    faults = []
    for name, space in spaces.items():
        way = chosen.get(name)
        if way not in engine.ways:
            faults.append(_fault(f"training.models.{name}", f"{engine.name} chose {way!r}, expected {' or '.join(sorted(engine.ways))}"))
        elif why := _unfit_reason(name, space, problem, resources, way):
            faults.append(_fault(f"training.models.{name}", f"{engine.name} chose {way!r}: {why}"))
    if faults:
        raise SpecError(faults)
    return Engines({name: chosen[name] for name in spaces}, resources.scratch, resources.most_bytes)


def _unfit_reason(name: str, space: Space, problem: Problem, resources: Resources, way: str) -> str | None:
    if way == IN_TASKS:
        return _reason(name, space, problem, resources.scratch)
    return None if _is_mllib(name, problem) else problem.unsupported_on_cluster(name) or f"{name} is no family of MLlib"


def choose_cluster(spaces: Mapping[str, Space], problem: Problem, resources: Resources) -> Engines:
    """Choose the engine ``spark`` for every family.

    Raises:
        SpecError: MLlib does not have a family, or it does not support the problem.
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
    """Choose the engine ``tasks`` for every family.

    Raises:
        SpecError: a family cannot be fitted by tasks.
    """
    reasons = {name: _reason(name, space, problem, resources.scratch) for name, space in spaces.items()}
    faults = [_fault(f"training.models.{name}", f"cannot be fitted by `engine: tasks`: {why}") for name, why in reasons.items() if why]
    if faults:
        raise SpecError(faults)
    return Engines(dict.fromkeys(spaces, IN_TASKS), resources.scratch, resources.most_bytes)


def choose_by_size(spaces: Mapping[str, Space], problem: Problem, resources: Resources) -> Engines:
    """Choose the engine ``tasks`` for each family whose learner supports its parameters, where the vectors are small enough.

    Their size is measured when they are written; before that, rows and columns give a lower bound.

    Raises:
        SpecError: a family can be fitted by neither engine.
    """
    scratch, most_bytes, least = resources.scratch, resources.most_bytes, 8 * resources.rows * resources.columns
    if least > most_bytes:
        return Engines(dict.fromkeys(spaces, IN_TASKS), scratch, most_bytes, True).without_tasks(problem, least)
    reasons = {name: _reason(name, space, problem, scratch) for name, space in spaces.items()}
    mllib = {name: _is_mllib(name, problem) for name in spaces}
    faults = [
        _fault(f"training.models.{name}", f"{why}, and {reason}")
        for name, why in reasons.items()
        if why and (reason := problem.unsupported_on_cluster(name))
    ]
    if faults:
        raise SpecError(faults)
    ways = {name: ON_CLUSTER if why and mllib[name] else IN_TASKS for name, why in reasons.items()}
    notes = tuple(f"{name}: engine spark, {why}" for name, why in reasons.items() if why and mllib[name])
    return Engines(ways, scratch, most_bytes, True, notes)


def _is_mllib(name: str, problem: Problem) -> bool:
    """Return True where the engine ``spark`` has the family and supports the problem."""
    return problem.family(name).has_estimator(problem.task) and not problem.unsupported_on_cluster(name)


def max_copy_bytes(spark: SparkSession) -> int:
    """Return the most bytes of a fold matrix: an eighth of an executor's memory, or of this machine's where Spark runs locally."""
    if (spark.conf.get("spark.master", "") or "").startswith("local"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        memory = _bytes(spark.conf.get("spark.executor.memory", "1g") or "1g")
    return min(_MAX_BYTES, memory // _PARTS_OF_MEMORY)


def _bytes(text: str) -> int:
    units = {"k": 10, "m": 20, "g": 30, "t": 40}
    number = text.lower().rstrip("b")
    return int(number[:-1]) << units[number[-1]] if number[-1] in units else int(number) << units["m"]  # the default unit of Spark


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
