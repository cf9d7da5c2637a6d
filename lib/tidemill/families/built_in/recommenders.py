"""Alternating least squares: ratings as products of user and item factors."""

from __future__ import annotations

from tidemill.families.family import MLlibFamily
from tidemill.families.space import IntRange, LogRange, Space

USER, ITEM, RATING = "_user", "_item", "_rating"
"""The columns that ALS reads: the numbers of a user and an item, and the rating."""

_SPACE: Space = {"rank": IntRange(int=[8, 64]), "regParam": LogRange(log=[0.01, 1.0])}

FAMILIES = (
    MLlibFamily(
        name="als",
        spaces={"recommendation": _SPACE},
        implicit_space={"alpha": LogRange(log=[1.0, 40.0])},  # the weight of counts
        estimators={"recommendation": "pyspark.ml.recommendation.ALS"},
        # Predictions of users and items unknown to a fold are NaN and counted, not dropped.
        fixed={"userCol": USER, "itemCol": ITEM, "ratingCol": RATING, "coldStartStrategy": "nan"},
        reserved=("userCol", "itemCol", "ratingCol", "coldStartStrategy", "implicitPrefs"),
    ),
)
