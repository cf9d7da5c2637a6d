"""Linear models of given weights as stages of MLlib: by its constructor, or on Spark Connect by a fit with a unique solution."""

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


def build_linear_classifier(
    spark: SparkSession,
    weights: np.ndarray,
    biases: np.ndarray,
    n_classes: int,
    features: str,
    *,
    probability: str = "probability",
    raw: str = "rawPrediction",
) -> Model:
    """Return the model with the raw prediction ``weights @ x + biases``, and its softmax as probability.

    ``weights`` has one row per class, or a single one for the second of two classes. ``probability`` and ``raw`` name its columns; an empty
    name leaves the column out.
    """
    rows, slots = weights.shape
    matrix, bias = (
        DenseMatrix(rows, slots, weights.ravel(), isTransposed=True),
        Vectors.dense(biases),
    )  # MLlib requires row-major order for two classes
    if is_remote():
        return fit_bounded(spark, matrix, bias, n_classes, features, probability=probability, raw=raw)
    model = _construct_model("classification.LogisticRegressionModel", matrix, bias, n_classes, len(weights) > 1)
    return model._set(featuresCol=features, labelCol="label", probabilityCol=probability, rawPredictionCol=raw)


def _construct_model(name: str, *arguments: object) -> Any:
    """Call the constructor of MLlib's class, which is private in Scala, but not in Java."""
    kind = f"org.apache.spark.ml.{name}"
    return JavaParams._from_java(JavaParams._new_java_obj(kind, f"{kind.rpartition('.')[2]}_{uuid.uuid4().hex[:12]}", *arguments))


def fit_bounded(
    spark: SparkSession, matrix: DenseMatrix, bias: DenseVector, n_classes: int, features: str, *, probability: str, raw: str
) -> Model:
    """Fit a logistic regression whose bounds allow only these coefficients, with no iteration."""
    size = matrix.numCols
    # A row of ones, since a constant slot would get weight 0.
    rows = [(Vectors.dense(np.ones(size)) if index == 0 else Vectors.sparse(size, [], []), float(index)) for index in range(n_classes)]
    label = T.StructField("label", T.DoubleType(), metadata=class_metadata(n_classes))
    rows_frame = spark.createDataFrame(rows, T.StructType([T.StructField(features, VectorUDT()), label])).coalesce(1)
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
    ).fit(rows_frame)
    for name in _BOUNDS:  # the bounds are as large as the model, and would be saved with it as text
        model.clear(model.getParam(name))
    return model


def build_linear_regressor(spark: SparkSession, weights: np.ndarray, bias: float, features: str) -> Model:
    """Return the model with the prediction ``weights @ x + bias``."""
    if is_remote():
        return fit_least_squares(spark, weights, bias, features)
    return _construct_model("regression.LinearRegressionModel", Vectors.dense(weights), float(bias))._set(
        featuresCol=features, labelCol="label"
    )


def fit_least_squares(spark: SparkSession, weights: np.ndarray, bias: float, features: str) -> Model:
    """Fit a linear regression on the origin and the unit vectors, whose only solution is these weights."""
    size = len(weights)
    unit_vectors = [(Vectors.sparse(size, [slot], [1.0]), float(weight + bias)) for slot, weight in enumerate(weights)]
    schema = T.StructType([T.StructField(features, VectorUDT()), T.StructField("label", T.DoubleType())])
    rows = spark.createDataFrame([(Vectors.sparse(size, [], []), float(bias)), *unit_vectors], schema).coalesce(1)
    return LinearRegression(featuresCol=features, labelCol="label", regParam=0.0, maxIter=200, tol=1e-14, standardization=False).fit(rows)
