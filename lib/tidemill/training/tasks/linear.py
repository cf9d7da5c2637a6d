"""Linear models by scikit-learn, with the objectives of MLlib's: what is found becomes a stage of MLlib."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from tidemill.training.tasks.deviations import deviations
from tidemill.training.tasks.learner import Layout, Linear, Matrix, Rows, Setting, Sharing
from tidemill.training.tasks.losses import LogLoss, Loss, SquaredLoss
from tidemill.training.tasks.newton import MOST_SLOTS, Path, Penalty, penalised

_PACKAGE = "scikit-learn"
# An absent class is as good as never predicted.
_NEVER = 100.0
# Steps of SAGA are passes over the rows; L-BFGS, whose steps `maxIter` counts, gets further with each.
_PASSES_A_STEP = 4
# Passes of LIBLINEAR leave out the rows that have settled.
_PASSES_A_PASS = 10
# What is left of the slope of the mean loss, by columns of deviation 1.
_TOLERANCE = 1e-6
_MARGIN_SCALE = 2.0  # the probability of a margin; see LinearSvm
_NO_PENALTY = 1e-10


# Paths of so many penalties keep several cores busy, and their first steps are few of all.
_MOST_ON_A_PATH = 8


@dataclass(frozen=True)
class _LinearLearner(ABC):
    """What linear learners share."""

    names: frozenset[str]
    package: str = _PACKAGE
    layout: Layout = "any"

    def refused(self, names: Mapping[str, object], task: str) -> list[str]:
        """Return the parameters that this learner does not know."""
        return [name for name in names if name not in self.names]

    @abstractmethod
    def fit(self, rows: Rows, setting: Setting) -> Linear:
        """Learn on one core."""

    def sharing(self, task: str, slots: int) -> Sharing | None:
        """Return None."""
        return None

    def fit_each(self, rows: Rows, settings: Sequence[Setting]) -> Iterable[Linear]:
        """Fit each by itself."""
        return [self.fit(rows, setting) for setting in settings]


@dataclass(frozen=True)
class _Penalised(_LinearLearner):
    """A loss and a penalty on the weights; where there are few slots, one path leads to the minima of all penalties."""

    def sharing(self, task: str, slots: int) -> Sharing | None:
        """Return the penalties."""
        return Sharing(("regParam", "elasticNetParam"), _MOST_ON_A_PATH) if self.has_path(task, slots) else None

    def has_path(self, task: str, slots: int) -> bool:
        """Return True where the minima are found by steps of Newton's method."""
        return task != "multiclass" and slots <= MOST_SLOTS

    def on_path(self, rows: Rows, settings: Sequence[Setting], loss: Loss, height: float) -> Iterable[Linear]:
        """Return the model of each setting; labels and penalties are divided by ``height``."""
        params = settings[0].params
        features, scale = _scaled(rows, bool(params.get("standardization", True)))
        penalties = [
            Penalty(float(setting.params.get("regParam", 0.0)) / height, float(setting.params.get("elasticNetParam", 0.0)))
            for setting in settings
        ]
        steps, tolerance = int(params.get("maxIter", 50)), float(params.get("tol", _TOLERANCE))
        path = Path(features, rows.labels / height, rows.weights, loss)
        found = {place: (weights, bias) for place, weights, bias in penalised(path, penalties, steps=steps, tolerance=tolerance)}
        for place, setting in enumerate(settings):
            weights, bias = found[place]
            yield Linear(np.atleast_2d(weights * scale * height), np.atleast_1d(bias * height), setting.task)


