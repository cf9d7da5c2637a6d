"""Linear families."""

from __future__ import annotations

from tidemill.families.family import BOTH_WAYS, IN_TASKS, MLlibFamily
from tidemill.families.space import LogRange, Space

# MLlib's standardization penalises the weights of rare categories less; cross-validation decides.
_LINEAR: Space = {"regParam": LogRange(log=[1e-5, 1e-1]), "elasticNetParam": [0.0, 0.5, 1.0], "standardization": [True, False]}
# Text classes are nearly separable: a small penalty, without L1.
_TEXTS: Space = {"regParam": LogRange(log=[1e-6, 1e-4])}
_MARGINS: Space = {"regParam": LogRange(log=[1e-5, 1e-2])}
_SVM = "tidemill.learners.linear_svm.LinearSvm"

FAMILIES = (
    MLlibFamily(
        name="logistic_regression",
        spaces={"binary": _LINEAR, "multiclass": _LINEAR},
        estimators=dict.fromkeys(("binary", "multiclass"), "pyspark.ml.classification.LogisticRegression"),
        learner_at="tidemill.learners.penalised:LOGISTIC",
        weights=BOTH_WAYS,
        fixed={"maxIter": 50},
        # Term weights are not standardised: the rarest terms would get the largest values.
        for_texts={"standardization": False},
        text_space=_TEXTS,
    ),
    MLlibFamily(
        name="linear_regression",
        spaces={"regression": _LINEAR},
        estimators={"regression": "pyspark.ml.regression.LinearRegression"},
        learner_at="tidemill.learners.penalised:LEAST_SQUARES",
        weights=BOTH_WAYS,
        fixed={"maxIter": 50},
    ),
    MLlibFamily(
        name="linear_svm",
        spaces={"binary": _MARGINS, "multiclass": _MARGINS},
        estimators={"binary": _SVM, "multiclass": _SVM},
        learner_at="tidemill.learners.linear_learners:SVM",
        weights=frozenset({IN_TASKS}),
        fixed={"maxIter": 20},
        # Features are scaled by the spec, and a threshold would apply to margins, not to probabilities.
        reserved=("standardization", "threshold", "fitIntercept"),
        text_space={"regParam": LogRange(log=[5e-5, 5e-4])},
    ),
)
