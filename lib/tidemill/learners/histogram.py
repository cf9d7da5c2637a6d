"""scikit-learn's boosted trees on histograms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from tidemill.learners.base import Rows, Setting, dump_skops, expand_classes, load_skops
from tidemill.learners.boosting import Boosting, categorical_slots
from tidemill.learners.tree_shap import Tree, TreeEnsemble
from tidemill.tasks import TaskKind


class Histogram(Boosting):
    """scikit-learn's histogram boosting; models are saved in the format of skops."""

    def fit(self, rows: Rows, setting: Setting) -> HistogramScorer:
        """Fit on one core."""
        return HistogramScorer(
            self._build_model(rows, setting, early_stopping=False).fit(rows.features, rows.labels, rows.weights),
            setting.task,
            setting.n_classes,
        )

    def fit_until(self, rows: Rows, setting: Setting, unseen: Rows, patience: int) -> tuple[HistogramScorer, Sequence[float]]:
        """Fit with early stopping on the loss of the held-out rows."""
        model = self._build_model(rows, setting, early_stopping=True, n_iter_no_change=patience, scoring="loss", tol=0.0)
        # scikit-learn has no loss for classes without training rows.
        is_known_class = np.full(len(unseen.labels), True) if setting.task.predicts_number else np.isin(unseen.labels, rows.labels)
        validation_weights = None if unseen.weights is None else unseen.weights[is_known_class]
        validation = {
            "X_val": unseen.features[is_known_class],
            "y_val": unseen.labels[is_known_class],
            "sample_weight_val": validation_weights,
        }
        model.fit(rows.features, rows.labels, rows.weights, **validation)
        return HistogramScorer(model, setting.task, setting.n_classes), list(
            -model.validation_score_[1:]
        )  # the first is the loss before any round

    def _build_model(self, rows: Rows, setting: Setting, **options: Any) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        estimator = HistGradientBoostingRegressor if setting.task.predicts_number else HistGradientBoostingClassifier
        # Under MLlib's names, the number and depth of trees have MLlib's defaults.
        size = {"max_iter": 20, "max_depth": 5} if self.renamed else {}
        params = {**size, **options, "categorical_features": categorical_slots(rows), **self.library_params(setting)}
        if "max_bins" in params:
            params["max_bins"] = min(int(params["max_bins"]), 255)
        if self.renamed:
            params["max_leaf_nodes"] = None  # MLlib bounds trees by depth only
        if setting.loss != "squared":
            params |= {"loss": "quantile", "quantile": setting.quantile} if setting.loss == "quantile" else {"loss": "absolute_error"}
        if any(setting.monotone):
            params["monotonic_cst"] = list(setting.monotone)
        return estimator(random_state=setting.seed, **params)

    def load(self, dump: bytes, task: str) -> HistogramScorer:
        """Read the model of a dump."""
        model, n_classes = load_skops(dump)
        return HistogramScorer(model, task, n_classes)