class Logistic(_Penalised):
    """Logistic regression: ``mean(log loss) + regParam (elasticNetParam |w|₁ + (1 - elasticNetParam) / 2 |w|²)``.

    As MLlib has it, the penalty is on weights of columns scaled to deviation 1, unless ``standardization`` is off; the intercept is free.
    """

    def __init__(self) -> None:
        """Take MLlib's parameters."""
        super().__init__(frozenset({"regParam", "elasticNetParam", "maxIter", "tol", "standardization"}))

    def fit(self, rows: Rows, setting: Setting) -> Linear:
        """Fit on a path of one penalty; of many slots or classes by L-BFGS, or by SAGA where weights shall become 0."""
        if self.has_path(setting.task, rows.features.shape[1]):
            return next(iter(self.on_path(rows, [setting], LogLoss(), 1.0)))
        from sklearn.linear_model import LogisticRegression

        params = setting.params
        features, scale = _scaled(rows, bool(params.get("standardization", True)))
        ratio, steps = float(params.get("elasticNetParam", 0.0)), int(params.get("maxIter", 50))
        model = LogisticRegression(
            C=_cost(params, rows.total),
            l1_ratio=ratio,
            solver="saga" if ratio else "lbfgs",
            max_iter=steps * _PASSES_A_STEP if ratio else steps,
            tol=float(params.get("tol", 1e-4)),
            random_state=setting.seed,
        )
        with _unconverged():
            model.fit(features, rows.labels, sample_weight=rows.weights)
        return _of_classes(model.coef_ * scale, model.intercept_, model.classes_, setting)

    def fit_each(self, rows: Rows, settings: Sequence[Setting]) -> Iterable[Linear]:
        """Fit along the penalties."""
        if not self.has_path(settings[0].task, rows.features.shape[1]):
            return super().fit_each(rows, settings)
        return self.on_path(rows, settings, LogLoss(), 1.0)


class Svm(_LinearLearner):
    """Support vector machine without a kernel, each class against the rest: the objective of `tidemill.training.linear_svm`."""

    def __init__(self) -> None:
        """Take MLlib's parameters."""
        super().__init__(frozenset({"regParam", "maxIter"}))

    def fit(self, rows: Rows, setting: Setting) -> Linear:
        """Fit by LIBLINEAR."""
        from sklearn.svm import LinearSVC

        steps = int(setting.params.get("maxIter", 20)) * _PASSES_A_PASS
        cost = min(_cost(setting.params, rows.total), 1e6)
        model = LinearSVC(loss="hinge", C=cost, max_iter=steps, random_state=setting.seed)
        with _unconverged():
            model.fit(rows.features, rows.labels, sample_weight=rows.weights)
        return _of_classes(_MARGIN_SCALE * model.coef_, _MARGIN_SCALE * model.intercept_, model.classes_, setting)


class Bayes(_LinearLearner):
    """Naive Bayes of counts and their weights: multinomial, or by the complement of each class."""

    def __init__(self) -> None:
        """Take MLlib's parameters."""
        super().__init__(frozenset({"modelType", "smoothing"}))

    def refused(self, names: Mapping[str, object], task: str) -> list[str]:
        """Return the parameters that this learner does not know; of the kinds of the model two are linear."""
        kinds = names.get("modelType", "multinomial")
        declared = kinds if isinstance(kinds, list) else [kinds]
        unknown = super().refused(names, task)
        return unknown if set(declared) <= {"multinomial", "complement"} else [*unknown, "modelType"]

    def fit(self, rows: Rows, setting: Setting) -> Linear:
        """Fit in one pass."""
        from sklearn.naive_bayes import ComplementNB, MultinomialNB

        smoothing = float(setting.params.get("smoothing", 1.0))
        is_complement = setting.params.get("modelType") == "complement"
        model: Any = ComplementNB(alpha=smoothing) if is_complement else MultinomialNB(alpha=smoothing)
        model.fit(rows.features, rows.labels, sample_weight=rows.weights)
        weights = model.feature_log_prob_
        biases = np.zeros(len(weights)) if is_complement else model.class_log_prior_
        return _of_classes(weights, biases, model.classes_, setting)


