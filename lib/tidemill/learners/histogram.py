"""scikit-learn's boosted trees on histograms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from tidemill.learners.base import Rows, Setting, dump_skops, expand_classes, load_skops
from tidemill.learners.boosting import Boosting, categorical_slots
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

    def _slots_of_trees(self) -> np.ndarray:
        """Return the slot of each feature index of the trees: scikit-learn moves categorical slots to the front before fitting."""
        is_categorical = self.model.is_categorical_
        if is_categorical is None:
            return np.arange(self.model.n_features_in_)
        return np.r_[np.flatnonzero(is_categorical), np.flatnonzero(~is_categorical)]


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
