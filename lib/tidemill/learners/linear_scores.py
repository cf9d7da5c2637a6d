"""Given weights as a stage of MLlib: by its constructor, or where Java is out of reach by a fit that has no other answer."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.linalg import DenseMatrix, Vectors, VectorUDT
from pyspark.ml.regression import LinearRegression
from pyspark.ml.wrapper import JavaParams
from pyspark.sql import types as T
from pyspark.sql.utils import is_remote

from tidemill.learners.class_labels import class_metadata

if TYPE_CHECKING:
    from pyspark.ml import Model
    from pyspark.ml.linalg import DenseVector
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

    ``weights`` has one row a class, or a single one for the second of two classes. ``probability`` and ``raw`` name its columns, empty for
    one that it is not to add.
    """
    rows, slots = weights.shape
    matrix, bias = DenseMatrix(rows, slots, weights.ravel(), isTransposed=True), Vectors.dense(biases)  # of two classes it must lie so
    if is_remote():
        return bounded(spark, matrix, bias, n_classes, features, probability=probability, raw=raw)
    model = _made("classification.LogisticRegressionModel", matrix, bias, n_classes, len(weights) > 1)
    return model._set(featuresCol=features, labelCol="label", probabilityCol=probability, rawPredictionCol=raw)


def _made(name: str, *figures: object) -> Any:
    """Return the model that the constructor of MLlib's class makes; Scala keeps it to Spark, Java does not."""
    kind = f"org.apache.spark.ml.{name}"
    return JavaParams._from_java(JavaParams._new_java_obj(kind, f"{kind.rpartition('.')[2]}_{uuid.uuid4().hex[:12]}", *figures))


def bounded(
    spark: SparkSession, matrix: DenseMatrix, bias: DenseVector, n_classes: int, features: str, *, probability: str, raw: str
) -> Model:
    """Return a logistic regression whose bounds leave no room: it takes no step."""
    size = matrix.numCols
    # A slot that never changes would lose its weight, hence a row of ones.
    rows = [(Vectors.dense(np.ones(size)) if index == 0 else Vectors.sparse(size, [], []), float(index)) for index in range(n_classes)]
    label = T.StructField("label", T.DoubleType(), metadata=class_metadata(n_classes))
    corners = spark.createDataFrame(rows, T.StructType([T.StructField(features, VectorUDT()), label])).coalesce(1)
    model = LogisticRegression(
        family="multinomial" if matrix.numRows > 1 else "binomial",
        featuresCol=features,
        labelCol="label",
        probabilityCol=probability,
        rawPredictionCol=raw,
        maxIter=0,
        standardization=False,
        lowerBoundsOnCoefficients=matrix,
        upperBoundsOnCoefficients=matrix,
        lowerBoundsOnIntercepts=bias,
        upperBoundsOnIntercepts=bias,
    ).fit(corners)
    for name in _BOUNDS:  # they are as large as the model and would be saved with it, as text
        model.clear(model.getParam(name))
    return model


def linear_values(spark: SparkSession, weights: np.ndarray, bias: float, features: str) -> Model:
    """Return the model whose prediction is ``weights @ x + bias``."""
    if is_remote():
        return least_squares(spark, weights, bias, features)
    return _made("regression.LinearRegressionModel", Vectors.dense(weights), float(bias))._set(featuresCol=features, labelCol="label")


def least_squares(spark: SparkSession, weights: np.ndarray, bias: float, features: str) -> Model:
    """Return a linear regression through the origin and the ends of the axes: it finds nothing but the weights."""
    size = len(weights)
    ends = [(Vectors.sparse(size, [place], [1.0]), float(weight + bias)) for place, weight in enumerate(weights)]
    schema = T.StructType([T.StructField(features, VectorUDT()), T.StructField("label", T.DoubleType())])
    rows = spark.createDataFrame([(Vectors.sparse(size, [], []), float(bias)), *ends], schema).coalesce(1)
    return LinearRegression(featuresCol=features, labelCol="label", regParam=0.0, maxIter=200, tol=1e-14, standardization=False).fit(rows)
