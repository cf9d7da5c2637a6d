"""Small frames to train on: two numbers with gaps, a category, a label, two folds whose rows differ."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tidemill.features import FeaturePlan
from tidemill.features.groups import Categorical, Numeric
from tidemill.learners.class_labels import class_metadata
from tidemill.training.folds import ORDER

PLAN = FeaturePlan.of(numeric=Numeric(columns=["x", "z"]), categorical=Categorical(columns=["carrier"]))


def examples(rows: int = 300) -> pd.DataFrame:
    """Fold 1 lies elsewhere and knows a carrier that fold 0 lacks, so that features fitted on both differ from those fitted on one."""
    rng = np.random.default_rng(11)
    fold = (np.arange(rows) >= rows * 0.6).astype(int)
    x = rng.normal(size=rows) + 3.0 * fold
    z = rng.normal(size=rows)
    carrier = np.where(fold & (rng.random(rows) < 0.4), "ZZ", rng.choice(["AA", "DL", "UA"], rows, p=[0.5, 0.3, 0.2]))
    score = x - 3.0 * fold + z + np.where(carrier == "AA", 0.8, 0.0) + rng.normal(size=rows)
    frame = pd.DataFrame({"x": x, "z": z, "carrier": carrier, "fold": fold.astype("int32"), "score": score})
    frame.loc[rng.random(rows) < 0.25, "x"] = np.nan
    frame.loc[rng.random(rows) < 0.1, "z"] = np.nan
    frame["late"] = (score > 0.6).astype(float)
    frame["kind"] = pd.cut(score, [-np.inf, -0.5, 1.0, np.inf], labels=[0, 1, 2]).astype(float)
    return frame


@pytest.fixture(scope="session")
def frames(spark):
    """One cached frame a task, as the search wants it."""
    from pyspark.sql import functions as F

    data = spark.createDataFrame(examples()).repartition(2, "z").sortWithinPartitions("z")
    columns = {"binary": ("late", 2), "multiclass": ("kind", 3), "regression": ("score", 0)}
    made = {}
    for task, (column, classes) in columns.items():
        label = F.col(column).alias("label", metadata=class_metadata(classes)) if classes else F.col(column).alias("label")
        numbers = [F.when(~F.isnan(name), F.col(name)).alias(name) for name in ("x", "z")]
        made[task] = data.select(*numbers, "carrier", label, "fold", F.xxhash64("score").alias(ORDER)).cache()
    yield made
    for frame in made.values():
        frame.unpersist()
