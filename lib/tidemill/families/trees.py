"""Trees: forests and boosting."""

from __future__ import annotations

from pyspark.ml.classification import GBTClassifier, RandomForestClassifier
from pyspark.ml.regression import GBTRegressor, RandomForestRegressor

from tidemill.families.estimators.one_vs_rest import OneVsRestBoosting
from tidemill.families.family import MLlibFamily
from tidemill.families.learners.forest import FOREST
from tidemill.families.learners.histogram import BOOSTED_TREES
from tidemill.spec.models import IntRange, LogRange, Space

# Trees grow a whole level in one pass over the rows while its statistics fit; MLlib's 256 MB make a deep forest take several.
_TREE_MEMORY_MB = 512
_BOOSTED: Space = {"maxIter": IntRange(int=[30, 60]), "maxDepth": IntRange(int=[4, 6]), "stepSize": LogRange(log=[0.05, 0.3])}
# One model a class and round: fewer and flatter ones, so that ten classes stay affordable.
_BOOSTED_EACH_CLASS: Space = {"maxIter": IntRange(int=[10, 20]), "maxDepth": IntRange(int=[3, 4]), "stepSize": LogRange(log=[0.1, 0.4])}
_FOREST: Space = {"numTrees": IntRange(int=[20, 60]), "maxDepth": IntRange(int=[6, 12]), "minInstancesPerNode": [1, 5, 20]}

RANDOM_FOREST = MLlibFamily(
    name="random_forest",
    learner=FOREST,
    takes_weights=True,
    encoding="tree",
    estimators={"binary": RandomForestClassifier, "multiclass": RandomForestClassifier, "regression": RandomForestRegressor},
    spaces=dict.fromkeys(("binary", "multiclass", "regression"), _FOREST),
    fixed={"maxMemoryInMB": _TREE_MEMORY_MB},
)
GRADIENT_BOOSTED_TREES = MLlibFamily(
    name="gradient_boosted_trees",
    takes_weights=True,
    learner=BOOSTED_TREES,
    encoding="tree",
    estimators={"binary": GBTClassifier, "multiclass": OneVsRestBoosting, "regression": GBTRegressor},
    spaces={"binary": _BOOSTED, "multiclass": _BOOSTED_EACH_CLASS, "regression": _BOOSTED},
    fixed={"maxMemoryInMB": _TREE_MEMORY_MB},
)
