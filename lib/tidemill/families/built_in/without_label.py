"""Families without a label: clustering by MLlib, and anomaly detection by scikit-learn."""

from __future__ import annotations

from tidemill.families.family import Family, FamilyByTask, LibraryFamily, MLlibFamily
from tidemill.families.space import IntRange, LogRange, Space

_CLUSTERS: Space = {"k": IntRange(int=[2, 10])}
_ISOLATION: Space = {"n_estimators": [100, 200], "max_samples": [64, 256, 1024], "max_features": [0.5, 1.0]}
_DENSITY: Space = {"k": IntRange(int=[1, 10]), "covarianceType": ["full", "diag"], "regCovar": LogRange(log=[1e-4, 1e-2])}

FAMILIES: tuple[Family, ...] = (
    MLlibFamily(
        name="kmeans",
        spaces={"clustering": _CLUSTERS},
        estimators={"clustering": "pyspark.ml.clustering.KMeans"},
        fixed={"maxIter": 50},
        choices={"initMode": ("k-means||", "random"), "distanceMeasure": ("euclidean", "cosine"), "solver": ("auto", "row", "block")},
    ),
    MLlibFamily(
        name="bisecting_kmeans",
        spaces={"clustering": _CLUSTERS},
        estimators={"clustering": "pyspark.ml.clustering.BisectingKMeans"},
        choices={"distanceMeasure": ("euclidean", "cosine")},
    ),
    FamilyByTask(
        name="gaussian_mixture",
        families=(
            MLlibFamily(
                name="gaussian_mixture",
                spaces={"clustering": _CLUSTERS},
                estimators={"clustering": "pyspark.ml.clustering.GaussianMixture"},
                fixed={"maxIter": 50},
                reserved=("aggregationDepth",),
            ),
            LibraryFamily(
                name="gaussian_mixture",
                encoding="linear",
                spaces={"anomaly": _DENSITY},
                learner_at="tidemill.learners.outliers:MIXTURE",
            ),
        ),
    ),
    LibraryFamily(name="isolation_forest", spaces={"anomaly": _ISOLATION}, learner_at="tidemill.learners.outliers:ISOLATION"),
)
