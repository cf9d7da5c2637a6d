"""The multilayer perceptron: a layer of units between the features and the classes, or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.ml.classification import MultilayerPerceptronClassifier
from pyspark.ml.param import Param, Params, TypeConverters

from tidemill.errors import StepError
from tidemill.families.class_labels import class_count, set_parameters
from tidemill.families.family import MLlibFamily
from tidemill.spec.models import IntRange, LogRange, Space

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


# MLlib stacks rows into dense blocks, and keeps a weight for each slot and unit.
MOST_SLOTS = 10_000
_SPACE: Space = {"hiddenUnits": IntRange(int=[8, 64]), "hiddenLayers": [1, 2], "tol": LogRange(log=[1e-6, 1e-4])}


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


MULTILAYER_PERCEPTRON = MLlibFamily(
    name="multilayer_perceptron",
    encoding="linear",
    estimators={"binary": Perceptron, "multiclass": Perceptron},
    spaces={"binary": _SPACE, "multiclass": _SPACE},
    fixed={"maxIter": 100},
    choices={"solver": ("l-bfgs", "gd")},
    ours=("layers", "initialWeights"),
)
