"""Given weights as a stage of MLlib: a logistic regression bounded to them, or a linear one of rows that have no other answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.linalg import Matrices, Vectors, VectorUDT
from pyspark.ml.regression import LinearRegression
from pyspark.sql import types as T

from tidemill.training.classes import class_metadata

if TYPE_CHECKING:
    from pyspark.ml import Model
    from pyspark.sql import SparkSession

_BOUNDS = ("lowerBoundsOnCoefficients", "upperBoundsOnCoefficients", "lowerBoundsOnIntercepts", "upperBoundsOnIntercepts")


def linear_scores(
    spark: SparkSession,
    weights: np.ndarray,
    biases: np.ndarray,
    n_classes: int,
    features: str,
    *,
    probability: str = "probability",
    raw: str = "rawPrediction",
) -> Model:
    """Return the model whose raw prediction is ``weights @ x + biases``, and whose probability is the softmax of it.

    ``weights`` has one row a class, or a single one for the second of two classes. MLlib has no way to make a model of given weights that
    any session can save and load; a regression whose bounds leave no room takes no step. ``probability`` and ``raw`` name its
    columns, empty for one that it is not to add.
    """
    size = weights.shape[1]
    # A slot that never changes would lose its weight, hence a row of ones.
    rows = [(Vectors.dense(np.ones(size)) if index == 0 else Vectors.sparse(size, [], []), float(index)) for index in range(n_classes)]
    label = T.StructField("label", T.DoubleType(), metadata=class_metadata(n_classes))
    corners = spark.createDataFrame(rows, T.StructType([T.StructField(features, VectorUDT()), label])).coalesce(1)
    matrix = Matrices.dense(len(weights), size, weights.ravel(order="F"))
    model = LogisticRegression(
        family="multinomial" if len(weights) > 1 else "binomial",
        featuresCol=features,
        labelCol="label",
        probabilityCol=probability,
        rawPredictionCol=raw,
        maxIter=0,
        standardization=False,
        lowerBoundsOnCoefficients=matrix,
        upperBoundsOnCoefficients=matrix,
        lowerBoundsOnIntercepts=Vectors.dense(biases),
        upperBoundsOnIntercepts=Vectors.dense(biases),
    ).fit(corners)
    for name in _BOUNDS:  # they are as large as the model and would be saved with it, as text
        model.clear(model.getParam(name))
    return model


def linear_values(spark: SparkSession, weights: np.ndarray, bias: float, features: str) -> Model:
    """Return the model whose prediction is ``weights @ x + bias``.

    MLlib has no way to make one of given weights that any session can save and load; least squares through the origin and the ends of the
    axes find nothing else.
    """
    size = len(weights)
    ends = [(Vectors.sparse(size, [place], [1.0]), float(weight + bias)) for place, weight in enumerate(weights)]
    schema = T.StructType([T.StructField(features, VectorUDT()), T.StructField("label", T.DoubleType())])
    rows = spark.createDataFrame([(Vectors.sparse(size, [], []), float(bias)), *ends], schema).coalesce(1)
    return LinearRegression(featuresCol=features, labelCol="label", regParam=0.0, maxIter=200, tol=1e-14, standardization=False).fit(rows)
