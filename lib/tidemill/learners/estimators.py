"""Estimators of the engine `spark` that MLlib lacks: naive Bayes and perceptrons of all classes, and boosting of more than two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.ml import PipelineModel
from pyspark.ml.classification import (
    GBTClassificationModel,
    GBTClassifier,
    MultilayerPerceptronClassifier,
    NaiveBayes,
    NaiveBayesModel,
)
from pyspark.ml.feature import Normalizer, SQLTransformer, VectorAssembler, VectorSlicer
from pyspark.ml.linalg import Vectors
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.learners.class_labels import against_the_rest, class_count, set_parameters
from tidemill.learners.linear_scores import linear_scores

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame, SparkSession


_WEIGHT = "_tidemill_weight"
_NEGLIGIBLE_WEIGHT = 1e-9
_PAIRS, _SHARES = "_tidemill_pairs", "_tidemill_shares"
# MLlib stacks rows into dense blocks, and keeps a weight for each slot and unit.
MOST_SLOTS = 10_000


class CompleteNaiveBayes(NaiveBayes):
    """Naive Bayes over all classes that the label's metadata tell of.

    MLlib's knows those in the rows alone: where one is missing, its place among the probabilities is, and the ones behind it move up. So
    each class gets a row of no feature, of a weight that is next to none.
    """

    def _fit(self, dataset: DataFrame) -> NaiveBayesModel:
        label, features = self.getLabelCol(), self.getFeaturesCol()
        metadata = dataset.schema[label].metadata
        weight = F.col(self.getWeightCol()) if self.isSet(self.weightCol) else F.lit(1.0)
        rows = dataset.select(F.col(features), F.col(label), weight.alias(_WEIGHT))
        first = rows.first()
        if first is not None:
            nothing = Vectors.sparse(len(first[features]), [], [])
            added = dataset.sparkSession.createDataFrame(
                [(nothing, float(each), _NEGLIGIBLE_WEIGHT) for each in range(class_count(dataset, label))], rows.schema
            )
            rows = rows.union(added).withColumn(label, F.col(label).alias(label, metadata=metadata))
        return super(CompleteNaiveBayes, self.copy({self.weightCol: _WEIGHT}))._fit(rows)


class Perceptron(MultilayerPerceptronClassifier):
    """MLlib's perceptron, whose first layer is as wide as the features and whose last as the classes are many."""

    # MLlib names parameters this way.
    hiddenUnits = Param(  # noqa: N815
        Params._dummy(), "hiddenUnits", "units of each hidden layer (>= 1)", typeConverter=TypeConverters.toInt
    )
    hiddenLayers = Param(  # noqa: N815
        Params._dummy(), "hiddenLayers", "number of hidden layers (>= 0)", typeConverter=TypeConverters.toInt
    )

    def __init__(self) -> None:
        """Begin with one layer of 16 units."""
        super().__init__()
        self._setDefault(hiddenUnits=16, hiddenLayers=1)

    def _fit(self, dataset: DataFrame) -> Any:
        """Fit on ``dataset``, whose label says in its metadata how many classes there are.

        Raises:
            StepError: there are more slots than a perceptron can take.
        """
        row = dataset.select(self.getFeaturesCol()).head()
        slots = 0 if row is None else int(row[0].size)
        if slots > MOST_SLOTS:
            raise StepError(
                f"multilayer_perceptron takes at most {MOST_SLOTS:,} slots, since MLlib makes its rows dense; the features have {slots:,}: "
                "end the stages of texts in word2vec or an embedding, or lower `tfidf.size` and `categorical` columns"
            )
        classes = class_count(dataset, self.getLabelCol())
        hidden = [self.getOrDefault(self.hiddenUnits)] * self.getOrDefault(self.hiddenLayers)
        ours = ("hiddenUnits", "hiddenLayers")
        given = {name: value for name, value in set_parameters(self).items() if name not in ours}
        return MultilayerPerceptronClassifier()._set(**{**given, "layers": [slots, *hidden, classes]}).fit(dataset)


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
