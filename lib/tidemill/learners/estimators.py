"""Estimators of the engine `spark` that MLlib lacks: naive Bayes with absent classes, perceptrons, multiclass boosting."""

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
from tidemill.learners.class_labels import count_classes, fit_one_vs_rest, list_set_params
from tidemill.learners.linear_scores import build_linear_classifier

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame, SparkSession


_WEIGHT = "_tidemill_weight"
_NEGLIGIBLE_WEIGHT = 1e-9
_PAIRS, _SHARES = "_tidemill_pairs", "_tidemill_shares"
# MLlib stacks rows into dense blocks, and has a weight for each slot and unit.
MAX_PERCEPTRON_SLOTS = 10_000


class CompleteNaiveBayes(NaiveBayes):
    """Naive Bayes over all classes in the metadata of the label.

    MLlib's estimator counts only the classes of the rows: without rows of a class, the probabilities of later classes move up by one
    position. So a row of zeros with a negligible weight is added for each class.
    """

    def _fit(self, dataset: DataFrame) -> NaiveBayesModel:
        label, features = self.getLabelCol(), self.getFeaturesCol()
        metadata = dataset.schema[label].metadata
        weight = F.col(self.getWeightCol()) if self.isSet(self.weightCol) else F.lit(1.0)
        rows = dataset.select(F.col(features), F.col(label), weight.alias(_WEIGHT))
        first = rows.first()
        if first is not None:
            zeros = Vectors.sparse(len(first[features]), [], [])
            class_rows = dataset.sparkSession.createDataFrame(
                [(zeros, float(each), _NEGLIGIBLE_WEIGHT) for each in range(count_classes(dataset, label))], rows.schema
            )
            rows = rows.union(class_rows).withColumn(label, F.col(label).alias(label, metadata=metadata))
        return super(CompleteNaiveBayes, self.copy({self.weightCol: _WEIGHT}))._fit(rows)


class Perceptron(MultilayerPerceptronClassifier):
    """MLlib's perceptron; the size of the first layer is that of the features, of the last layer the number of classes."""

    # MLlib names parameters this way.
    hiddenUnits = Param(  # noqa: N815
        Params._dummy(), "hiddenUnits", "units of each hidden layer (>= 1)", typeConverter=TypeConverters.toInt
    )
    hiddenLayers = Param(  # noqa: N815
        Params._dummy(), "hiddenLayers", "number of hidden layers (>= 0)", typeConverter=TypeConverters.toInt
    )

    def __init__(self) -> None:
        """Set the defaults: one hidden layer of 16 units."""
        super().__init__()
        self._setDefault(hiddenUnits=16, hiddenLayers=1)

    def _fit(self, dataset: DataFrame) -> Any:
        """Fit on ``dataset``, whose label has the number of classes in its metadata.

        Raises:
            StepError: there are more slots than a perceptron supports.
        """
        row = dataset.select(self.getFeaturesCol()).head()
        slots = 0 if row is None else int(row[0].size)
        if slots > MAX_PERCEPTRON_SLOTS:
            raise StepError(
                f"multilayer_perceptron takes at most {MAX_PERCEPTRON_SLOTS:,} slots, since MLlib makes its rows dense; "
                f"the features have {slots:,}: "
                "end the stages of texts in word2vec or an embedding, or lower `tfidf.size` and `categorical` columns"
            )
        classes = count_classes(dataset, self.getLabelCol())
        hidden_layers = [self.getOrDefault(self.hiddenUnits)] * self.getOrDefault(self.hiddenLayers)
        own_params = ("hiddenUnits", "hiddenLayers")
        mllib_params = {name: value for name, value in list_set_params(self).items() if name not in own_params}
        return MultilayerPerceptronClassifier()._set(**{**mllib_params, "layers": [slots, *hidden_layers, classes]}).fit(dataset)


class OneVsRestBoosting(GBTClassifier):
    """Boosted trees for any number of classes, with the parameters of GBTClassifier.

    The fitted PipelineModel has MLlib's own stages and adds ``probability`` (each class's probability against the rest, divided
    by their sum) and ``prediction`` (the most probable class). MLlib's OneVsRest has the same models inside, but gives no probability
    and caches the frame that it scores.

    Source: Zadrozny, Elkan: Transforming classifier scores into accurate multiclass probability estimates, KDD 2002, section 4.
    """

    def _fit(self, dataset: DataFrame) -> PipelineModel:  # type: ignore[override]
        """Fit one model per class on ``dataset``, whose label has the number of classes in its metadata."""
        label, mllib_params = self.getLabelCol(), list_set_params(self)
        classes = count_classes(dataset, label)

        def fit(index: int, rows: DataFrame) -> GBTClassificationModel:
            own = {"probabilityCol": _class_column(index), "predictionCol": "", "rawPredictionCol": ""}
            return GBTClassifier()._set(**{**mllib_params, **own}).fit(rows)

        weight_columns = [self.getWeightCol()] if self.isSet(self.weightCol) else []
        models = fit_one_vs_rest(dataset, label, self.getFeaturesCol(), range(classes), fit, weight_columns)
        return PipelineModel([*models, *_combine_stages(dataset.sparkSession, classes)])


def _class_column(index: int) -> str:
    return f"_tidemill_class_{index}"


def _combine_stages(spark: SparkSession, n_classes: int) -> list[Transformer]:
    """Return the stages that combine each class's ``[1 - p, p]`` to one probability vector and its most probable class."""
    columns = [_class_column(index) for index in range(n_classes)]
    return [
        VectorAssembler(inputCols=columns, outputCol=_PAIRS),
        VectorSlicer(inputCol=_PAIRS, outputCol=_SHARES, indices=[2 * index + 1 for index in range(n_classes)]),
        Normalizer(inputCol=_SHARES, outputCol="probability", p=1.0),
        _argmax_stage(spark, n_classes),
        SQLTransformer(statement=f"SELECT * EXCEPT ({', '.join([*columns, _PAIRS, _SHARES])}) FROM __THIS__"),
    ]


def _argmax_stage(spark: SparkSession, n_classes: int) -> Transformer:
    """Return a native stage that sets ``prediction`` to the index of the greatest value of ``probability``.

    MLlib has no such stage; a linear model with the identity matrix as weights does it.
    """
    weights, biases = np.eye(n_classes), np.zeros(n_classes)
    return build_linear_classifier(spark, weights, biases, n_classes, "probability", probability="", raw="")
