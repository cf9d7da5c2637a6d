"""The features and spaces of a search: as declared, and with the feature values of its trials."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from tidemill.errors import SpecError
from tidemill.extensions import search_beside
from tidemill.families import resolve_spaces
from tidemill.features import FeaturePlan
from tidemill.spec.loading.loader import Spec
from tidemill.spec.models import PREFIX, CustomFamily, Features, Space, Training, with_values
from tidemill.training.folds import NO_VARIANT


def resolve_declared_spaces(spec: Spec, *, needs_libraries: bool = True) -> dict[str, Space]:
    """Return what is cross_validate_and_select, family by family, in the order of the spec; ``needs_libraries`` is as in `resolve_spaces`.

    Raises:
        SpecError: a family does not suit the task, has no such parameter or value, or lacks a library; every fault is named.
    """
    pipeline = spec.pipeline
    built_in = {name: family for name, family in pipeline.families.items() if not isinstance(family, CustomFamily)}
    try:
        with search_beside(spec.folder):
            spaces = resolve_spaces(
                built_in,
                pipeline.task_kind,
                str(spec.file),
                texts=pipeline.has_texts,
                is_implicit=pipeline.training.implicit or False,
                needs_libraries=needs_libraries,
            )
    except SpecError as error:
        raise spec.locate_faults(error) from None
    own = {name: family.space for name, family in pipeline.families.items() if isinstance(family, CustomFamily)}
    return {name: own[name] if name in own else spaces[name] for name in pipeline.families}


PlanFeatures = Callable[[Features], FeaturePlan]


class FeatureVariants:
    """Feature plans by variant (`Trial.variant`), each resolved once."""

    def __init__(self, features: object, declared: FeaturePlan, plan_features: PlanFeatures) -> None:
        """Store the block, its plan, and a function that plans another block."""
        self._features, self._plan_features = features, plan_features
        self._plans = {NO_VARIANT: declared}
        self._lock = threading.Lock()

    def __call__(self, variant: str) -> FeaturePlan:
        """Return the features of a variant."""
        with self._lock:
            if variant not in self._plans:
                assert isinstance(self._features, Features)  # `auto` is never tuned: see value_problems
                self._plans[variant] = self._plan_features(with_values(self._features, json.loads(variant)))
            return self._plans[variant]


def build_feature_space(training: Training) -> Space:
    """Return the space of the feature parameters, under their names in trials."""
    return {f"{PREFIX}{path}": values for path, values in training.features.items()}


def may_need_parts(training: Training) -> bool:
    """Return True where a trial may use target encoding."""
    return any("target" in (values if isinstance(values, list) else [values]) for values in training.features.values())
