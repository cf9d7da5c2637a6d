"""Which keys the spec's models allow at a place, for nearest matches."""

from __future__ import annotations

import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from tidemill.spec.models import Pipeline
from tidemill.spec.node import Key

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
    """Take unions and annotations apart."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for member in get_args(annotation) for part in _alternatives(member)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
