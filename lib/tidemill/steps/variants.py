"""The features of a search: as they are declared, and with the values that its trials put into the block."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from tidemill.features import FeaturePlan
from tidemill.spec.feature_values import PREFIX, with_values
from tidemill.spec.models import Features, Space, Training
from tidemill.training.folds import NO_VARIANT

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
