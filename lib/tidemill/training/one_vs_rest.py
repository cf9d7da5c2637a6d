"""Boosted trees for more than two classes, which MLlib's know only two of: one model a class against the rest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pyspark import inheritable_thread_target
from pyspark.ml import PipelineModel
from pyspark.ml.classification import GBTClassificationModel, GBTClassifier, LogisticRegression
from pyspark.ml.feature import Normalizer, SQLTransformer, VectorAssembler, VectorSlicer
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import Matrices, Vectors
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame, SparkSession

_SIDE_BY_SIDE = 2
_PAIRS, _SHARES = "_tidemill_pairs", "_tidemill_shares"


class OneVsRestBoosting(GBTClassifier):
    """Boosted trees over any number of classes; takes the parameters of GBTClassifier.

    The fitted PipelineModel is made of MLlib's own stages and adds ``probability`` (each class's probability against the rest, divided
    by their sum) and ``prediction`` (the most probable class). MLlib's OneVsRest has the same models inside, but gives no probability
    and persists the frame that it scores.

    Source: Zadrozny, Elkan: Transforming classifier scores into accurate multiclass probability estimates, KDD 2002, section 4.
    """

    def _fit(self, dataset: DataFrame) -> PipelineModel:  # type: ignore[override]
        """Fit one model a class on ``dataset``, whose label says in its metadata how many classes there are."""
        label, classes = self.getLabelCol(), range(_class_count(dataset, self.getLabelCol()))
        vectors = self.getFeaturesCol()

        def fit(index: int) -> GBTClassificationModel:
            is_class = (F.col(label) == index).cast("double").alias(label, metadata=class_metadata(2))
            own = {"probabilityCol": _column(index), "predictionCol": "", "rawPredictionCol": ""}
            return GBTClassifier()._set(**{**_plain(self), **own}).fit(dataset.select(vectors, is_class))

        # Wrapped one by one: each thread needs properties of its own, or their SQL executions mix.
        tasks = [inheritable_thread_target(dataset.sparkSession)(partial(fit, index)) for index in classes]
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            models = list(pool.map(lambda task: task(), tasks))
        return PipelineModel([*models, *_combined(dataset.sparkSession, len(classes))])


def class_metadata(n_classes: int) -> dict[str, object]:
    """Return the metadata of a label column that tells MLlib the number of classes, which saves it a job and finds absent ones."""
    return {"ml_attr": {"type": "nominal", "num_vals": n_classes}}


def _plain(estimator: GBTClassifier) -> dict[str, object]:
    """Return the parameters that were set, by name."""
    return {param.name: value for param, value in estimator._paramMap.items()}


def _class_count(dataset: DataFrame, label: str) -> int:
    return int(dataset.schema[label].metadata["ml_attr"]["num_vals"])


def _column(index: int) -> str:
    return f"_tidemill_class_{index}"


def _combined(spark: SparkSession, n_classes: int) -> list[Transformer]:
    """Return the stages that turn each class's ``[1 - p, p]`` into one probability vector and its greatest class."""
    columns = [_column(index) for index in range(n_classes)]
    return [
        VectorAssembler(inputCols=columns, outputCol=_PAIRS),
        VectorSlicer(inputCol=_PAIRS, outputCol=_SHARES, indices=[2 * index + 1 for index in range(n_classes)]),
        Normalizer(inputCol=_SHARES, outputCol="probability", p=1.0),
        _greatest(spark, n_classes),
        SQLTransformer(statement=f"SELECT * EXCEPT ({', '.join([*columns, _PAIRS, _SHARES])}) FROM __THIS__"),
    ]


def _greatest(spark: SparkSession, n_classes: int) -> Transformer:
    """Return a native stage that sets ``prediction`` to the index of the greatest value of ``probability``.

    MLlib has none; a multinomial regression whose coefficients are bounded to the identity is one.
    """
    identity = Matrices.dense(n_classes, n_classes, np.eye(n_classes).ravel().tolist())
    zeros = Vectors.dense([0.0] * n_classes)
    index = F.col("id").cast("int")
    corner = array_to_vector(F.array(*[(index == column).cast("double") for column in range(n_classes)]))
    corners = spark.range(0, n_classes, 1, 1).select(
        corner.alias("probability"), index.cast("double").alias("label", metadata=class_metadata(n_classes))
    )
    return LogisticRegression(
        family="multinomial",
        featuresCol="probability",
        labelCol="label",
        probabilityCol="",
        rawPredictionCol="",
        predictionCol="prediction",
        maxIter=1,
        standardization=False,
        lowerBoundsOnCoefficients=identity,
        upperBoundsOnCoefficients=identity,
        lowerBoundsOnIntercepts=zeros,
        upperBoundsOnIntercepts=zeros,
    ).fit(corners)
