"""XGBoost's trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidemill.learners.base import Rows, Setting, within_float32
from tidemill.learners.boosting import Boosting, categorical_slots
from tidemill.tasks import TaskKind


class XGBoost(Boosting):
    """XGBoost with histograms; models are saved in its binary JSON format."""

    def fit(self, rows: Rows, setting: Setting) -> XGBoostScorer:
        """Fit on one core."""
        return XGBoostScorer(self._train(rows, setting), setting.task)

    def fit_until(self, rows: Rows, setting: Setting, unseen: Rows, patience: int) -> tuple[XGBoostScorer, Sequence[float]]:
        """Fit with early stopping on the loss of the held-out rows."""
        import xgboost

        evaluations: dict[str, dict[str, list[float]]] = {}
        kinds = {"feature_types": _feature_types(rows), "enable_categorical": True, "nthread": 1}
        matrix = xgboost.DMatrix(within_float32(unseen.features), unseen.labels, weight=unseen.weights, **kinds)
        validation = {"evals": [(matrix, "unseen")], "early_stopping_rounds": patience, "evals_result": evaluations, "verbose_eval": False}
        booster = self._train(rows, setting, **validation)
        return XGBoostScorer(booster, setting.task), list(evaluations["unseen"].values())[-1]

    def _train(self, rows: Rows, setting: Setting, **validation: Any) -> Any:
        """Train the booster; the binned matrix is cached for all fits on the same rows."""
        import xgboost

        params = self.library_params(setting)
        rounds, bins = int(params.pop("n_estimators", 100)), int(params.pop("max_bin", 256))
        types = _feature_types(rows)

        def build_binned() -> Any:
            kinds = {"feature_types": types, "enable_categorical": True, "max_bin": bins, "nthread": 1}
            return xgboost.QuantileDMatrix(within_float32(rows.features), rows.labels, weight=rows.weights, **kinds)

        objective = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}[setting.task]
        fixed_params = {"objective": objective, "seed": setting.seed, "nthread": 1, "tree_method": "hist", "max_bin": bins, "verbosity": 0}
        classes = {"num_class": setting.n_classes} if setting.task.has_many_classes else {}
        params |= self.loss_params(setting.loss, setting.quantile, setting.monotone)
        return xgboost.train({**fixed_params, **classes, **params}, rows.get_cached(f"xgboost/{bins}", build_binned), rounds, **validation)

    def loss_params(self, loss: str, quantile: float | None, monotone: Sequence[int]) -> dict[str, Any]:
        """Return the parameters for a loss other than the squared one, and for monotone slots."""
        params: dict[str, Any] = {"monotone_constraints": f"({','.join(map(str, monotone))})"} if any(monotone) else {}
        if loss == "quantile":
            params |= {"objective": "reg:quantileerror", "quantile_alpha": quantile}
        return params | {"objective": "reg:absoluteerror"} if loss == "absolute" else params

    def load(self, dump: bytes, task: str) -> XGBoostScorer:
        """Read the model of a dump."""
        import xgboost

        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(dump))
        return XGBoostScorer(booster, task)


@dataclass(frozen=True)
class XGBoostScorer:
    """A fitted model of XGBoost."""

    model: Any
    task: str

    def predict(self, features: np.ndarray, rounds: int | None = None) -> np.ndarray:
        """Return values or probabilities, with only the first ``rounds`` where these are given."""
        import xgboost

        matrix = xgboost.DMatrix(within_float32(features), feature_types=self.model.feature_types, enable_categorical=True, nthread=1)
        predictions = self.model.predict(matrix, iteration_range=(0, rounds or 0)).astype(np.float64)
        if TaskKind(self.task).predicts_number:
            return predictions.reshape(len(features))
        return np.column_stack([1 - predictions, predictions]) if TaskKind(self.task).has_two_classes else predictions

    def dump(self) -> bytes:
        """Return the model in XGBoost's own format."""
        return bytes(self.model.save_raw("ubj"))

    def gains(self) -> np.ndarray:
        """Return the total gain of each slot over all splits."""
        return booster_gains(self.model)

    @property
    def scale(self) -> str:
        """What the contributions add up to."""
        return {"binary": "log-odds", "multiclass": "margin"}.get(self.task, "value")

    def contributions(self, features: np.ndarray) -> np.ndarray:
        """Return the contributions of the slots, and last the mean prediction: (rows, outputs, slots + 1)."""
        import xgboost

        matrix = xgboost.DMatrix(within_float32(features), feature_types=self.model.feature_types, enable_categorical=True, nthread=1)
        return np.asarray(self.model.predict(matrix, pred_contribs=True, strict_shape=True), dtype=np.float64)


def booster_gains(booster: Any) -> np.ndarray:
    """Return the total gain of each slot over all splits; XGBoost names slots ``f0``, ``f1`` and so on."""
    gains = np.zeros(booster.num_features())
    for name, gain in booster.get_score(importance_type="total_gain").items():
        gains[int(name.removeprefix("f"))] = gain
    return gains


def _feature_types(rows: Rows) -> list[str]:
    categories = set(categorical_slots(rows))
    return ["c" if slot in categories else "q" for slot in range(rows.features.shape[1])]


XGBOOST = XGBoost("xgboost", "xgboost", "XGBClassifier", "n_estimators")
