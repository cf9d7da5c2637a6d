"""Linear models by scikit-learn, with the objectives of MLlib's: what is found becomes a stage of MLlib."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from tidemill.learners.base import Layout, Linear, Matrix, OneByOne, Rows, Setting


def deviations(features: Any, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the deviation of each column: with n - 1 below the squares, or where rows have weights w, Σw - Σw² / Σw.

    It is 0 where it is no more than what rounding makes of a column that has one value.
    """
    rows, size = features.shape
    counts = np.ones(rows) if weights is None else np.asarray(weights, dtype=np.float64)
    total = counts.sum()
    left = total - (counts**2).sum() / total if total else 0.0
    if left <= 0:
        return np.zeros(size)
    means = np.asarray(features.T @ counts).ravel() / total
    if sp.issparse(features):
        there = features.tocsr()
        of_row = np.repeat(counts, np.diff(there.indptr))
        squares = np.bincount(there.indices, of_row * (there.data - means[there.indices]) ** 2, minlength=size)
        zeros = total - np.bincount(there.indices, of_row, minlength=size)
        squares += np.where(np.bincount(there.indices, minlength=size) < rows, zeros, 0.0) * means**2
    else:
        squares = counts @ (features - means) ** 2
    # Source: Chan, Golub, LeVeque: Algorithms for computing the sample variance, The American Statistician 37 (1983), table 1.
    rounding = rows * np.finfo(np.float64).eps
    is_constant = squares / total <= rounding * squares / total + (rounding * means) ** 2
    return np.where(is_constant, 0.0, np.sqrt(np.maximum(squares, 0.0) / left))


_PACKAGE = "scikit-learn"
# An absent class is as good as never predicted.
_NEVER = 100.0
# Passes of LIBLINEAR leave out the rows that have settled.
_PASSES_A_PASS = 10
MARGIN_SCALE = 2.0  # the probability of a margin; see LinearSvm


@dataclass(frozen=True)
class LinearLearner(OneByOne):
    """What linear learners share."""

    names: frozenset[str]
    package: str = _PACKAGE
    layout: Layout = "any"

    def unknown_parameters(self, names: Mapping[str, object], task: str) -> list[str]:
        """Return the parameters that this learner does not know."""
        return [name for name in names if name not in self.names]


class Svm(LinearLearner):
    """Support vector machine without a kernel, each class against the rest: the objective of `tidemill.learners.linear_svm`."""

    def __init__(self) -> None:
        """Take MLlib's parameters."""
        super().__init__(frozenset({"regParam", "maxIter"}))

    def fit(self, rows: Rows, setting: Setting) -> Linear:
        """Fit by LIBLINEAR."""
        from sklearn.svm import LinearSVC

        steps = int(setting.params.get("maxIter", 20)) * _PASSES_A_PASS
        cost = min(cost_of(setting.params, rows.total), 1e6)
        model = LinearSVC(loss="hinge", C=cost, max_iter=steps, random_state=setting.seed)
        with unconverged():
            model.fit(rows.features, rows.labels, sample_weight=rows.weights)
        return of_classes(MARGIN_SCALE * model.coef_, MARGIN_SCALE * model.intercept_, model.classes_, setting)


class Bayes(LinearLearner):
    """Naive Bayes of counts and their weights: multinomial, or by the complement of each class."""

    def __init__(self) -> None:
        """Take MLlib's parameters."""
        super().__init__(frozenset({"modelType", "smoothing"}))

    def unknown_parameters(self, names: Mapping[str, object], task: str) -> list[str]:
        """Return the parameters that this learner does not know; of the kinds of the model two are linear."""
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
        return of_classes(weights, biases, model.classes_, setting)


SVM, BAYES = Svm(), Bayes()


def cost_of(params: Mapping[str, Any], rows: float) -> float:
    """Return scikit-learn's C: what a row's loss weighs against the penalty."""
    penalty = float(params.get("regParam", 0.0))
    return 1.0 / (penalty * rows) if penalty > 0 else np.inf


def scaled(rows: Rows, is_wanted: bool) -> tuple[Matrix, np.ndarray]:
    """Return the features with columns of deviation 1, and what turns weights of theirs into weights of the given ones."""
    if not is_wanted:
        return rows.features, np.ones(rows.features.shape[1])
    return rows.kept("scaled", lambda: _of_one_deviation(rows.features, rows.weights))


def _of_one_deviation(features: Any, weights: np.ndarray | None) -> tuple[Matrix, np.ndarray]:
    found = deviations(features, weights)
    scale = np.divide(1.0, found, out=np.zeros_like(found), where=found > 0)
    return (features @ sp.diags(scale) if sp.issparse(features) else features * scale), scale


def of_classes(weights: np.ndarray, biases: np.ndarray, found: np.ndarray, setting: Setting) -> Linear:
    """Return the model over all classes, also those that no row had."""
    if len(weights) == 1:  # of two classes
        if setting.n_classes == 2:
            return Linear(weights, np.atleast_1d(biases), setting.task)
        weights, biases = np.vstack([-weights, weights]) / 2, np.array([-biases[0], biases[0]]) / 2
    if setting.n_classes == 2:
        return Linear(weights[1:] - weights[:1], biases[1:] - biases[:1], setting.task)
    places = found.astype(int)
    # Below the mean of what the others say, whatever the row: some class is always above that.
    all_weights = np.tile(weights.mean(axis=0), (setting.n_classes, 1))
    all_biases = np.full(setting.n_classes, biases.mean() - _NEVER)
    all_weights[places], all_biases[places] = weights, biases
    return Linear(all_weights, all_biases, setting.task)


@contextmanager
def unconverged() -> Iterator[None]:
    """A bounded number of steps is what was asked for, not a mistake to be told of."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
