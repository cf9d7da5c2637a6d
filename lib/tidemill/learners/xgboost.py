"""XGBoost's trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidemill.learners.base import Rows, Setting, within_float32
from tidemill.learners.boosting import Boosting, nominal
from tidemill.tasks import TaskKind


class XGBoost(Boosting):
    """XGBoost by histograms; kept in its own binary JSON."""

    def fit(self, rows: Rows, setting: Setting) -> XGBoostScorer:
        """Fit on one core."""
        return XGBoostScorer(self._train(rows, setting), setting.task)

    def fit_until(self, rows: Rows, setting: Setting, unseen: Rows, patience: int) -> tuple[XGBoostScorer, Sequence[float]]:
        """Fit until the loss of unseen rows falls no more."""
        import xgboost

        told: dict[str, dict[str, list[float]]] = {}
        kinds = {"feature_types": _feature_types(rows), "enable_categorical": True, "nthread": 1}
        matrix = xgboost.DMatrix(within_float32(unseen.features), unseen.labels, weight=unseen.weights, **kinds)
        watched = {"evals": [(matrix, "unseen")], "early_stopping_rounds": patience, "evals_result": told, "verbose_eval": False}
        booster = self._train(rows, setting, **watched)
        return XGBoostScorer(booster, setting.task), list(told["unseen"].values())[-1]

    def _train(self, rows: Rows, setting: Setting, **watched: Any) -> Any:
        """Return the booster; bins are made once for all fits on the same rows."""
        import xgboost

        given = self.given(setting)
        rounds, bins = int(given.pop("n_estimators", 100)), int(given.pop("max_bin", 256))
        types = _feature_types(rows)

        def binned() -> Any:
            kinds = {"feature_types": types, "enable_categorical": True, "max_bin": bins, "nthread": 1}
            return xgboost.QuantileDMatrix(within_float32(rows.features), rows.labels, weight=rows.weights, **kinds)

        objective = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}[setting.task]
        own = {"objective": objective, "seed": setting.seed, "nthread": 1, "tree_method": "hist", "max_bin": bins, "verbosity": 0}
        classes = {"num_class": setting.n_classes} if setting.task.has_many_classes else {}
        given |= self.loss_params(setting.loss, setting.quantile, setting.monotone)
        return xgboost.train({**own, **classes, **given}, rows.kept(f"xgboost/{bins}", binned), rounds, **watched)

    def loss_params(self, loss: str, quantile: float | None, monotone: Sequence[int]) -> dict[str, Any]:
        """Return the parameters of a loss other than the squared one, and of slots that predictions may only rise or fall with."""
        params: dict[str, Any] = {"monotone_constraints": f"({','.join(map(str, monotone))})"} if any(monotone) else {}
        if loss == "quantile":
            params |= {"objective": "reg:quantileerror", "quantile_alpha": quantile}
        return params | {"objective": "reg:absoluteerror"} if loss == "absolute" else params

    def load(self, dump: bytes, task: str) -> XGBoostScorer:
        """Return the model that ``dump`` wrote."""
        import xgboost

        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(dump))
        return XGBoostScorer(booster, task)


@dataclass(frozen=True)
class XGBoostScorer:
    """A fitted model of XGBoost's."""

    model: Any
    task: str

    def predict(self, features: np.ndarray, rounds: int | None = None) -> np.ndarray:
        """Return values or probabilities, of the first ``rounds`` alone where they are given."""
        import xgboost

        matrix = xgboost.DMatrix(within_float32(features), feature_types=self.model.feature_types, enable_categorical=True, nthread=1)
        found = self.model.predict(matrix, iteration_range=(0, rounds or 0)).astype(np.float64)
        if TaskKind(self.task).predicts_number:
            return found.reshape(len(features))
        return np.column_stack([1 - found, found]) if TaskKind(self.task).has_two_classes else found

    def dump(self) -> bytes:
        """Return the model in XGBoost's own format."""
        return bytes(self.model.save_raw("ubj"))

    def gains(self) -> np.ndarray:
        """Return what each slot gained in all splits by it."""
        return booster_gains(self.model)


def booster_gains(booster: Any) -> np.ndarray:
    """Return what each slot gained in all splits by it; XGBoost names slots ``f0``, ``f1`` and so on."""
    gains = np.zeros(booster.num_features())
    for name, gain in booster.get_score(importance_type="total_gain").items():
        gains[int(name.removeprefix("f"))] = gain
    return gains


def _feature_types(rows: Rows) -> list[str]:
    categories = set(nominal(rows))
    return ["c" if slot in categories else "q" for slot in range(rows.features.shape[1])]


XGBOOST = XGBoost("xgboost", "xgboost", "XGBClassifier", "n_estimators")
