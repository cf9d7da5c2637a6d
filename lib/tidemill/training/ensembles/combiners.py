"""How members are combined: a blend, which is their weighted mean, or a stack, which is a linear model of what they say."""

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
_SAME = 1e-12


@dataclass(frozen=True)
class Combiner:
    """Stages that make ``prediction`` and ``probability`` of the members' columns; ``weights`` say what each member counts for."""

    stages: tuple[Transformer, ...]
    weights: tuple[float, ...]


def blends(rows: DataFrame, members: int, folds: Sequence[int], problem: Problem) -> tuple[Combiner, Mapping[int, Combiner]]:
    """Return the blend of all rows, and for each fold that of the rows of the others.

    The weights minimise the squared error of the values, or of the probabilities of all classes. Since their sum is 1, the error of the
    mean is the mean of the errors, so that all there is to know of the rows is one matrix of members × members a fold: one aggregate.

    Args:
        rows: ``fold``, ``label``, and the columns of the members.
        members: how many there are.
        folds: those with rows.
        problem: the task.
    """
    products = _error_products(rows, members, problem)

    def blend(chosen: Sequence[int]) -> Combiner:
        weights = simplex_weights(sum((products[fold] for fold in chosen), np.zeros((members, members))))
        columns = [member_column(place) for place in range(members) if weights[place] > 0]
        stage = BlendedPredictions(columns, [weight for weight in weights if weight > 0], problem.task)
        return Combiner((stage,), tuple(float(weight) for weight in weights))

    return blend(folds), {fold: blend([other for other in folds if other != fold]) for fold in folds}


def _error_products(rows: DataFrame, members: int, problem: Problem) -> dict[int, np.ndarray]:
    """Return for each fold the sum over its rows and classes of the products of every two members' errors."""
    errors = rows.select("fold", *[_errors(member_column(place), problem).alias(f"e{place}") for place in range(members)])
    pairs = [(one, two) for one in range(members) for two in range(one, members)]
    found = {}
    for row in errors.groupBy("fold").agg(*[F.sum(_product(f"e{one}", f"e{two}")).alias(f"s{one}_{two}") for one, two in pairs]).collect():
        found[row["fold"]] = np.array([[row[f"s{min(one, two)}_{max(one, two)}"] for two in range(members)] for one in range(members)])
    return found


def _errors(member: str, problem: Problem) -> Column:
    if not problem.n_classes:
        return F.transform(F.col(member), lambda value: value - F.col("label"))
    return F.transform(F.col(member), lambda p, place: p - (place == F.col("label")).cast("double"))


def _product(one: str, two: str) -> Column:
    return F.aggregate(F.zip_with(one, two, lambda a, b: a * b), F.lit(0.0), lambda total, value: total + value)


def simplex_weights(products: np.ndarray) -> np.ndarray:
    """Return the weights ≥ 0 of sum 1 that minimise ``w @ products @ w``.

    Exact: on the members that count, the minimum is that without the bounds, and there are few enough members to look at every choice of
    them. Of choices that are as good, that of the fewest members is taken, the first ones of them.
    """
    size = len(products)
    best, least = np.eye(size)[0], np.inf
    scale = max(float(np.trace(products)), np.finfo(float).tiny)
    for count in range(1, size + 1):
        for chosen in combinations(range(size), count):
            part = products[np.ix_(chosen, chosen)] / scale
            # A touch of a ridge, for members that say the same, or the opposite.
            found = np.linalg.solve(part + _SAME * np.eye(count), np.ones(count))
            if found.min() < 0:
                continue
            weights = np.zeros(size)
            weights[list(chosen)] = found / found.sum()
            value = float(weights @ products @ weights) / scale
            if value < least - _SAME:
                best, least = weights, value
    return best


def stack(rows: DataFrame, members: int, problem: Problem) -> Combiner:
    """Return the linear model of what the members say, fitted by MLlib on all of ``rows``.

    Of classes a logistic regression, of values least squares, with a ridge as light as one row: enough to hold members apart that say
    much the same. Its weights, of several classes, are the means of those by which a class hears its own probability.
    """
    inputs = StackedInputs([member_column(place) for place in range(members)], problem.task)
    given = inputs.transform(rows)
    dropped = SQLTransformer(statement=f"SELECT * EXCEPT ({STACKED}{', rawPrediction' if problem.n_classes else ''}) FROM __THIS__")
    count, deviation = rows.agg(F.count("*"), F.stddev_samp("label")).first() or (0, None)
    ridge = 1.0 / max(count, 1)
    if problem.n_classes:
        kind = "binomial" if problem.n_classes == 2 else "multinomial"
        model = LogisticRegression(featuresCol=STACKED, family=kind, regParam=ridge, standardization=False, maxIter=200, tol=1e-9).fit(
            given
        )
        matrix = model.coefficientMatrix.toArray()
        if problem.n_classes > 2:
            matrix = matrix.reshape(problem.n_classes, members, problem.n_classes).diagonal(axis1=0, axis2=2).mean(axis=1)[None]
        return Combiner((inputs, model, dropped), tuple(float(weight) for weight in matrix[0]))
    # MLlib's penalty is in units of the label's deviation.
    model = LinearRegression(featuresCol=STACKED, regParam=ridge * (deviation or 1.0)).fit(given)
    return Combiner((inputs, model, dropped), tuple(float(weight) for weight in model.coefficients))


def stacks(rows: DataFrame, members: int, folds: Sequence[int], problem: Problem) -> tuple[Combiner, Mapping[int, Combiner]]:
    """Return the stack of all rows, and for each fold that of the rows of the others."""
    by_fold = {fold: stack(rows.where(F.col("fold") != fold), members, problem) for fold in folds}
    return stack(rows, members, problem), by_fold
