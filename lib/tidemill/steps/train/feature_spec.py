"""The declared features of a model: their record in the manifest, and the comparison with the current spec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from tidemill.errors import StepError
from tidemill.lake import Lake
from tidemill.lake.ops import FeatureRow
from tidemill.model_registry import Deployments, Manifest, read_manifest
from tidemill.model_registry.manifest import model_fault
from tidemill.spec.models import Features

if TYPE_CHECKING:
    from tidemill.features import FeaturePlan
    from tidemill.steps.result import StepContext


_ABSENT = "absent"


def declared_features(features: Literal["auto"] | Features) -> object:
    """Return the block ``features`` as plain values, without ``checks``, which change no feature."""
    plain = features if isinstance(features, str) else features.model_dump(mode="json", by_alias=True, exclude={"checks"})
    return "auto" if isinstance(plain, dict) and not any(plain.values()) else plain


def record_choices(context: StepContext, plan: FeaturePlan) -> None:
    """Write the choices of `features: auto` to ``ops.features``, one row per column; none where features are declared."""
    run = context.run_columns
    rows = [FeatureRow(**run, position=place, **choice.row()) for place, choice in enumerate(plan.choices)]
    context.lake.ledger.put(FeatureRow, rows, where=run)


def _with_current_keys(features: object) -> object:
    """Return the block of an earlier release with the defaults of keys that were added since."""
    if not isinstance(features, dict):
        return features
    try:
        return declared_features(Features.model_validate(features, by_alias=True, by_name=False))
    except ValidationError:
        return features


def check_same_features(lake: Lake, pipeline: str, features: Literal["auto"] | Features, manifest: Manifest) -> None:
    """Refuse a model that was trained with other features than the spec declares.

    Where a later version was trained with the declared features, the older one is champion by a gate or a person's decision, and scores.

    Raises:
        StepError: the features differ; each difference is named.
    """
    declared, trained = declared_features(features), _with_current_keys(manifest.features)
    if trained is None or trained == declared:
        return
    latest = max(Deployments(lake.ledger, pipeline).states(), default=manifest.version)
    is_later = latest != manifest.version and model_fault(lake, pipeline, latest) is None
    if is_later and _with_current_keys(read_manifest(lake, pipeline, latest).features) == declared:
        return
    differences = list(_differences("features", trained, declared))
    raise StepError(
        f"model {manifest.version} of {pipeline} was trained with other features than the spec declares: {'; '.join(differences[:5])}; "
        "run train to fit a model of these features, or restore the old ones in the spec"
    )


def _differences(path: str, was: object, now: object) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*was, *now)):
            yield from _differences(f"{path}.{key}", was.get(key), now.get(key))
    elif isinstance(was, list) and isinstance(now, list) and sorted(map(str, was)) != sorted(map(str, now)):
        gone, new = [str(item) for item in was if item not in now], [str(item) for item in now if item not in was]
        changes = [f"{word} {', '.join(items)}" for word, items in (("without", gone), ("with", new)) if items]
        yield f"{path}: now {' and '.join(changes)}"
    elif was != now:
        yield f"{path}: was {_word(was)}, now {_word(now)}"


def _word(value: object) -> str:
    return _ABSENT if value is None else "a block" if isinstance(value, dict) else str(value)
