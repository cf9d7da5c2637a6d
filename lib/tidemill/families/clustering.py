"""Families that learn from no label: clusters by MLlib, and what finds anomalies."""

from __future__ import annotations

from pyspark.ml.clustering import BisectingKMeans, GaussianMixture, KMeans

from tidemill.families.family import Family, MLlibFamily
from tidemill.families.learners.outliers import ISOLATION, MIXTURE
from tidemill.families.third_party import LearnedFamily
from tidemill.spec.models import IntRange, LogRange, Space

_CLUSTERS: Space = {"k": IntRange(int=[2, 10])}

KMEANS = MLlibFamily(
    name="kmeans",
    encoding="linear",
    estimators={"clustering": KMeans},
    spaces={"clustering": _CLUSTERS},
    fixed={"maxIter": 50},
    choices={"initMode": ("k-means||", "random"), "distanceMeasure": ("euclidean", "cosine"), "solver": ("auto", "row", "block")},
)
BISECTING_KMEANS = MLlibFamily(
    name="bisecting_kmeans",
    encoding="linear",
    estimators={"clustering": BisectingKMeans},
    spaces={"clustering": _CLUSTERS},
    choices={"distanceMeasure": ("euclidean", "cosine")},
)
GAUSSIAN_MIXTURE = MLlibFamily(
    name="gaussian_mixture",
    encoding="linear",
    estimators={"clustering": GaussianMixture},
    spaces={"clustering": _CLUSTERS},
    fixed={"maxIter": 50},
    ours=("aggregationDepth",),
)
ISOLATION_FOREST: Family = LearnedFamily(
    "isolation_forest",
    ISOLATION,
    {"n_estimators": [100, 200], "max_samples": [64, 256, 1024], "max_features": [0.5, 1.0]},
    tasks=("anomaly",),
)
MIXTURE_DENSITY: Family = LearnedFamily(
    "gaussian_mixture",
    MIXTURE,
    {"k": IntRange(int=[1, 10]), "covarianceType": ["full", "diag"], "regCovar": LogRange(log=[1e-4, 1e-2])},
    encoding="linear",
    tasks=("anomaly",),
)
