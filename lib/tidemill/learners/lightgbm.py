"""LightGBM's trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidemill.learners.base import Rows, Setting
from tidemill.learners.boosting import Boosting, categorical_slots
from tidemill.tasks import TaskKind


class LightGBM(Boosting):
    """LightGBM; models are saved in its text format."""

    def fit(self, rows: Rows, setting: Setting) -> LightGBMScorer:
        """Fit on one core."""
        return LightGBMScorer(self._train(rows, setting), setting.task)

    def fit_until(self, rows: Rows, setting: Setting, unseen: Rows, patience: int) -> tuple[LightGBMScorer, Sequence[float]]:
        """Fit with early stopping on the loss of the held-out rows."""
        import lightgbm

        evaluations: dict[str, dict[str, list[float]]] = {}
        calls = [lightgbm.early_stopping(patience, verbose=False), lightgbm.record_evaluation(evaluations)]
        booster = self._train(rows, setting, unseen, callbacks=calls)
        return LightGBMScorer(booster, setting.task), next(iter(evaluations["unseen"].values()))

    def _train(self, rows: Rows, setting: Setting, unseen: Rows | None = None, **options: Any) -> Any:
        """Train the booster; the binned data set is cached for all fits on the same rows."""
        import lightgbm

        params = self.library_params(setting)
        rounds, bins = int(params.pop("n_estimators", 100)), int(params.pop("max_bin", 255))
        dataset_params = {"max_bin": bins, "num_threads": 1, "verbosity": -1, "feature_pre_filter": False}

        def build_binned() -> Any:
            return lightgbm.Dataset(
                rows.features,
                rows.labels,
                weight=rows.weights,
                categorical_feature=categorical_slots(rows),
                params=dataset_params,
                free_raw_data=False,
            ).construct()

        objective = {"binary": "binary", "multiclass": "multiclass", "regression": "regression"}[setting.task]
        fixed_params = {"objective": objective, "seed": setting.seed, "deterministic": True, "force_row_wise": True}
        classes = {"num_class": setting.n_classes} if setting.task.has_many_classes else {}
        if setting.loss != "squared":
            params |= {"objective": "quantile", "alpha": setting.quantile} if setting.loss == "quantile" else {"objective": "regression_l1"}
        if any(setting.monotone):
            params["monotone_constraints"] = list(setting.monotone)
        data = rows.get_cached(f"lightgbm/{bins}", build_binned)
        if unseen is not None:
            validation = lightgbm.Dataset(unseen.features, unseen.labels, weight=unseen.weights, reference=data, params=dataset_params)
            options |= {"valid_sets": [validation], "valid_names": ["unseen"]}
        return lightgbm.train({**dataset_params, **fixed_params, **classes, **params}, data, rounds, **options)

    def load(self, dump: bytes, task: str) -> LightGBMScorer:
        """Read the model of a dump."""
        import lightgbm

        return LightGBMScorer(lightgbm.Booster(model_str=dump.decode()), task)


@dataclass(frozen=True)
class LightGBMScorer:
    """A fitted model of LightGBM."""

    model: Any
    task: str

    def predict(self, features: np.ndarray, rounds: int | None = None) -> np.ndarray:
        """Return values or probabilities, with only the first ``rounds`` where these are given."""
        predictions = np.asarray(self.model.predict(features, num_iteration=rounds, num_threads=1))
        return np.column_stack([1 - predictions, predictions]) if TaskKind(self.task).has_two_classes else predictions

    def dump(self) -> bytes:
        """Return the model in LightGBM's text format."""
        return str(self.model.model_to_string()).encode()

    def gains(self) -> np.ndarray:
        """Return the total gain of each slot over all splits."""
        return np.asarray(self.model.feature_importance("gain"), dtype=np.float64)

    @property
    def scale(self) -> str:
        """What the contributions add up to."""
        return {"binary": "log-odds", "multiclass": "margin"}.get(self.task, "value")

    def contributions(self, features: np.ndarray) -> np.ndarray:
        """Return the contributions of the slots, and last the mean prediction: (rows, outputs, slots + 1)."""
        every = np.asarray(self.model.predict(features, pred_contrib=True, num_threads=1))
        return every.reshape(len(features), -1, self.model.num_feature() + 1)


LIGHTGBM = LightGBM("lightgbm", "lightgbm", "LGBMClassifier", "n_estimators")
