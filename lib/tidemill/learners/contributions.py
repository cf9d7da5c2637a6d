"""Exact contributions of raw columns to the predictions of trees and linear models, as a column that Spark tasks compute."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from pyspark.ml import Transformer
from pyspark.ml.classification import LogisticRegressionModel
from pyspark.ml.regression import LinearRegressionModel
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf

from tidemill.features.text.arrow import dense_rows, sparse_parts
from tidemill.learners.model import LearnedModel
from tidemill.runtime.caching import WORKER_CACHE, limit_to_one_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame


@runtime_checkable
class TreeScorer(Protocol):
    """A fitted model of trees that knows the contributions of its slots."""

    @property
    def scale(self) -> str:
        """What the contributions add up to: value, probability, log-odds, or margin, the score of a class before the softmax."""
        ...

    def contributions(self, features: np.ndarray) -> np.ndarray:
        """Return the contributions of the slots, and last the mean prediction: (rows, outputs, slots + 1)."""
        ...


@dataclass(frozen=True)
class ExactContributions:
    """How a stage explains its predictions: by ``kind`` (tree or linear), adding up on ``scale``.

    ``explain`` returns, of vectors, the contributions of groups of slots and last the mean prediction: (rows, outputs, groups + 1).
    """

    kind: str
    scale: str
    vectors: str
    explain: Callable[[pa.StructArray], np.ndarray]


def explain_linear(stage: Any, groups: Sequence[int], n_groups: int, means: np.ndarray) -> ExactContributions:
    """Explain a linear model: the contribution of a slot is its coefficient × (its value - its mean).

    Args:
        stage: a LogisticRegressionModel or a LinearRegressionModel.
        groups: the group of each slot.
        n_groups: the number of groups.
        means: the mean of each slot over the background rows.
    """
    if isinstance(stage, LinearRegressionModel):
        weights, biases, scale = stage.coefficients.toArray()[None], np.array([stage.intercept]), "value"
    else:
        weights, biases = stage.coefficientMatrix.toArray(), stage.interceptVector.toArray()
        if stage.numClasses == 2 and len(weights) == 2:
            weights, biases = weights[1:] - weights[:1], biases[1:] - biases[:1]
        scale = "log-odds" if len(weights) == 1 else "margin"
    places, base = np.asarray(groups), biases + weights @ means
    at_mean = np.stack([np.bincount(places, row * means, n_groups) for row in weights])

    def explain(vectors: pa.StructArray) -> np.ndarray:
        offsets, slots, values = sparse_parts(vectors)
        rows = np.repeat(np.arange(len(vectors)), np.diff(offsets))
        cells = rows * n_groups + places[slots]
        sums = [np.bincount(cells, values * row[slots], len(vectors) * n_groups).reshape(-1, n_groups) for row in weights]
        each = np.stack(sums, axis=1) - at_mean
        return np.concatenate([each, np.broadcast_to(base[:, None], (len(vectors), len(base), 1))], axis=2)

    return ExactContributions("linear", scale, str(stage.getOrDefault("featuresCol")), explain)


def explain_trees(stage: LearnedModel, groups: Sequence[int], n_groups: int) -> ExactContributions | None:
    """Explain a model of trees by the exact Shapley values of its library; None where the model has none."""
    scorer = stage.scorer()
    if not isinstance(scorer, TreeScorer):
        return None
    load = stage.loader()
    key = f"model/{hashlib.sha256(stage.dumped).hexdigest()}"
    sums = np.zeros((len(groups) + 1, n_groups + 1))
    sums[np.arange(len(groups)), np.asarray(groups, dtype=int)] = 1.0
    sums[-1, -1] = 1.0

    def explain(vectors: pa.StructArray) -> np.ndarray:
        loaded: Any = WORKER_CACHE.get(key, load)
        with limit_to_one_thread():
            return np.asarray(loaded.contributions(dense_rows(vectors)) @ sums)

    return ExactContributions("tree", scorer.scale, str(stage.getOrDefault("featuresCol")), explain)


def is_linear(stage: Transformer) -> bool:
    """Return True for the stages that `explain_linear` explains."""
    return isinstance(stage, LogisticRegressionModel | LinearRegressionModel)


class ContributionStage(Transformer):
    """Adds ``output`` ARRAY<DOUBLE>: for each output of the model the contributions, and the mean prediction; null without a vector."""

    def __init__(self, exact: ExactContributions, output: str) -> None:
        """Store how the model is explained."""
        super().__init__()
        self.exact, self.output = exact, output

    def _transform(self, dataset: DataFrame) -> DataFrame:
        explain = self.exact.explain

        def contribute(vectors: pa.Array) -> pa.Array:
            is_present = np.asarray(vectors.is_valid())
            if not is_present.any():
                return pa.nulls(len(vectors), pa.list_(pa.float64()))
            found = explain(vectors if is_present.all() else vectors.filter(pa.array(is_present)))
            values = np.ascontiguousarray(found, dtype=np.float64).reshape(int(is_present.sum()), -1)
            offsets = np.concatenate([[0], np.cumsum(is_present * values.shape[1])]).astype(np.int32)
            return pa.ListArray.from_arrays(pa.array(offsets, mask=np.append(~is_present, False)), pa.array(values.ravel()))

        untyped_udf: Any = arrow_udf  # mypy requires a function type that arrow_udf infers
        return dataset.withColumn(self.output, untyped_udf(contribute, "array<double>")(F.col(self.exact.vectors)))
