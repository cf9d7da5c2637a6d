"""The features that a model was trained with, against those that the spec declares now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from tidemill.errors import StepError
from tidemill.lake import Lake
from tidemill.registry import Deployments, Manifest, load_manifest
from tidemill.spec.models import Features

_ABSENT = "absent"


def declared_features(features: Literal["auto"] | Features) -> object:
    """Return the block as plain values, without ``checks``, which change no feature."""
    plain = features if isinstance(features, str) else features.model_dump(mode="json", by_alias=True, exclude={"checks"})
    return "auto" if isinstance(plain, dict) and not any(plain.values()) else plain


def refuse_other_features(lake: Lake, pipeline: str, features: Literal["auto"] | Features, manifest: Manifest) -> None:
    """Refuse a model that was trained with other features than the spec declares.

    Where a later version was trained with these, the older one reigns by a gate's or a person's word, and scores.

    Raises:
        StepError: the features differ; each difference is named.
    """
    declared = declared_features(features)
    if manifest.features is None or manifest.features == declared:
        return
    latest = max(Deployments(lake.ledger, pipeline).states(), default=manifest.version)
    if latest != manifest.version and load_manifest(lake, pipeline, latest).features == declared:
        return
    differences = list(_differences("features", manifest.features, declared))
    raise StepError(
        f"model {manifest.version} of {pipeline} was trained with other features than the spec declares: {'; '.join(differences[:5])}; "
        "run train to make a model of these features, or put the old ones back into the spec"
    )


def _differences(path: str, was: object, now: object) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*was, *now)):
            yield from _differences(f"{path}.{key}", was.get(key), now.get(key))
    elif isinstance(was, list) and isinstance(now, list) and sorted(map(str, was)) != sorted(map(str, now)):
        gone, new = [str(item) for item in was if item not in now], [str(item) for item in now if item not in was]
        said = [f"{word} {', '.join(items)}" for word, items in (("without", gone), ("with", new)) if items]
        yield f"{path}: now {' and '.join(said)}"
    elif was != now:
        yield f"{path}: was {_word(was)}, now {_word(now)}"


def _word(value: object) -> str:
    return _ABSENT if value is None else "a block" if isinstance(value, dict) else str(value)
