"""scikit-learn's boosted trees on histograms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from tidemill.learners.base import Rows, Setting, dumped, loaded, spread
from tidemill.learners.boosting import Boosting, nominal
from tidemill.tasks import TaskKind


class Histogram(Boosting):
    """scikit-learn's histogram boosting; kept in the format of skops."""

    def fit(self, rows: Rows, setting: Setting) -> HistogramScorer:
        """Fit on one core."""
        return HistogramScorer(
            self._model(rows, setting, early_stopping=False).fit(rows.features, rows.labels, rows.weights), setting.task, setting.n_classes
        )

    def fit_until(self, rows: Rows, setting: Setting, unseen: Rows, patience: int) -> tuple[HistogramScorer, Sequence[float]]:
        """Fit until the loss of unseen rows falls no more."""
        model = self._model(rows, setting, early_stopping=True, n_iter_no_change=patience, scoring="loss", tol=0.0)
        # Of a class that no row to learn from has, scikit-learn knows no loss.
        can_be = np.full(len(unseen.labels), True) if setting.task.predicts_number else np.isin(unseen.labels, rows.labels)
        counts = None if unseen.weights is None else unseen.weights[can_be]
        watched = {"X_val": unseen.features[can_be], "y_val": unseen.labels[can_be], "sample_weight_val": counts}
        model.fit(rows.features, rows.labels, rows.weights, **watched)
        return HistogramScorer(model, setting.task, setting.n_classes), list(-model.validation_score_[1:])  # the first is of no round

    def _model(self, rows: Rows, setting: Setting, **more: Any) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingRegressor if setting.task.predicts_number else HistGradientBoostingClassifier
        # What a spec leaves out of MLlib's parameters is as MLlib has it, where that is a matter of size.
        size = {"max_iter": 20, "max_depth": 5} if self.renamed else {}
        given = {**size, **more, "categorical_features": nominal(rows), **self.given(setting)}
        if "max_bins" in given:
            given["max_bins"] = min(int(given["max_bins"]), 255)
        if self.renamed:
            given["max_leaf_nodes"] = None  # depth alone bounds the trees of MLlib
        if setting.loss != "squared":
            given |= {"loss": "quantile", "quantile": setting.quantile} if setting.loss == "quantile" else {"loss": "absolute_error"}
        if any(setting.monotone):
            given["monotonic_cst"] = list(setting.monotone)
        return kind(random_state=setting.seed, **given)

    def load(self, dump: bytes, task: str) -> HistogramScorer:
        """Return the model that ``dump`` wrote."""
        model, n_classes = loaded(dump)
        return HistogramScorer(model, task, n_classes)


@dataclass(frozen=True)
class HistogramScorer:
    """A fitted model of scikit-learn's."""

    model: Any
    task: str
    n_classes: int

    def predict(self, features: np.ndarray, rounds: int | None = None) -> np.ndarray:
        """Return values or probabilities, of the first ``rounds`` alone where they are given."""
        model = self.model
        if TaskKind(self.task).predicts_number:
            stages: Iterable[np.ndarray] = model.staged_predict(features) if rounds else [model.predict(features)]
            return np.asarray(next(islice(stages, (rounds or 1) - 1, None)))
        stages = model.staged_predict_proba(features) if rounds else [model.predict_proba(features)]
        return spread(np.asarray(next(islice(stages, (rounds or 1) - 1, None))), model.classes_, self.n_classes)

    def dump(self) -> bytes:
        """Return the model in the format of skops."""
        return dumped(self.model, self.n_classes)

    def gains(self) -> np.ndarray:
        """Return what each slot gained in all splits by it; scikit-learn keeps that in its trees."""
        gains = np.zeros(self.model.n_features_in_)
        slots = self._slots_of_trees()
        for trees in self.model._predictors:
            for tree in trees:
                splits = tree.nodes[tree.nodes["is_leaf"] == 0]
                np.add.at(gains, slots[splits["feature_idx"]], splits["gain"])
        return gains

    def _slots_of_trees(self) -> np.ndarray:
        """Return the slot behind each feature index of the trees: scikit-learn moves categories in front of numbers before it learns."""
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
