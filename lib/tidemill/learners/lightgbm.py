"""LightGBM's trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidemill.learners.base import Rows, Setting
from tidemill.learners.boosting import Boosting, nominal
from tidemill.tasks import TaskKind


class LightGBM(Boosting):
    """LightGBM; kept as its own text."""

    def fit(self, rows: Rows, setting: Setting) -> LightGBMScorer:
        """Fit on one core."""
        return LightGBMScorer(self._train(rows, setting), setting.task)

    def fit_until(self, rows: Rows, setting: Setting, unseen: Rows, patience: int) -> tuple[LightGBMScorer, Sequence[float]]:
        """Fit until the loss of unseen rows falls no more."""
        import lightgbm

        told: dict[str, dict[str, list[float]]] = {}
        calls = [lightgbm.early_stopping(patience, verbose=False), lightgbm.record_evaluation(told)]
        booster = self._train(rows, setting, unseen, callbacks=calls)
        return LightGBMScorer(booster, setting.task), next(iter(told["unseen"].values()))

    def _train(self, rows: Rows, setting: Setting, unseen: Rows | None = None, **more: Any) -> Any:
        """Return the booster; bins are made once for all fits on the same rows."""
        import lightgbm

        given = self.given(setting)
        rounds, bins = int(given.pop("n_estimators", 100)), int(given.pop("max_bin", 255))
        alike = {"max_bin": bins, "num_threads": 1, "verbosity": -1, "feature_pre_filter": False}

        def binned() -> Any:
            return lightgbm.Dataset(
                rows.features, rows.labels, weight=rows.weights, categorical_feature=nominal(rows), params=alike, free_raw_data=False
            ).construct()

        objective = {"binary": "binary", "multiclass": "multiclass", "regression": "regression"}[setting.task]
        own = {"objective": objective, "seed": setting.seed, "deterministic": True, "force_row_wise": True}
        classes = {"num_class": setting.n_classes} if setting.task.has_many_classes else {}
        if setting.loss != "squared":
            given |= {"objective": "quantile", "alpha": setting.quantile} if setting.loss == "quantile" else {"objective": "regression_l1"}
        if any(setting.monotone):
            given["monotone_constraints"] = list(setting.monotone)
        data = rows.kept(f"lightgbm/{bins}", binned)
        if unseen is not None:
            watched = lightgbm.Dataset(unseen.features, unseen.labels, weight=unseen.weights, reference=data, params=alike)
            more |= {"valid_sets": [watched], "valid_names": ["unseen"]}
        return lightgbm.train({**alike, **own, **classes, **given}, data, rounds, **more)

    def load(self, dump: bytes, task: str) -> LightGBMScorer:
        """Return the model that ``dump`` wrote."""
        import lightgbm

        return LightGBMScorer(lightgbm.Booster(model_str=dump.decode()), task)


@dataclass(frozen=True)
class LightGBMScorer:
    """A fitted model of LightGBM's."""

    model: Any
    task: str

    def predict(self, features: np.ndarray, rounds: int | None = None) -> np.ndarray:
        """Return values or probabilities, of the first ``rounds`` alone where they are given."""
        found = np.asarray(self.model.predict(features, num_iteration=rounds, num_threads=1))
        return np.column_stack([1 - found, found]) if TaskKind(self.task).has_two_classes else found

    def dump(self) -> bytes:
        """Return the model as LightGBM's text."""
        return str(self.model.model_to_string()).encode()

    def gains(self) -> np.ndarray:
        """Return what each slot gained in all splits by it."""
        return np.asarray(self.model.feature_importance("gain"), dtype=np.float64)


LIGHTGBM = LightGBM("lightgbm", "lightgbm", "LGBMClassifier", "n_estimators")
