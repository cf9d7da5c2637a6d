"""Linear families: a weight a slot, for each class."""

from __future__ import annotations

from pyspark.ml.classification import LogisticRegression
from pyspark.ml.regression import LinearRegression

from tidemill.families.estimators.linear_svm import LinearSvm
from tidemill.families.family import MLlibFamily
from tidemill.families.learners.linear import Svm
from tidemill.families.learners.penalised import LeastSquares, Logistic
from tidemill.spec.models import LogRange, Space

# MLlib's standardization takes the weights of rare categories more lightly; which is better is for the folds to say.
_LINEAR: Space = {"regParam": LogRange(log=[1e-5, 1e-1]), "elasticNetParam": [0.0, 0.5, 1.0], "standardization": [True, False]}
# Texts part their classes almost without an error: little of a penalty, and none that takes words out.
_TEXTS: Space = {"regParam": LogRange(log=[1e-6, 1e-4])}
_MARGINS: Space = {"regParam": LogRange(log=[1e-5, 1e-2])}

LOGISTIC_REGRESSION = MLlibFamily(
    name="logistic_regression",
    takes_weights=True,
    learner=Logistic(),
    encoding="linear",
    estimators={"binary": LogisticRegression, "multiclass": LogisticRegression},
    spaces={"binary": _LINEAR, "multiclass": _LINEAR},
    fixed={"maxIter": 50},
    # Weights of words are taken as they are: to bring each to the same deviation, as MLlib does, would make the rarest the heaviest.
    for_texts={"standardization": False},
    text_space=_TEXTS,
)
LINEAR_REGRESSION = MLlibFamily(
    name="linear_regression",
    takes_weights=True,
    learner=LeastSquares(),
    encoding="linear",
    estimators={"regression": LinearRegression},
    spaces={"regression": _LINEAR},
    fixed={"maxIter": 50},
)
LINEAR_SVM = MLlibFamily(
    name="linear_svm",
    learner=Svm(),
    encoding="linear",
    estimators={"binary": LinearSvm, "multiclass": LinearSvm},
    spaces={"binary": _MARGINS, "multiclass": _MARGINS},
    fixed={"maxIter": 20},
    # The features are scaled as the spec says, and a margin has no probability to set a threshold to.
    ours=("standardization", "threshold", "fitIntercept"),
    text_space={"regParam": LogRange(log=[5e-5, 5e-4])},
)
