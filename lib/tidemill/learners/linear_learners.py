"""Linear models by scikit-learn, with the objectives of MLlib; their weights become a stage of MLlib."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from tidemill.learners.base import Layout, Linear, Matrix, Rows, Setting, SingleFitLearner


def compute_deviations(features: Any, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the sample standard deviation of each column: squares are divided by n - 1, with weights w by Σw - Σw² / Σw.

    It is 0 where it is within the rounding error of a constant column.
    """
    rows, size = features.shape
    counts = np.ones(rows) if weights is None else np.asarray(weights, dtype=np.float64)
    total = counts.sum()
    denominator = total - (counts**2).sum() / total if total else 0.0
    if denominator <= 0:
        return np.zeros(size)
    means = np.asarray(features.T @ counts).ravel() / total
    if sp.issparse(features):
        stored = features.tocsr()
        of_row = np.repeat(counts, np.diff(stored.indptr))
        squares = np.bincount(stored.indices, of_row * (stored.data - means[stored.indices]) ** 2, minlength=size)
        zeros = total - np.bincount(stored.indices, of_row, minlength=size)
        squares += np.where(np.bincount(stored.indices, minlength=size) < rows, zeros, 0.0) * means**2
    else:
        squares = counts @ (features - means) ** 2
    # Source: Chan, Golub, LeVeque: Algorithms for computing the sample variance, The American Statistician 37 (1983), table 1.
    rounding = rows * np.finfo(np.float64).eps
    is_constant = squares / total <= rounding * squares / total + (rounding * means) ** 2
    return np.where(is_constant, 0.0, np.sqrt(np.maximum(squares, 0.0) / denominator))


_PACKAGE = "scikit-learn"
# The bias of a class without training rows is so far below the others that it is practically never predicted.
_ABSENT_CLASS_BIAS = 100.0
# Passes of LIBLINEAR skip rows whose dual variable is at a bound, so each is cheaper.
_LIBLINEAR_PASSES_PER_STEP = 10
MARGIN_SCALE = 2.0  # the probability of a margin; see LinearSvm


@dataclass(frozen=True)
class LinearLearner(SingleFitLearner):
    """A learner of linear models; ``names`` are its parameters."""

    names: frozenset[str]
    package: str = _PACKAGE
    layout: Layout = "any"

    def unknown_parameters(self, names: Mapping[str, object], task: str) -> list[str]:
        """Return the parameters that this learner does not support."""
        return [name for name in names if name not in self.names]


class Svm(LinearLearner):
    """Linear support vector machine, one-vs-rest, with the objective of `tidemill.learners.linear_svm`."""

    def __init__(self) -> None:
        """Take MLlib's parameters."""
        super().__init__(frozenset({"regParam", "maxIter"}))

    def fit(self, rows: Rows, setting: Setting) -> Linear:
        """Fit by LIBLINEAR."""
        from sklearn.svm import LinearSVC

        steps = int(setting.params.get("maxIter", 20)) * _LIBLINEAR_PASSES_PER_STEP
        cost = min(compute_cost(setting.params, rows.total), 1e6)
        model = LinearSVC(loss="hinge", C=cost, max_iter=steps, random_state=setting.seed)
        with ignore_convergence_warnings():
            model.fit(rows.features, rows.labels, sample_weight=rows.weights)
        return expand_linear_classes(MARGIN_SCALE * model.coef_, MARGIN_SCALE * model.intercept_, model.classes_, setting)


class Bayes(LinearLearner):
    """Naive Bayes: multinomial or complement."""

    def __init__(self) -> None:
        """Take MLlib's parameters."""
        super().__init__(frozenset({"modelType", "smoothing"}))

    def unknown_parameters(self, names: Mapping[str, object], task: str) -> list[str]:
        """Return the parameters that this learner does not support; only two values of ``modelType`` give a linear model."""
        kinds = names.get("modelType", "multinomial")
        declared = kinds if isinstance(kinds, list) else [kinds]
        unknown = super().unknown_parameters(names, task)
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
        return expand_linear_classes(weights, biases, model.classes_, setting)


SVM, BAYES = Svm(), Bayes()


def compute_cost(params: Mapping[str, Any], rows: float) -> float:
    """Return scikit-learn's ``C``: the weight of a row's loss relative to the penalty."""
    penalty = float(params.get("regParam", 0.0))
    return 1.0 / (penalty * rows) if penalty > 0 else np.inf


def scale_features(rows: Rows, standardize: bool) -> tuple[Matrix, np.ndarray]:
    """Return the features with columns of deviation 1, and the factors that convert their weights to those of the original features."""
    if not standardize:
        return rows.features, np.ones(rows.features.shape[1])
    return rows.get_cached("scaled", lambda: _scale_to_unit_deviation(rows.features, rows.weights))


def _scale_to_unit_deviation(features: Any, weights: np.ndarray | None) -> tuple[Matrix, np.ndarray]:
    deviations = compute_deviations(features, weights)
    scale = np.divide(1.0, deviations, out=np.zeros_like(deviations), where=deviations > 0)
    return (features @ sp.diags(scale) if sp.issparse(features) else features * scale), scale


def expand_linear_classes(weights: np.ndarray, biases: np.ndarray, classes: np.ndarray, setting: Setting) -> Linear:
    """Return a model of all classes, those without training rows included; ``classes`` are the fitted ones."""
    if len(weights) == 1:  # two fitted classes
        if setting.n_classes == 2:
            return Linear(weights, np.atleast_1d(biases), setting.task)
        weights, biases = np.vstack([-weights, weights]) / 2, np.array([-biases[0], biases[0]]) / 2
    if setting.n_classes == 2:
        return Linear(weights[1:] - weights[:1], biases[1:] - biases[:1], setting.task)
    fitted_classes = classes.astype(int)
    # The margin of an absent class is below the mean of the others, and some class is always above that mean.
    all_weights = np.tile(weights.mean(axis=0), (setting.n_classes, 1))
    all_biases = np.full(setting.n_classes, biases.mean() - _ABSENT_CLASS_BIAS)
    all_weights[fitted_classes], all_biases[fitted_classes] = weights, biases
    return Linear(all_weights, all_biases, setting.task)


@contextmanager
def ignore_convergence_warnings() -> Iterator[None]:
    """Suppress convergence warnings: the spec sets the number of iterations."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
