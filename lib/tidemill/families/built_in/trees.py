"""Trees: forests, and boosting by MLlib, scikit-learn, XGBoost and LightGBM."""

from __future__ import annotations

from tidemill.families.family import BOTH_WAYS, IN_TASKS, LibraryFamily, MLlibFamily
from tidemill.families.space import IntRange, LogRange, Space

_TASKS = ("binary", "multiclass", "regression")
# One pass over the rows grows a level of all trees while its statistics fit; with MLlib's 256 MB a deep forest takes several.
_TREE_MEMORY_MB = 512
_BOOSTED: Space = {"maxIter": IntRange(int=[30, 60]), "maxDepth": IntRange(int=[4, 6]), "stepSize": LogRange(log=[0.05, 0.3])}
# One tree for each class and round: fewer and flatter ones, so that ten classes stay affordable.
_BOOSTED_EACH_CLASS: Space = {"maxIter": IntRange(int=[10, 20]), "maxDepth": IntRange(int=[3, 4]), "stepSize": LogRange(log=[0.1, 0.4])}
_FOREST: Space = {"numTrees": IntRange(int=[20, 60]), "maxDepth": IntRange(int=[6, 12]), "minInstancesPerNode": [1, 5, 20]}
_HISTOGRAM: Space = {
    "max_iter": IntRange(int=[50, 200]),
    "learning_rate": LogRange(log=[0.03, 0.3]),
    "max_leaf_nodes": [15, 31, 63],
    "min_samples_leaf": [20, 60],
}
_XGBOOST: Space = {
    "n_estimators": IntRange(int=[50, 200]),
    "learning_rate": LogRange(log=[0.03, 0.3]),
    "max_depth": IntRange(int=[4, 9]),
    "min_child_weight": LogRange(log=[1.0, 50.0]),
}
_LIGHTGBM: Space = {
    "n_estimators": IntRange(int=[50, 200]),
    "learning_rate": LogRange(log=[0.03, 0.3]),
    "num_leaves": [15, 31, 63],
    "min_child_samples": [20, 60],
}
_ONLY_TASKS = frozenset({IN_TASKS})
# MLlib's trees fit only the signs of absolute errors, with a fixed step: they stay far from the minimum.
_LOSSES = {"absolute": _ONLY_TASKS, "quantile": _ONLY_TASKS}

FAMILIES = (
    MLlibFamily(
        name="random_forest",
        encoding="tree",
        spaces=dict.fromkeys(_TASKS, _FOREST),
        estimators={
            "binary": "pyspark.ml.classification.RandomForestClassifier",
            "multiclass": "pyspark.ml.classification.RandomForestClassifier",
            "regression": "pyspark.ml.regression.RandomForestRegressor",
        },
        learner_at="tidemill.learners.forest:FOREST",
        weights=BOTH_WAYS,
        fixed={"maxMemoryInMB": _TREE_MEMORY_MB},
    ),
    MLlibFamily(
        name="gradient_boosted_trees",
        encoding="tree",
        spaces={"binary": _BOOSTED, "multiclass": _BOOSTED_EACH_CLASS, "regression": _BOOSTED},
        estimators={
            "binary": "pyspark.ml.classification.GBTClassifier",
            "multiclass": "tidemill.learners.estimators.OneVsRestBoosting",
            "regression": "pyspark.ml.regression.GBTRegressor",
        },
        learner_at="tidemill.learners.histogram:BOOSTED_TREES",
        weights=BOTH_WAYS,
        monotone=_ONLY_TASKS,
        losses=_LOSSES,
        # Not for forests: MLlib samples the rows of all trees from one stream, so another number of trees gives other trees.
        rounds="maxIter",
        rounds_tasks=frozenset({"binary", "regression"}),
        fixed={"maxMemoryInMB": _TREE_MEMORY_MB},
    ),
    LibraryFamily(
        name="hist_gradient_boosting",
        spaces=dict.fromkeys(_TASKS, _HISTOGRAM),
        learner_at="tidemill.learners.histogram:HISTOGRAM",
        monotone=_ONLY_TASKS,
        losses=_LOSSES,
    ),
    LibraryFamily(
        name="xgboost",
        spaces=dict.fromkeys(_TASKS, _XGBOOST),
        estimators={
            "binary": "xgboost.spark.SparkXGBClassifier",
            "multiclass": "xgboost.spark.SparkXGBClassifier",
            "regression": "xgboost.spark.SparkXGBRegressor",
        },
        learner_at="tidemill.learners.xgboost:XGBOOST",
        monotone=BOTH_WAYS,
        losses={"absolute": BOTH_WAYS, "quantile": _ONLY_TASKS},
    ),
    LibraryFamily(
        name="lightgbm",
        spaces=dict.fromkeys(_TASKS, _LIGHTGBM),
        learner_at="tidemill.learners.lightgbm:LIGHTGBM",
        monotone=_ONLY_TASKS,
        losses=_LOSSES,
    ),
)
