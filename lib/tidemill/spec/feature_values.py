"""Values that the search puts into the block ``features``, by their path: ``numeric.scale``, ``text.stages.tfidf.min_df``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from tidemill.spec.blocks import Scalar
from tidemill.spec.feature_groups import Features
from tidemill.spec.node import Key, Node

PREFIX = "features."
"""What stands before the path among the parameters of a trial."""


def with_values(features: Features, values: Mapping[str, Scalar]) -> Features:
    """Return the block with each of ``values`` at its path.

    A part of a path is a key, the place of a block in a list (from 0), or the name of a stage of texts.

    Raises:
        ValueError: there is nothing at a path, it names columns, or the block does not take the value.
    """
    plain = features.model_dump(mode="json", by_alias=True, exclude_none=True)
    for path, value in values.items():
        _put(plain, path, value)
    try:
        return Features.model_validate(plain, by_alias=True, by_name=False)
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False)
        shown = ", ".join(f"{path}: {value!r}" for path, value in values.items())
        why = "there is no such key" if first["type"] == "extra_forbidden" else first["msg"]
        raise ValueError(f"{shown} does not fit into `features`: {why}") from error


def value_problems(root: Node) -> Iterator[tuple[tuple[Key, ...], str]]:
    """Yield what is wrong with ``training.features``: paths that lead nowhere and values that do not fit there."""
    declared = root.at("training", "features")
    if declared is None or not declared.mapping:
        return
    block = root.at("features")
    if block is None or not block.mapping:
        yield ("training", "features"), "`features` is `auto`, which chooses by itself; declare the groups that are to be tuned"
        return
    try:
        features = Features.model_validate(block.plain(), by_alias=True, by_name=False)
    except ValidationError:
        return  # its own faults come first
    for path, node in declared.mapping.items():
        for value in _extremes(node):
            try:
                with_values(features, {path: value})
            except ValueError as error:
                yield ("training", "features", path), str(error)
                break


def _extremes(node: Node) -> list[Any]:
    inner = next(iter(node.mapping.values()), node)
    return [item.value for item in inner.items] if inner.items else [inner.value]


def _put(plain: Any, path: str, value: Scalar) -> None:
    *parents, last = path.split(".")
    block: Any = plain
    for part in parents:
        block = _child(block, part, path)
    if last == "columns" or not parents:
        raise ValueError(f"{path!r} is no parameter of a feature group; write such as `numeric.scale`")
    if not isinstance(block, dict):
        raise ValueError(f"there is no {path!r} in `features`: {parents[-1]!r} has several blocks; say which, such as `numeric.0.scale`")
    block[last] = value


def _child(block: Any, part: str, path: str) -> Any:
    """Return what lies at a part of a path; a stage that is written as its name alone becomes a block."""
    if isinstance(block, dict) and block.get(part) is not None:
        return block[part]
    if isinstance(block, list):
        for place, item in enumerate(block):
            if str(place) == part or item == part or (isinstance(item, dict) and list(item) == [part]):
                block[place] = {part: {}} if isinstance(item, str) else item
                return block[place].get(part, block[place])
    raise ValueError(f"there is no {path!r} in `features`: nothing is declared at {part!r}")
