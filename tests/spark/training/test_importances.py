"""Importances carry the names of the columns that decide: families, encodings and engines, with a signal of its own in each position."""

import numpy as np
import pandas as pd
import pytest
from tests.tiers import parametrize_cover

from tidemill.features import FeaturePlan, slot_names
from tidemill.features.groups import Categorical, Numeric
from tidemill.features.names import PART
from tidemill.learners.class_labels import class_metadata
from tidemill.training.engines.choice import Engines
from tidemill.training.folds import ORDER as ORDER_COLUMN
from tidemill.training.importances import list_importances
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.tuning.tuner import Trial

# Each column decides about three times as much as the next one of this order; in the vectors they stand in another.
ORDER = ["c_second", "n_third", "n_first", "c_first", "n_second"]
VALUES = ["p", "q", "r"]
EFFECTS = {"p": 1.0, "q": -0.3, "r": -1.6}
PARAMS = {
    "random_forest": {"numTrees": 10, "maxDepth": 5, "featureSubsetStrategy": "all"},
    "gradient_boosted_trees": {"maxIter": 15, "maxDepth": 3},
    "hist_gradient_boosting": {"max_iter": 30},
    "xgboost": {"n_estimators": 30, "max_depth": 3},
    "lightgbm": {"n_estimators": 30},
}
CASES = [
    *[
        ("binary", name, "tasks", "auto")
        for name in ("logistic_regression", "linear_svm", "random_forest", "hist_gradient_boosting", "xgboost")
    ],
    *[("binary", name, "spark", "auto") for name in ("logistic_regression", "linear_svm", "random_forest", "gradient_boosted_trees")],
    *[("regression", name, "tasks", "auto") for name in ("linear_regression", "gradient_boosted_trees", "lightgbm")],
    *[("regression", "linear_regression", "spark", encode) for encode in ("onehot", "target", "count", "hashing")],
    *[("regression", "hist_gradient_boosting", "tasks", encode) for encode in ("onehot", "index", "target", "count", "hashing")],
    ("regression", "xgboost", "spark", "auto"),
    ("multiclass", "hist_gradient_boosting", "tasks", "auto"),
]


@pytest.fixture(scope="module")
def frames(spark):
    from pyspark.sql import functions as F

    rng = np.random.default_rng(4)
    rows = 1500
    data = pd.DataFrame({name: rng.normal(size=rows) for name in ("n_first", "n_second", "n_third")})
    for name in ("c_first", "c_second"):
        data[name] = rng.choice(VALUES, rows, p=[0.5, 0.3, 0.2])
    signals = {name: data[name].map(EFFECTS) if name.startswith("c") else data[name] for name in ORDER}
    data["score"] = sum(0.35**place * signals[name] for place, name in enumerate(ORDER)) + 0.05 * rng.normal(size=rows)
    data["above"] = (data["score"] > 0.2).astype(float)
    data["band"] = pd.qcut(data["score"], 3, labels=[0, 1, 2]).astype(float)
    table = spark.createDataFrame(data).coalesce(1)
    columns = {"binary": ("above", 2), "multiclass": ("band", 3), "regression": ("score", 0)}
    made = {}
    for task, (column, classes) in columns.items():
        label = F.col(column).alias("label", metadata=class_metadata(classes)) if classes else F.col(column).alias("label")
        hashed = F.xxhash64("score")
        part = F.pmod(hashed, F.lit(5)).alias(PART)
        made[task] = table.select(*ORDER, label, F.lit(0).alias("fold"), hashed.alias(ORDER_COLUMN), part).cache()
    yield made
    for frame in made.values():
        frame.unpersist()


@parametrize_cover(("task", "name", "engine", "encode"), CASES)
def test_the_column_that_decides_most_counts_most(frames, tmp_path, task, name, engine, encode):
    numbers, categories = ["n_first", "n_second", "n_third"], ["c_first", "c_second"]
    plan = FeaturePlan.of(numeric=Numeric(columns=numbers), categorical=Categorical(columns=categories, encode=encode, size=8))
    problem = Problem(task, "rmse", {"binary": 2, "multiclass": 3, "regression": 0}[task], seed=7)
    engines = Engines({name: "tasks"}, str(tmp_path)) if engine == "tasks" else None
    model = refit(frames[task], plan, Trial(0, name, PARAMS.get(name, {"regParam": 1e-4})), problem, engines)
    slots = slot_names(model, problem.family(name).encoding)
    rows = list_importances(model, slots, plan.columns)
    assert len(rows) == len(slots), "each slot has its row"
    greatest = {column: max(abs(row.importance) for row in rows if row.column == column) for column in ORDER}
    assert sorted(ORDER, key=lambda column: -greatest[column])[:3] == ORDER[:3]
