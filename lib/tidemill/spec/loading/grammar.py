"""The grammar of a spec: its keys and JSON Schema, and the reserved options, which are refused by name with an alternative."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from tidemill.errors import Fault
from tidemill.families import ENGINES
from tidemill.spec.loading.document import Key, Node, dotted_key
from tidemill.spec.models import SOURCE_KINDS, Pipeline
from tidemill.spec.models.pipeline import RESERVED_METHODS
from tidemill.tasks import METRICS, TASKS

Model = type[BaseModel]


def keys_of(model: Model) -> dict[str, Any]:
    """Return the keys of a block as they are written in YAML, each with its type."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def blocks_at(path: tuple[Key, ...]) -> list[Model]:
    """Return the models that may stand at ``path``; empty for a scalar or a free mapping."""
    candidates: list[Any] = [Pipeline]
    for key in path:
        candidates = [below for candidate in candidates for below in _below(candidate, key)]
    return [candidate for candidate in candidates if _is_model(candidate)]


@cache
def homes_of(key: str) -> tuple[str, ...]:
    """Return the blocks that have ``key``, as dotted paths with ``*`` for names; the root is the empty string."""
    return tuple(sorted({path for path, model in _blocks(Pipeline, "") if key in keys_of(model)}))


def _blocks(annotation: Any, path: str) -> Iterator[tuple[str, Model]]:
    for part in _alternatives(annotation):
        if _is_model(part):
            yield path, part
            for key, below in keys_of(part).items():
                yield from _blocks(below, f"{path}.{key}".lstrip("."))
        elif get_origin(part) is dict:
            yield from _blocks(get_args(part)[1], f"{path}.*")


def _below(annotation: Any, key: Key) -> list[Any]:
    if _is_model(annotation):
        return _alternatives(keys_of(annotation).get(str(key)))
    if get_origin(annotation) is dict and isinstance(key, str):
        return _alternatives(get_args(annotation)[1])
    if get_origin(annotation) is list and isinstance(key, int):
        return _alternatives(get_args(annotation)[0])
    return []


def _alternatives(annotation: Any) -> list[Any]:
    """Return the members of unions and annotated types."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for member in get_args(annotation) for part in _alternatives(member)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


VARIABLE = {"type": "string", "pattern": r"\$\{[^}]+\}"}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a spec; a variable may replace any number or fixed word."""
    schema = _with_variables(Pipeline.model_json_schema(by_alias=True))
    schema["$defs"]["Source"]["properties"]["format"]["examples"] = list(SOURCE_KINDS.names)
    for name, registry in (("task", TASKS), ("metric", METRICS), ("engine", ENGINES)):
        schema["$defs"]["Training"]["properties"][name]["examples"] = list(registry.names)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "tidemill pipeline"}


def _with_variables(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_with_variables(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: value if key in ("default", "enum", "required") else _with_variables(value) for key, value in schema.items()}
    is_plain = (
        schema.get("type") in ("integer", "number", "boolean")
        or isinstance(schema.get("enum"), list)
        or isinstance(schema.get("pattern"), str)
    )
    if not is_plain or not isinstance(schema.get("type", "string"), str):
        return parts
    about = {key: parts.pop(key) for key in ("title", "description", "default") if key in parts}
    return {**about, "anyOf": [parts, VARIABLE]}


@dataclass(frozen=True)
class ReservedOption:
    """One thing that is not built: the keys (``*`` for any name or item), the values, and what to do instead."""

    path: str
    is_reserved: Callable[[Node], bool]
    instead: str


def _is_set(node: Node) -> bool:
    """Return True for any value but null, false and empty."""
    return bool(node.value) or (isinstance(node.value, int | float) and not isinstance(node.value, bool))


def _is_one_of(*values: str) -> Callable[[Node], bool]:
    return lambda node: node.value in values


def _is_catalog(node: Node) -> bool:
    return (node.string or "").startswith("catalog:")


RESERVED_OPTIONS = (
    ReservedOption("lake", _is_catalog, "give a path, such as ./lake"),
    ReservedOption("tables.*.load", _is_one_of("incremental"), "leave `full`"),
    ReservedOption("scoring.load", _is_one_of("incremental"), "leave `full`: the predictions are merged by key"),
    ReservedOption("scoring.shadow", _is_set, "leave it out"),
    ReservedOption("monitoring.drift.method", _is_one_of(*RESERVED_METHODS), "write `method: psi`"),
    ReservedOption("monitoring.labels", _is_set, "leave it out"),
    ReservedOption("monitoring.performance", _is_set, "leave it out"),
    ReservedOption("monitoring.freshness", _is_set, "leave it out"),
    ReservedOption("monitoring.retrain", _is_set, "leave it out"),
)


def reserved_option_faults(root: Node) -> list[Fault]:
    """Return a fault for each value of the spec that this version cannot do."""
    faults: dict[tuple[Key, ...], Fault] = {}
    for option in RESERVED_OPTIONS:
        for path, node in _matches(root, option.path.split(".")):
            if option.is_reserved(node) and path not in faults:
                faults[path] = Fault(*node.fault_place(), dotted_key(path), f"not built yet; {option.instead}")
    return list(faults.values())


def _matches(node: Node, pattern: list[str], path: tuple[Key, ...] = ()) -> Iterator[tuple[tuple[Key, ...], Node]]:
    if not pattern:
        yield path, node
        return
    children: list[tuple[Key, Node]] = [*node.mapping.items(), *enumerate(node.items)]
    for key, child in children:
        if pattern[0] in ("*", key):
            yield from _matches(child, pattern[1:], (*path, key))
