"""Alternating least squares: users and items as short vectors, whose products are the ratings."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.ml.classification import FMClassifier
from pyspark.ml.recommendation import ALS
from pyspark.ml.regression import FMRegressor

from tidemill.families.family import MLlibFamily
from tidemill.spec.models import RECOMMENDATION, IntRange, LogRange, Space

_SPACE: Space = {"factorSize": IntRange(int=[2, 8]), "regParam": LogRange(log=[1e-5, 1e-2]), "stepSize": LogRange(log=[0.01, 0.1])}

FACTORIZATION_MACHINES = MLlibFamily(
    name="factorization_machines",
    encoding="linear",
    estimators={"binary": FMClassifier, "regression": FMRegressor},
    spaces={"binary": _SPACE, "regression": _SPACE},
    fixed={"maxIter": 100},
    choices={"solver": ("adamW", "gd")},
)


USER, ITEM, RATING = "_user", "_item", "_rating"
"""What ALS reads: the numbers of a user and an item, and what the one thinks of the other."""

_ALS_SPACE: Space = {"rank": IntRange(int=[8, 64]), "regParam": LogRange(log=[0.01, 1.0])}
_WEIGHT_OF_COUNTS: Space = {"alpha": LogRange(log=[1.0, 40.0])}

ALTERNATING_LEAST_SQUARES = MLlibFamily(
    name="als",
    encoding="linear",
    estimators={RECOMMENDATION: ALS},
    spaces={RECOMMENDATION: _ALS_SPACE},
    # Rows of users and items that a fold has not seen are counted, not dropped.
    fixed={"userCol": USER, "itemCol": ITEM, "ratingCol": RATING, "coldStartStrategy": "nan"},
    ours=("userCol", "itemCol", "ratingCol", "coldStartStrategy", "implicitPrefs"),
)


def spaces_for(spaces: Mapping[str, Space], declared: Mapping[str, object], *, is_implicit: bool) -> dict[str, Space]:
    """Return the spaces; a default one of counts, which are weighed by ``alpha``, has that too."""
    return {name: space if declared[name] or not is_implicit else {**space, **_WEIGHT_OF_COUNTS} for name, space in spaces.items()}
