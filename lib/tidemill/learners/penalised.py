"""Regressions with a penalty on their weights: by paths of Newton steps where slots are few, else by scikit-learn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidemill.learners.base import Linear, Rows, Setting, Sharing
from tidemill.learners.linear_learners import LinearLearner, cost_of, deviations, of_classes, scaled, unconverged
from tidemill.learners.newton import MOST_SLOTS, LogLoss, Loss, Path, Penalty, SquaredLoss, penalised

# Steps of SAGA are passes over the rows; L-BFGS, whose steps `maxIter` counts, gets further with each.
_PASSES_A_STEP = 4
# What is left of the slope of the mean loss, by columns of deviation 1.
_TOLERANCE = 1e-6
_NO_PENALTY = 1e-10
# Paths of so many penalties keep several cores busy, and their first steps are few of all.
_MOST_ON_A_PATH = 8


@dataclass(frozen=True)
class _Penalised(LinearLearner):
    """A loss and a penalty on the weights; where there are few slots, one path leads to the minima of all penalties."""

    def sharing(self, task: str, slots: int) -> Sharing | None:
        """Return the penalties."""
        return Sharing(("regParam", "elasticNetParam"), _MOST_ON_A_PATH) if self.has_path(task, slots) else None

    def has_path(self, task: str, slots: int) -> bool:
        """Return True where the minima are found by steps of Newton's method."""
        return task != "multiclass" and slots <= MOST_SLOTS

    def fitting_package(self, task: str, slots: int) -> str:
        """Return tidemill for paths, else scikit-learn."""
        return "tidemill" if self.has_path(task, slots) else self.package

    def fit(self, rows: Rows, setting: Setting) -> Linear:
        """Fit a path of one penalty, or by scikit-learn."""
        [model] = self.fit_each(rows, [setting])
        return model

    def fit_each(self, rows: Rows, settings: Sequence[Setting], unseen: Callable[[], Rows] | None = None) -> list[Linear]:
        """Fit along the penalties, or each by itself."""
        if self.has_path(settings[0].task, rows.features.shape[1]):
            return self._on_path(rows, settings)
        return [self.elsewhere(rows, setting) for setting in settings]

    def _on_path(self, rows: Rows, settings: Sequence[Setting]) -> list[Linear]:
        """Return the model of each setting; labels and penalties are divided by the height of the labels."""
        params, height = settings[0].params, self.height(rows)
        features, scale = scaled(rows, bool(params.get("standardization", True)))
        penalties = [
            Penalty(float(setting.params.get("regParam", 0.0)) / height, float(setting.params.get("elasticNetParam", 0.0)))
            for setting in settings
        ]
        steps, tolerance = int(params.get("maxIter", 50)), float(params.get("tol", _TOLERANCE))
        path = Path(features, rows.labels / height, rows.weights, self.loss)
        found = {place: (weights, bias) for place, weights, bias in penalised(path, penalties, steps=steps, tolerance=tolerance)}
        return [
            Linear(np.atleast_2d(weights * scale * height), np.atleast_1d(bias * height), setting.task)
            for (weights, bias), setting in zip((found[place] for place in range(len(settings))), settings, strict=True)
        ]

    @property
    @abstractmethod
    def loss(self) -> Loss:
        """What a row costs."""

    def height(self, rows: Rows) -> float:
        """Return what labels are divided by before they are learned."""
        return 1.0

    @abstractmethod
    def elsewhere(self, rows: Rows, setting: Setting) -> Linear:
        """Fit by scikit-learn."""


class Logistic(_Penalised):
    """Logistic regression: ``mean(log loss) + regParam (elasticNetParam |w|₁ + (1 - elasticNetParam) / 2 |w|²)``.

    As MLlib has it, the penalty is on weights of columns scaled to deviation 1, unless ``standardization`` is off; the intercept is free.
    """

    def __init__(self) -> None:
        """Take MLlib's parameters."""
        super().__init__(frozenset({"regParam", "elasticNetParam", "maxIter", "tol", "standardization"}))

    @property
    def loss(self) -> Loss:
        """Return the log loss."""
        return LogLoss()

    def elsewhere(self, rows: Rows, setting: Setting) -> Linear:
        """Fit by L-BFGS, or by SAGA where weights shall become 0."""
        from sklearn.linear_model import LogisticRegression

        params = setting.params
        features, scale = scaled(rows, bool(params.get("standardization", True)))
        ratio, steps = float(params.get("elasticNetParam", 0.0)), int(params.get("maxIter", 50))
        model = LogisticRegression(
            C=cost_of(params, rows.total),
            l1_ratio=ratio,
            solver="saga" if ratio else "lbfgs",
            max_iter=steps * _PASSES_A_STEP if ratio else steps,
            tol=float(params.get("tol", 1e-4)),
            random_state=setting.seed,
        )
        with unconverged():
            model.fit(features, rows.labels, sample_weight=rows.weights)
        return of_classes(model.coef_ * scale, model.intercept_, model.classes_, setting)


class LeastSquares(_Penalised):
    """Linear regression with MLlib's penalty: that of columns, and a label, scaled to deviation 1."""

    def __init__(self) -> None:
        """Take MLlib's parameters."""
        super().__init__(frozenset({"regParam", "elasticNetParam", "maxIter", "standardization"}))

    @property
    def loss(self) -> Loss:
        """Return the squared loss, whose curvature is the same everywhere: each penalty takes a step or two."""
        return SquaredLoss()

    def height(self, rows: Rows) -> float:
        """Return the deviation of the labels, by which MLlib divides them."""
        return float(deviations(rows.labels[:, None], rows.weights)[0]) or 1.0

    def elsewhere(self, rows: Rows, setting: Setting) -> Linear:
        """Fit by ridge regression, or by coordinate descent where weights shall become 0."""
        from sklearn.linear_model import ElasticNet, Ridge

        params = setting.params
        features, scale = scaled(rows, bool(params.get("standardization", True)))
        height = self.height(rows)
        penalty, ratio = float(params.get("regParam", 0.0)) / height, float(params.get("elasticNetParam", 0.0))
        model: Any
        if ratio and penalty:
            model = ElasticNet(alpha=penalty, l1_ratio=ratio, max_iter=1000, random_state=setting.seed)
        else:
            model = Ridge(alpha=max(penalty, _NO_PENALTY) * rows.total, random_state=setting.seed)
        with unconverged():
            model.fit(features, rows.labels / height, sample_weight=rows.weights)
        return Linear(np.atleast_2d(model.coef_ * scale * height), np.atleast_1d(model.intercept_ * height), setting.task)


LOGISTIC, LEAST_SQUARES = Logistic(), LeastSquares()
