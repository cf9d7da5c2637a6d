"""Classifiers and regressors by MLlib that are neither linear nor trees: naive Bayes, perceptrons, factorization machines."""

from __future__ import annotations

from tidemill.families.family import BOTH_WAYS, MLlibFamily
from tidemill.families.space import IntRange, LogRange, Space

_BAYES: Space = {"modelType": ["multinomial", "complement"], "smoothing": LogRange(log=[0.01, 1.0])}
_PERCEPTRON: Space = {"hiddenUnits": IntRange(int=[8, 64]), "hiddenLayers": [1, 2], "tol": LogRange(log=[1e-6, 1e-4])}
_FACTORS: Space = {"factorSize": IntRange(int=[2, 8]), "regParam": LogRange(log=[1e-5, 1e-2]), "stepSize": LogRange(log=[0.01, 0.1])}
_CLASSES = ("binary", "multiclass")

FAMILIES = (
    MLlibFamily(
        name="naive_bayes",
        encoding="positive",
        spaces=dict.fromkeys(_CLASSES, _BAYES),
        estimators=dict.fromkeys(_CLASSES, "tidemill.learners.estimators.CompleteNaiveBayes"),
        learner_at="tidemill.learners.linear_learners:BAYES",
        weights=BOTH_WAYS,
        needs_nonnegative=True,
        choices={"modelType": ("multinomial", "complement")},
    ),
    MLlibFamily(
        name="multilayer_perceptron",
        spaces=dict.fromkeys(_CLASSES, _PERCEPTRON),
        estimators=dict.fromkeys(_CLASSES, "tidemill.learners.estimators.Perceptron"),
        fixed={"maxIter": 100},
        choices={"solver": ("l-bfgs", "gd")},
        reserved=("layers", "initialWeights"),
    ),
    MLlibFamily(
        name="factorization_machines",
        spaces={"binary": _FACTORS, "regression": _FACTORS},
        estimators={"binary": "pyspark.ml.classification.FMClassifier", "regression": "pyspark.ml.regression.FMRegressor"},
        fixed={"maxIter": 100},
        choices={"solver": ("adamW", "gd")},
    ),
)
