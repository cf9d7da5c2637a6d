"""Naive Bayes, as it suits counts and their weights."""

from __future__ import annotations

from pyspark.ml.classification import NaiveBayes

from tidemill.spec.models import LogRange, Space
from tidemill.training.families.family import MLlibFamily

_SPACE: Space = {"modelType": ["multinomial", "complement"], "smoothing": LogRange(log=[0.01, 1.0])}

NAIVE_BAYES = MLlibFamily(
    name="naive_bayes",
    encoding="positive",
    estimators={"binary": NaiveBayes, "multiclass": NaiveBayes},
    spaces={"binary": _SPACE, "multiclass": _SPACE},
    choices={"modelType": ("multinomial", "complement")},
)
