"""Naive Bayes, as it suits counts and their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.ml.classification import NaiveBayes, NaiveBayesModel
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F

from tidemill.families.class_labels import class_count
from tidemill.families.family import MLlibFamily
from tidemill.families.learners.linear import Bayes
from tidemill.spec.models import LogRange, Space

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


_SPACE: Space = {"modelType": ["multinomial", "complement"], "smoothing": LogRange(log=[0.01, 1.0])}
_WEIGHT = "_tidemill_weight"
_NOTHING = 1e-9


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
                [(nothing, float(each), _NOTHING) for each in range(class_count(dataset, label))], rows.schema
            )
            rows = rows.union(added).withColumn(label, F.col(label).alias(label, metadata=metadata))
        return super(CompleteNaiveBayes, self.copy({self.weightCol: _WEIGHT}))._fit(rows)


NAIVE_BAYES = MLlibFamily(
    name="naive_bayes",
    takes_weights=True,
    learner=Bayes(),
    encoding="positive",
    estimators={"binary": CompleteNaiveBayes, "multiclass": CompleteNaiveBayes},
    spaces={"binary": _SPACE, "multiclass": _SPACE},
    choices={"modelType": ("multinomial", "complement")},
)
