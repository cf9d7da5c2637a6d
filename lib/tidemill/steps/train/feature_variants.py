"""The features of a search: as they are declared, and with the values that its trials put into the block."""

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


def declared_spaces(spec: Spec, *, needs_libraries: bool = True) -> dict[str, Space]:
    """Return what is searched, family by family, in the order of the spec; ``needs_libraries`` is as in `resolve_spaces`.

    Raises:
        SpecError: a family does not suit the task, a parameter or a value is none of its, or a library is missing; all are named.
    """
    pipeline = spec.pipeline
    built_in = {name: family for name, family in pipeline.families.items() if not isinstance(family, CustomFamily)}
    try:
        with search_beside(spec.folder):
            found = resolve_spaces(
                built_in,
                pipeline.task_kind,
                str(spec.file),
                texts=pipeline.has_texts,
                is_implicit=pipeline.training.implicit or False,
                needs_libraries=needs_libraries,
            )
    except SpecError as error:
        raise spec.located(error) from None
    own = {name: family.space for name, family in pipeline.families.items() if isinstance(family, CustomFamily)}
    return {name: own[name] if name in own else found[name] for name in pipeline.families}


Planned = Callable[[Features], FeaturePlan]


class Variants:
    """Plans by the name of their variant (`Trial.variant`), each resolved once."""

    def __init__(self, features: object, declared: FeaturePlan, planned: Planned) -> None:
        """Take the block and its plan, and what makes a plan of another block."""
        self._features, self._planned = features, planned
        self._plans = {NO_VARIANT: declared}
        self._lock = threading.Lock()

    def __call__(self, variant: str) -> FeaturePlan:
        """Return the features of a variant."""
        with self._lock:
            if variant not in self._plans:
                assert isinstance(self._features, Features)  # of `auto` nothing is tuned: see value_problems
                self._plans[variant] = self._planned(with_values(self._features, json.loads(variant)))
            return self._plans[variant]


def feature_space(training: Training) -> Space:
    """Return the parameters of the features, as those of a trial are named."""
    return {f"{PREFIX}{path}": values for path, values in training.features.items()}


def may_need_parts(training: Training) -> bool:
    """Return True where a trial may encode by the label."""
    return any("target" in (values if isinstance(values, list) else [values]) for values in training.features.values())