class LeastSquares(_Penalised):
    """Linear regression with MLlib's penalty: that of columns, and a label, scaled to deviation 1."""

    def __init__(self) -> None:
        """Take MLlib's parameters."""
        super().__init__(frozenset({"regParam", "elasticNetParam", "maxIter", "standardization"}))

    def fit(self, rows: Rows, setting: Setting) -> Linear:
        """Fit on a path of one penalty; of many slots by ridge regression, or by coordinate descent where weights shall become 0."""
        if self.has_path(setting.task, rows.features.shape[1]):
            return next(iter(self.on_path(rows, [setting], SquaredLoss(), _height(rows))))
        from sklearn.linear_model import ElasticNet, Ridge

        params = setting.params
        features, scale = _scaled(rows, bool(params.get("standardization", True)))
        height = _height(rows)
        penalty, ratio = float(params.get("regParam", 0.0)) / height, float(params.get("elasticNetParam", 0.0))
        model: Any
        if ratio and penalty:
            model = ElasticNet(alpha=penalty, l1_ratio=ratio, max_iter=1000, random_state=setting.seed)
        else:
            model = Ridge(alpha=max(penalty, _NO_PENALTY) * rows.total, random_state=setting.seed)
        with _unconverged():
            model.fit(features, rows.labels / height, sample_weight=rows.weights)
        return Linear(np.atleast_2d(model.coef_ * scale * height), np.atleast_1d(model.intercept_ * height), setting.task)

    def fit_each(self, rows: Rows, settings: Sequence[Setting]) -> Iterable[Linear]:
        """Fit along the penalties: the curvature is the same everywhere, so that each takes a step or two."""
        if not self.has_path(settings[0].task, rows.features.shape[1]):
            return super().fit_each(rows, settings)
        return self.on_path(rows, settings, SquaredLoss(), _height(rows))


def _height(rows: Rows) -> float:
    """Return the deviation of the labels, by which MLlib divides them."""
    return float(deviations(rows.labels[:, None], rows.weights)[0]) or 1.0


def _cost(params: Mapping[str, Any], rows: float) -> float:
    """Return scikit-learn's C: what a row's loss weighs against the penalty."""
    penalty = float(params.get("regParam", 0.0))
    return 1.0 / (penalty * rows) if penalty > 0 else np.inf


def _scaled(rows: Rows, is_wanted: bool) -> tuple[Matrix, np.ndarray]:
    """Return the features with columns of deviation 1, and what turns weights of theirs into weights of the given ones."""
    if not is_wanted:
        return rows.features, np.ones(rows.features.shape[1])
    return rows.kept("scaled", lambda: _of_one_deviation(rows.features, rows.weights))


def _of_one_deviation(features: Any, weights: np.ndarray | None) -> tuple[Matrix, np.ndarray]:
    found = deviations(features, weights)
    scale = np.divide(1.0, found, out=np.zeros_like(found), where=found > 0)
    return (features @ sp.diags(scale) if sp.issparse(features) else features * scale), scale


def _of_classes(weights: np.ndarray, biases: np.ndarray, found: np.ndarray, setting: Setting) -> Linear:
    """Return the model over all classes, also those that no row had."""
    if len(weights) == 1:  # of two classes
        if setting.n_classes == 2:
            return Linear(weights, np.atleast_1d(biases), setting.task)
        weights, biases = np.vstack([-weights, weights]) / 2, np.array([-biases[0], biases[0]]) / 2
    if setting.n_classes == 2:
        return Linear(weights[1:] - weights[:1], biases[1:] - biases[:1], setting.task)
    places = found.astype(int)
    all_weights, all_biases = np.zeros((setting.n_classes, weights.shape[1])), np.full(setting.n_classes, biases.min() - _NEVER)
    all_weights[places], all_biases[places] = weights, biases
    return Linear(all_weights, all_biases, setting.task)


@contextmanager
def _unconverged() -> Iterator[None]:
    """A bounded number of steps is what was asked for, not a mistake to be told of."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
