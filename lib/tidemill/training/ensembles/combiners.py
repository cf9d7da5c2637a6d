"""Combiners of ensemble members: a blend (weighted mean) or a stack (linear model of their predictions)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import SQLTransformer
from pyspark.ml.regression import LinearRegression
from pyspark.sql import functions as F

from tidemill.training.ensembles.combined import STACKED, BlendedPredictions, StackedInputs, member_column

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import Column, DataFrame

    from tidemill.training.problem import Problem


BLEND, STACK = "blend", "stack"
_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Combiner:
    """Stages that compute ``prediction`` and ``probability`` from the members' columns; ``weights`` holds the weight of each member."""

    stages: tuple[Transformer, ...]
    weights: tuple[float, ...]


def fit_blends(rows: DataFrame, members: int, folds: Sequence[int], problem: Problem) -> tuple[Combiner, Mapping[int, Combiner]]:
    """Fit the blend of all rows, and for each fold the blend of the other folds' rows.

    The weights minimise the squared error of the values, or of the probabilities of all classes. Since they sum to 1, the error of the
    mean is the mean of the errors, so one aggregate is enough: a matrix of members × members per fold.

    Args:
        rows: ``fold``, ``label``, and the columns of the members.
        members: the number of members.
        folds: those with rows.
        problem: the learning problem.
    """
    products = _error_products(rows, members, problem)

    def blend(chosen: Sequence[int]) -> Combiner:
        weights = solve_simplex_weights(sum((products[fold] for fold in chosen), np.zeros((members, members))))
        columns = [member_column(place) for place in range(members) if weights[place] > 0]
        stage = BlendedPredictions(columns, [weight for weight in weights if weight > 0], problem.task)
        return Combiner((stage,), tuple(float(weight) for weight in weights))

    return blend(folds), {fold: blend([other for other in folds if other != fold]) for fold in folds}


def _error_products(rows: DataFrame, members: int, problem: Problem) -> dict[int, np.ndarray]:
    """Return for each fold the sum over its rows and classes of the products of every two members' errors."""
    errors = rows.select("fold", *[_member_errors(member_column(place), problem).alias(f"e{place}") for place in range(members)])
    pairs = [(one, two) for one in range(members) for two in range(one, members)]
    products = {}
    for row in errors.groupBy("fold").agg(*[F.sum(_product(f"e{one}", f"e{two}")).alias(f"s{one}_{two}") for one, two in pairs]).collect():
        products[row["fold"]] = np.array([[row[f"s{min(one, two)}_{max(one, two)}"] for two in range(members)] for one in range(members)])
    return products


def _member_errors(member: str, problem: Problem) -> Column:
    if not problem.n_classes:
        return F.transform(F.col(member), lambda value: value - F.col("label"))
    return F.transform(F.col(member), lambda p, place: p - (place == F.col("label")).cast("double"))


def _product(one: str, two: str) -> Column:
    return F.aggregate(F.zip_with(one, two, lambda a, b: a * b), F.lit(0.0), lambda total, value: total + value)


def solve_simplex_weights(products: np.ndarray) -> np.ndarray:
    """Return the weights ≥ 0 of sum 1 that minimise ``w @ products @ w``.

    The solution is exact: restricted to the members of positive weight, it is the minimum without bounds, and members are few enough to try
    every subset. Of equally good subsets the smallest is taken, of these the first.
    """
    size = len(products)
    best, least = np.eye(size)[0], np.inf
    scale = max(float(np.trace(products)), np.finfo(float).tiny)
    for count in range(1, size + 1):
        for chosen in combinations(range(size), count):
            submatrix = products[np.ix_(chosen, chosen)] / scale
            # A tiny ridge, for members with equal or opposite errors.
            solution = np.linalg.solve(submatrix + _TOLERANCE * np.eye(count), np.ones(count))
            if solution.min() < 0:
                continue
            weights = np.zeros(size)
            weights[list(chosen)] = solution / solution.sum()
            value = float(weights @ products @ weights) / scale
            if value < least - _TOLERANCE:
                best, least = weights, value
    return best


def fit_stack(rows: DataFrame, members: int, problem: Problem) -> Combiner:
    """Fit a linear model of the members' predictions by MLlib on all of ``rows``.

    It is a logistic regression for classes and least squares for values, with a ridge of the weight of one row, which keeps the
    coefficients of similar members stable. For several classes, a member's weight is the mean of the coefficients of each class's own
    probability.
    """
    inputs = StackedInputs([member_column(place) for place in range(members)], problem.task)
    stacked = inputs.transform(rows)
    drop_inputs = SQLTransformer(statement=f"SELECT * EXCEPT ({STACKED}{', rawPrediction' if problem.n_classes else ''}) FROM __THIS__")
    count, deviation = rows.agg(F.count("*"), F.stddev_samp("label")).first() or (0, None)
    ridge = 1.0 / max(count, 1)
    if problem.n_classes:
        kind = "binomial" if problem.n_classes == 2 else "multinomial"
        model = LogisticRegression(featuresCol=STACKED, family=kind, regParam=ridge, standardization=False, maxIter=200, tol=1e-9).fit(
            stacked
        )
        matrix = model.coefficientMatrix.toArray()
        if problem.n_classes > 2:
            matrix = matrix.reshape(problem.n_classes, members, problem.n_classes).diagonal(axis1=0, axis2=2).mean(axis=1)[None]
        return Combiner((inputs, model, drop_inputs), tuple(float(weight) for weight in matrix[0]))
    # MLlib divides the penalty by the standard deviation of the label.
    model = LinearRegression(featuresCol=STACKED, regParam=ridge * (deviation or 1.0)).fit(stacked)
    return Combiner((inputs, model, drop_inputs), tuple(float(weight) for weight in model.coefficients))


def fit_stacks(rows: DataFrame, members: int, folds: Sequence[int], problem: Problem) -> tuple[Combiner, Mapping[int, Combiner]]:
    """Fit the stack of all rows, and for each fold the stack of the other folds' rows."""
    by_fold = {fold: fit_stack(rows.where(F.col("fold") != fold), members, problem) for fold in folds}
    return fit_stack(rows, members, problem), by_fold
