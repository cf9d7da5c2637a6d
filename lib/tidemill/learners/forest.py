"""scikit-learn's random forests, by MLlib's parameter names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidemill.learners.base import Layout, OneByOne, Rows, Setting, dumped, loaded, spread, within_float32

_NAMES = frozenset({"numTrees", "maxDepth", "minInstancesPerNode", "subsamplingRate", "featureSubsetStrategy", "impurity"})
_SHARES: Mapping[str, Any] = {"all": None, "sqrt": "sqrt", "log2": "log2", "onethird": 1 / 3}
_IMPURITIES = {"gini": "gini", "entropy": "entropy", "variance": "squared_error"}


@dataclass(frozen=True)
class Forest(OneByOne):
    """Random forests; rows are drawn with replacement, as MLlib draws them, and categories are numbers in the order of their frequency."""

    package: str = "scikit-learn"
    layout: Layout = "dense"

    def unknown_parameters(self, names: Mapping[str, object], task: str) -> list[str]:
        """Return the parameters that this learner does not know."""
        return [name for name in names if name not in _NAMES]

    def fit(self, rows: Rows, setting: Setting) -> ForestScorer:
        """Fit on one core."""
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        params, is_regression = setting.params, setting.task.predicts_number
        share = float(params.get("subsamplingRate", 1.0))
        model = (RandomForestRegressor if is_regression else RandomForestClassifier)(
            n_estimators=int(params.get("numTrees", 20)),
            max_depth=int(params.get("maxDepth", 5)),
            min_samples_leaf=int(params.get("minInstancesPerNode", 1)),
            max_samples=share if share < 1 else None,
            max_features=_share(str(params.get("featureSubsetStrategy", "auto")), is_regression),
            criterion=_IMPURITIES[str(params.get("impurity", "variance" if is_regression else "gini"))],
            random_state=setting.seed,
            n_jobs=1,
        )
        return ForestScorer(model.fit(within_float32(rows.features), rows.labels, sample_weight=rows.weights), setting.n_classes)

    def load(self, dump: bytes, task: str) -> ForestScorer:
        """Return the model that ``dump`` wrote."""
        return ForestScorer(*loaded(dump))


@dataclass(frozen=True)
class ForestScorer:
    """A fitted forest."""

    model: Any
    n_classes: int

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return values or probabilities."""
        features = within_float32(features)
        if not self.n_classes:
            return np.asarray(self.model.predict(features))
        return spread(self.model.predict_proba(features), self.model.classes_, self.n_classes)

    def dump(self) -> bytes:
        """Return the model in the format of skops."""
        return dumped(self.model, self.n_classes)

    def gains(self) -> np.ndarray:
        """Return what each slot gained in all splits by it."""
        return np.asarray(self.model.feature_importances_)


def _share(strategy: str, is_regression: bool) -> Any:
    """Return how many slots a split may choose from, as MLlib's ``featureSubsetStrategy`` says it."""
    if strategy == "auto":
        return 1 / 3 if is_regression else "sqrt"
    if strategy in _SHARES:
        return _SHARES[strategy]
    return int(strategy) if strategy.isdecimal() else float(strategy)


FOREST = Forest()
