"""Penalised regressions: by a Newton path over penalties where slots are few, else by scikit-learn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidemill.learners.base import Linear, Rows, Setting, Sharing
from tidemill.learners.linear_learners import (
    LinearLearner,
    compute_cost,
    compute_deviations,
    expand_linear_classes,
    ignore_convergence_warnings,
    scale_features,
)
from tidemill.learners.newton import MAX_NEWTON_SLOTS, LogLoss, Loss, Path, Penalty, SquaredLoss, minimise_path

# SAGA needs more passes over the rows than L-BFGS needs iterations, which `maxIter` counts.
_SAGA_PASSES_PER_STEP = 4
# The greatest gradient of the mean loss at a minimum, for columns of deviation 1.
_TOLERANCE = 1e-6
_MIN_PENALTY = 1e-10
# With so many penalties per path, several paths keep the cores busy, and first steps are a small part of all.
_MAX_PATH_PENALTIES = 8


@dataclass(frozen=True)
class _Penalised(LinearLearner):
    """A loss with an elastic net penalty; for few slots one path finds the minima of all penalties."""

    def sharing(self, task: str, slots: int) -> Sharing | None:
        """Return the parameters of the penalty, where there is a path."""
        return Sharing(("regParam", "elasticNetParam"), _MAX_PATH_PENALTIES) if self.has_path(task, slots) else None

    def has_path(self, task: str, slots: int) -> bool:
        """Return True where a path of Newton's method finds the minima."""
        return task != "multiclass" and slots <= MAX_NEWTON_SLOTS

    def fitting_package(self, task: str, slots: int) -> str:
        """Return tidemill for paths, else scikit-learn."""
        return "tidemill" if self.has_path(task, slots) else self.package

    def fit(self, rows: Rows, setting: Setting) -> Linear:
        """Fit a path of one penalty, or by scikit-learn."""
        [model] = self.fit_each(rows, [setting])
        return model

    def fit_each(self, rows: Rows, settings: Sequence[Setting], unseen: Callable[[], Rows] | None = None) -> list[Linear]:
        """Fit one path over the penalties, or each setting by scikit-learn."""
        if self.has_path(settings[0].task, rows.features.shape[1]):
            return self._fit_path(rows, settings)
        return [self.fit_by_sklearn(rows, setting) for setting in settings]

    def _fit_path(self, rows: Rows, settings: Sequence[Setting]) -> list[Linear]:
        """Return the model of each setting; labels and penalties are divided by the scale of the labels."""
        params, label_scale = settings[0].params, self.label_scale(rows)
        features, scale = scale_features(rows, bool(params.get("standardization", True)))
        penalties = [
            Penalty(float(setting.params.get("regParam", 0.0)) / label_scale, float(setting.params.get("elasticNetParam", 0.0)))
            for setting in settings
        ]
        steps, tolerance = int(params.get("maxIter", 50)), float(params.get("tol", _TOLERANCE))
        path = Path(features, rows.labels / label_scale, rows.weights, self.loss)
        minima = {index: (weights, bias) for index, weights, bias in minimise_path(path, penalties, steps=steps, tolerance=tolerance)}
        return [
            Linear(np.atleast_2d(weights * scale * label_scale), np.atleast_1d(bias * label_scale), setting.task)
            for (weights, bias), setting in zip((minima[index] for index in range(len(settings))), settings, strict=True)
        ]

    @property
    @abstractmethod
    def loss(self) -> Loss:
        """The loss of a row."""

    def label_scale(self, rows: Rows) -> float:
        """Return the divisor of labels in a fit."""
        return 1.0

    @abstractmethod
    def fit_by_sklearn(self, rows: Rows, setting: Setting) -> Linear:
        """Fit by scikit-learn."""


class Logistic(_Penalised):
    """Logistic regression: ``mean(log loss) + regParam (elasticNetParam |w|₁ + (1 - elasticNetParam) / 2 |w|²)``.

    As in MLlib, the penalty is on the weights of columns scaled to deviation 1, unless ``standardization`` is off; the intercept is free.
    """

    def __init__(self) -> None:
        """Take MLlib's parameters."""
        super().__init__(frozenset({"regParam", "elasticNetParam", "maxIter", "tol", "standardization"}))

    @property
    def loss(self) -> Loss:
        """Return the log loss."""
        return LogLoss()

    def fit_by_sklearn(self, rows: Rows, setting: Setting) -> Linear:
        """Fit by L-BFGS, or by SAGA with an L1 penalty."""
        from sklearn.linear_model import LogisticRegression

        params = setting.params
        features, scale = scale_features(rows, bool(params.get("standardization", True)))
        ratio, steps = float(params.get("elasticNetParam", 0.0)), int(params.get("maxIter", 50))
        model = LogisticRegression(
            C=compute_cost(params, rows.total),
            l1_ratio=ratio,
            solver="saga" if ratio else "lbfgs",
            max_iter=steps * _SAGA_PASSES_PER_STEP if ratio else steps,
            tol=float(params.get("tol", 1e-4)),
            random_state=setting.seed,
        )
        with ignore_convergence_warnings():
            model.fit(features, rows.labels, sample_weight=rows.weights)
        return expand_linear_classes(model.coef_ * scale, model.intercept_, model.classes_, setting)


class LeastSquares(_Penalised):
    """Linear regression with MLlib's penalty: on columns and a label scaled to deviation 1."""

    def __init__(self) -> None:
        """Take MLlib's parameters."""
        super().__init__(frozenset({"regParam", "elasticNetParam", "maxIter", "standardization"}))

    @property
    def loss(self) -> Loss:
        """Return the squared loss; its curvature is constant, so a penalty needs one or two steps."""
        return SquaredLoss()

    def label_scale(self, rows: Rows) -> float:
        """Return the deviation of the labels, by which MLlib divides them."""
        return float(compute_deviations(rows.labels[:, None], rows.weights)[0]) or 1.0

    def fit_by_sklearn(self, rows: Rows, setting: Setting) -> Linear:
        """Fit by ridge regression, or by coordinate descent with an L1 penalty."""
        from sklearn.linear_model import ElasticNet, Ridge

        params = setting.params
        features, scale = scale_features(rows, bool(params.get("standardization", True)))
        label_scale = self.label_scale(rows)
        penalty, ratio = float(params.get("regParam", 0.0)) / label_scale, float(params.get("elasticNetParam", 0.0))
        model: Any
        if ratio and penalty:
            model = ElasticNet(alpha=penalty, l1_ratio=ratio, max_iter=1000, random_state=setting.seed)
        else:
            model = Ridge(alpha=max(penalty, _MIN_PENALTY) * rows.total, random_state=setting.seed)
        with ignore_convergence_warnings():
            model.fit(features, rows.labels / label_scale, sample_weight=rows.weights)
        return Linear(np.atleast_2d(model.coef_ * scale * label_scale), np.atleast_1d(model.intercept_ * label_scale), setting.task)


LOGISTIC, LEAST_SQUARES = Logistic(), LeastSquares()
