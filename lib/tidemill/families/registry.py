"""The registry of model families, and its checks of a spec: names by task, capabilities, search spaces."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from tidemill.errors import Fault, SpecError, UsageError, did_you_mean
from tidemill.extensions import Registry
from tidemill.families import built_in
from tidemill.families.family import IN_TASKS, ON_CLUSTER, Family, space_fault
from tidemill.families.space import Space


def _accept(name: str, candidate: object) -> Family:
    family = candidate() if isinstance(candidate, type) else candidate
    if not isinstance(family, Family):
        raise TypeError(f"it is {type(family).__name__}, expected a tidemill.families.Family")
    return family


def _declared_families() -> dict[str, str | Family]:
    """Return the families in ``FAMILIES`` of every module of `tidemill.families.built_in`."""
    modules = [import_module(f"{built_in.__name__}.{info.name}") for info in pkgutil.iter_modules(built_in.__path__)]
    return {family.name: family for module in modules for family in module.FAMILIES}


FAMILIES: Registry[Family] = Registry("model family", "tidemill.families", _declared_families(), _accept)


@dataclass(frozen=True)
class Requirements:
    """What a spec requires of its families.

    ``way`` is where they are fitted (`IN_TASKS`, `ON_CLUSTER`); ``loss`` is squared, absolute or quantile; ``is_weighted``: rows have
    weights.
    """

    way: str = IN_TASKS
    is_monotone: bool = False
    loss: str = "squared"
    is_weighted: bool = False


def family_names(task: str) -> list[str]:
    """Return the names of the families that support a task, without dotted paths."""
    return [name for name, family in FAMILIES.usable().items() if family.for_task(task)]


def find_family(name: str, task: str) -> Family:
    """Return the family of that name.

    Raises:
        SpecError: no family has that name, or it does not support the task.
    """
    fault = family_fault(name, task)
    family = None if fault else FAMILIES.get(name).for_task(task)
    if family is None:
        raise SpecError([space_fault(name, "", fault or "")])
    return family


def family_fault(name: str, task: str) -> str | None:
    """Return why the name is no family of the task; None where it is one."""
    if name in FAMILIES or "." in name:
        try:
            if FAMILIES.get(name).for_task(task):
                return None
        except UsageError as error:
            return str(error)
    names = family_names(task)
    return f"unknown model family for `task: {task}`{did_you_mean(name, names)}; known: {', '.join(names)}"


def unsupported_reason(name: str, family: Family, requirements: Requirements) -> str | None:
    """Return the requirement that the family does not support, and what to write instead; None where it supports all."""
    way = requirements.way
    if requirements.is_monotone and way not in family.monotone:
        supporting = [other.name for other in FAMILIES.all_built_in().values() if way in other.monotone]
        return f"{name} cannot keep `training.monotone`{_instead(way, supporting)}"
    if requirements.loss != "squared" and way not in family.losses.get(requirements.loss, ()):
        supporting = [other.name for other in FAMILIES.all_built_in().values() if way in other.losses.get(requirements.loss, ())]
        loss = "absolute" if requirements.loss == "absolute" else "{quantile: …}"
        return f"{name} cannot minimise `training.loss: {loss}`{_instead(way, supporting)}"
    if requirements.is_weighted and not {way, IN_TASKS} <= family.weights:
        other = "`engine: auto` knows them" if IN_TASKS in family.weights else "choose another family, or leave `dataset.weight` out"
        return f"{name} does not support sample weights (`dataset.weight`); {other}"
    return None


def _instead(way: str, supporting: list[str]) -> str:
    if not supporting:
        return " by `engine: spark`; write `engine: auto`"
    return f"{' by `engine: spark`' if way == ON_CLUSTER else ''}; name {', '.join(supporting)}"


def resolve_spaces(
    declared: Mapping[str, Space],
    task: str,
    file: str = "pipeline.yml",
    *,
    texts: bool = False,
    is_implicit: bool = False,
    needs_libraries: bool = True,
) -> dict[str, Space]:
    """Return the space of each declared family: as declared, or the family's own where that is empty.

    Where the spec declares ``texts``, a family's parameters ``for_texts`` are added. Without ``needs_libraries``, parameters of families
    without an installed library are not checked.

    Raises:
        SpecError: a family or a parameter is unknown, a value has the wrong type, or a library is missing; all of them are named.
    """
    spaces: dict[str, Space] = {}
    faults: list[Fault] = []
    for name, space in declared.items():
        try:
            family = find_family(name, task)
        except SpecError as error:
            faults += [Fault(file, None, fault.key, fault.message) for fault in error.faults]
            continue
        missing = family.missing_library()
        invalid = family.parameter_faults(space, task) if missing is None else {"": missing} if needs_libraries else {}
        faults += [space_fault(name, parameter, message, file) for parameter, message in invalid.items()]
        spaces[name] = space or family.default_space(task, texts=texts, is_implicit=is_implicit)
        if texts:
            spaces[name] = {**family.for_texts, **spaces[name]}
    if faults:
        raise SpecError(faults)
    return spaces
