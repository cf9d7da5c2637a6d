"""Factorization machines: weights, and for each pair of slots the product of two short vectors."""

from __future__ import annotations

from pyspark.ml.classification import FMClassifier
from pyspark.ml.regression import FMRegressor

from tidemill.spec.models import IntRange, LogRange, Space
from tidemill.training.families.family import MLlibFamily

_SPACE: Space = {"factorSize": IntRange(int=[2, 8]), "regParam": LogRange(log=[1e-5, 1e-2]), "stepSize": LogRange(log=[0.01, 0.1])}

FACTORIZATION_MACHINES = MLlibFamily(
    name="factorization_machines",
    encoding="linear",
    estimators={"binary": FMClassifier, "regression": FMRegressor},
    spaces={"binary": _SPACE, "regression": _SPACE},
    fixed={"maxIter": 100},
    choices={"solver": ("adamW", "gd")},
)
