"""Boosted trees for more than two classes, which MLlib's know only two of: one model a class against the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pyspark.ml import PipelineModel
from pyspark.ml.classification import GBTClassificationModel, GBTClassifier
from pyspark.ml.feature import Normalizer, SQLTransformer, VectorAssembler, VectorSlicer

from tidemill.families.class_labels import against_the_rest, class_count, set_parameters
from tidemill.families.estimators.linear_scores import linear_scores

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame, SparkSession


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
        label, given = self.getLabelCol(), set_parameters(self)
        classes = class_count(dataset, label)

        def fit(index: int, rows: DataFrame) -> GBTClassificationModel:
            own = {"probabilityCol": _column(index), "predictionCol": "", "rawPredictionCol": ""}
            return GBTClassifier()._set(**{**given, **own}).fit(rows)

        also = [self.getWeightCol()] if self.isSet(self.weightCol) else []
        models = against_the_rest(dataset, label, self.getFeaturesCol(), range(classes), fit, also)
        return PipelineModel([*models, *_combined(dataset.sparkSession, classes)])


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

    MLlib has none; a linear model whose weights are the identity is one.
    """
    weights, biases = np.eye(n_classes), np.zeros(n_classes)
    return linear_scores(spark, weights, biases, n_classes, "probability", probability="", raw="")