@dataclass(frozen=True)
class HistogramScorer:
    """A fitted model of scikit-learn."""

    model: Any
    task: str
    n_classes: int

    def predict(self, features: np.ndarray, rounds: int | None = None) -> np.ndarray:
        """Return values or probabilities, with only the first ``rounds`` where these are given."""
        model = self.model
        if TaskKind(self.task).predicts_number:
            stages: Iterable[np.ndarray] = model.staged_predict(features) if rounds else [model.predict(features)]
            return np.asarray(next(islice(stages, (rounds or 1) - 1, None)))
        stages = model.staged_predict_proba(features) if rounds else [model.predict_proba(features)]
        return expand_classes(np.asarray(next(islice(stages, (rounds or 1) - 1, None))), model.classes_, self.n_classes)

    def dump(self) -> bytes:
        """Return the model in the format of skops."""
        return dump_skops(self.model, self.n_classes)

    def gains(self) -> np.ndarray:
        """Return the total gain of each slot over all splits, from the trees of scikit-learn."""
        gains = np.zeros(self.model.n_features_in_)
        slots = self._slots_of_trees()
        for trees in self.model._predictors:
            for tree in trees:
                splits = tree.nodes[tree.nodes["is_leaf"] == 0]
                np.add.at(gains, slots[splits["feature_idx"]], splits["gain"])
        return gains

    @property
    def scale(self) -> str:
        """What the contributions add up to."""
        return {"binary": "log-odds", "multiclass": "margin"}.get(self.task, "value")

    def contributions(self, features: np.ndarray) -> np.ndarray:
        """Return the contributions of the slots, and last the mean prediction: (rows, outputs, slots + 1)."""
        every = self._trees.contributions(np.asarray(self.model._preprocess_X(features, reset=False)))
        every[:, :, :-1] = every[:, :, np.argsort(self._slots_of_trees())]
        if not TaskKind(self.task).has_many_classes:
            return every
        if every.shape[1] == 1:  # two of the classes have training rows
            every = np.concatenate([np.zeros_like(every), every], axis=1)
        expanded = np.zeros((len(every), self.n_classes, every.shape[2]))
        expanded[:, self.model.classes_.astype(int)] = every
        return expanded

    @cached_property
    def _trees(self) -> TreeEnsemble:
        model, bias = self.model, np.ravel(self.model._baseline_prediction).astype(float)
        known, places = model._bin_mapper.make_known_categories_bitsets()
        trees = [_convert_tree(tree, output, len(bias), known[places]) for each in model._predictors for output, tree in enumerate(each)]
        return TreeEnsemble(trees, [1.0] * len(trees), bias, model.n_features_in_)

    def _slots_of_trees(self) -> np.ndarray:
        """Return the slot of each feature index of the trees: scikit-learn moves categorical slots to the front before fitting."""
        is_categorical = self.model.is_categorical_
        if is_categorical is None:
            return np.arange(self.model.n_features_in_)
        return np.r_[np.flatnonzero(is_categorical), np.flatnonzero(~is_categorical)]


def _convert_tree(tree: Any, output: int, n_outputs: int, known: np.ndarray) -> Tree:
    """Convert a tree that adds to one of the outputs; ``known`` has the bits of the known categories of each slot."""
    nodes = tree.nodes
    is_split, to_left = nodes["is_leaf"] == 0, nodes["missing_go_to_left"].astype(bool)
    slots = np.where(is_split, nodes["feature_idx"].astype(np.int64), 0)
    values = np.zeros((len(nodes), n_outputs))
    values[:, output] = nodes["value"]
    categorical = np.flatnonzero(is_split & (nodes["is_categorical"] == 1))

    def goes_left(vectors: np.ndarray) -> np.ndarray:
        seen = vectors[:, slots]
        left = np.where(np.isnan(seen), to_left, seen <= nodes["num_threshold"])
        for node in categorical:
            value = seen[:, node]
            category = np.where(np.isnan(value) | (value < 0) | (value > 255), 0, value).astype(np.int64)
            is_known = ~np.isnan(value) & _has_bit(known[slots[node]], category)
            left[:, node] = np.where(is_known, _has_bit(tree.raw_left_cat_bitsets[nodes["bitset_idx"][node]], category), to_left[node])
        return left

    left, right = (np.where(is_split, nodes[side].astype(np.int64), -1) for side in ("left", "right"))
    return Tree(np.where(is_split, slots, -1), left, right, nodes["count"].astype(float), values, goes_left)


def _has_bit(words: np.ndarray, places: np.ndarray) -> np.ndarray:
    return (words[places >> 5] >> (places & 31).astype(np.uint32)) & 1 == 1


BOOSTED_TREES = Histogram(
    "scikit-learn",
    "sklearn.ensemble",
    "HistGradientBoostingClassifier",
    "maxIter",
    renamed={
        "maxIter": "max_iter",
        "maxDepth": "max_depth",
        "stepSize": "learning_rate",
        "minInstancesPerNode": "min_samples_leaf",
        "maxBins": "max_bins",
    },
)
HISTOGRAM = Histogram("scikit-learn", "sklearn.ensemble", "HistGradientBoostingClassifier", "max_iter")
