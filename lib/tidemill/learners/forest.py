"""scikit-learn's random forests, by MLlib's parameter names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tidemill.learners.base import Layout, Rows, Setting, SingleFitLearner, dump_skops, expand_classes, load_skops, within_float32
from tidemill.learners.tree_shap import Tree, TreeEnsemble

_NAMES = frozenset({"numTrees", "maxDepth", "minInstancesPerNode", "subsamplingRate", "featureSubsetStrategy", "impurity"})
_FEATURE_SUBSETS: Mapping[str, Any] = {"all": None, "sqrt": "sqrt", "log2": "log2", "onethird": 1 / 3}
_IMPURITIES = {"gini": "gini", "entropy": "entropy", "variance": "squared_error"}


@dataclass(frozen=True)
class Forest(SingleFitLearner):
    """Random forests; rows are sampled with replacement, as in MLlib, and categories are numbers in order of frequency."""

    package: str = "scikit-learn"
    layout: Layout = "dense"

    def unknown_parameters(self, names: Mapping[str, object], task: str) -> list[str]:
        """Return the parameters that this learner does not support."""
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
            max_features=_max_features(str(params.get("featureSubsetStrategy", "auto")), is_regression),
            criterion=_IMPURITIES[str(params.get("impurity", "variance" if is_regression else "gini"))],
            random_state=setting.seed,
            n_jobs=1,
        )
        return ForestScorer(model.fit(within_float32(rows.features), rows.labels, sample_weight=rows.weights), setting.n_classes)

    def load(self, dump: bytes, task: str) -> ForestScorer:
        """Read the model of a dump."""
        return ForestScorer(*load_skops(dump))


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
        return expand_classes(self.model.predict_proba(features), self.model.classes_, self.n_classes)

    def dump(self) -> bytes:
        """Return the model in the format of skops."""
        return dump_skops(self.model, self.n_classes)

    def gains(self) -> np.ndarray:
        """Return the total gain of each slot over all splits."""
        return np.asarray(self.model.feature_importances_)

    @property
    def scale(self) -> str:
        """What the contributions add up to: trees average values or probabilities."""
        return "probability" if self.n_classes else "value"

    def contributions(self, features: np.ndarray) -> np.ndarray:
        """Return the contributions of the slots, and last the mean prediction: (rows, outputs, slots + 1)."""
        every = self._trees.contributions(within_float32(features).astype(np.float32))
        if not self.n_classes:
            return every
        expanded = np.zeros((len(every), self.n_classes, every.shape[2]))
        expanded[:, self.model.classes_.astype(int)] = every
        return expanded[:, 1:] if self.n_classes == 2 else expanded

    @cached_property
    def _trees(self) -> TreeEnsemble:
        trees = [_convert_tree(estimator.tree_, is_value=not self.n_classes) for estimator in self.model.estimators_]
        return TreeEnsemble(trees, [1 / len(trees)] * len(trees), np.zeros(trees[0].values.shape[1]), self.model.n_features_in_)


def _convert_tree(tree: Any, *, is_value: bool) -> Tree:
    values = tree.value[:, 0, :]
    is_split, slots, to_left = tree.children_left >= 0, np.maximum(tree.feature, 0), tree.missing_go_to_left.astype(bool)

    def goes_left(vectors: np.ndarray) -> np.ndarray:
        seen = vectors[:, slots]
        return np.where(np.isnan(seen), to_left, seen <= tree.threshold)

    return Tree(
        np.where(is_split, tree.feature, -1),
        tree.children_left,
        tree.children_right,
        tree.weighted_n_node_samples,
        values if is_value else values / values.sum(axis=1, keepdims=True),
        goes_left,
    )


def _max_features(strategy: str, is_regression: bool) -> Any:
    """Return scikit-learn's ``max_features`` for MLlib's ``featureSubsetStrategy``."""
    if strategy == "auto":
        return 1 / 3 if is_regression else "sqrt"
    if strategy in _FEATURE_SUBSETS:
        return _FEATURE_SUBSETS[strategy]
    return int(strategy) if strategy.isdecimal() else float(strategy)


FOREST = Forest()
