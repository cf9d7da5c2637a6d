"""Features made of the label, as each engine's fold sees them: no row of either side sees its own label, worked out by pandas."""

import numpy as np
import pandas as pd
import pytest
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F

from tidemill.features import FeaturePlan
from tidemill.features.groups import Categorical
from tidemill.features.names import PART
from tidemill.learners.class_labels import class_metadata
from tidemill.spec.models import Dataset
from tidemill.training.folds import ORDER, Folds, FoldVariant
from tidemill.training.labels import LabelEncoding
from tidemill.training.problem import Problem
from tidemill.training.rows import select_training_rows

PROBLEM = Problem("binary", "areaUnderROC", 2, seed=7)
PLAN = FeaturePlan.of(categorical=Categorical(columns=["tail"], encode="target", smoothing=2.0))
FOLD = 1


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(6)
    rows = 180
    return pd.DataFrame(
        {"tail": rng.choice(list("abcdefgh"), rows), "label": (rng.random(rows) < 0.4).astype(float), "fold": rng.integers(0, 3, rows),
         PART: rng.integers(0, 5, rows), ORDER: np.arange(rows)}
    )  # fmt: skip


@pytest.fixture(scope="module")
def frame(spark, data):
    label = F.col("label").alias("label", metadata=class_metadata(2))
    frame = spark.createDataFrame(data).select("tail", label, F.col("fold").cast("int"), F.col(PART).cast("int"), ORDER).persist()
    yield frame
    frame.unpersist()


def _mean(rows, tail):
    """The mean of the label among the rows of a value, begun with two rows of the average."""
    own = rows[rows["tail"] == tail]["label"]
    return (own.sum() + 2.0 * rows["label"].mean()) / (len(own) + 2.0)


def _expected(data):
    fitted = data[data["fold"] != FOLD]
    sides = zip(data["tail"], data["fold"], data[PART], strict=True)
    return [_mean(fitted if fold == FOLD else fitted[fitted[PART] != part], tail) for tail, fold, part in sides]


def _same(rows, data):
    found = {row[ORDER]: row["v"] for row in rows}
    expected = _expected(data)
    np.testing.assert_allclose([found[order] for order in sorted(found)], [expected[order] for order in sorted(found)])
    return set(found)


def _numbers(vectors):
    return vectors.select(ORDER, vector_to_array("features_tree")[0].alias("v")).collect()


def test_both_sides_of_a_fold_in_spark(frame, data):
    folds = Folds(frame, lambda _: PLAN, {"spark": ["tree"], "tasks": []}, PROBLEM)
    vectors = folds.spark_vectors(FoldVariant(FOLD))
    try:
        sides = [_same(_numbers(side), data) for side in (vectors.train, vectors.held_out)]
    finally:
        folds.close()
    assert sides[1] == set(data.index[data["fold"] == FOLD])
    assert sides[0] | sides[1] == set(data.index)


def test_both_sides_of_a_copy_for_tasks(frame, data, monkeypatch):
    copied = []

    class Kept:
        def remove(self):
            pass

    def keep(vectors, *_):
        copied.extend(_numbers(vectors.withColumnRenamed("order", ORDER)))
        return Kept()

    monkeypatch.setattr("tidemill.training.folds.write_fold_matrix", keep)
    folds = Folds(frame, lambda _: PLAN, {"spark": [], "tasks": ["tree"]}, PROBLEM, scratch="unused", most_bytes=1)
    folds.task_vectors(FoldVariant(FOLD))
    folds.close()
    assert _same(copied, data) == set(data.index)


def test_rows_of_one_group_lie_in_one_part(spark):
    rows = spark.range(300).selectExpr("id", "id % 40 AS flock", "id % 2 = 0 AS y", "0 AS fold", "1.0D AS x")
    declared = Dataset.model_validate({"from": "silver.x", "key": ["id"], "label": "y", "split": {"by": "group", "group": "flock"}})
    labels = LabelEncoding("y", "boolean", (False, True))
    by_group = select_training_rows(rows, ["id"], labels, ["x", "flock"], [str(declared.split_rule().group)]).toPandas()
    assert (by_group.groupby("flock")[PART].nunique() == 1).all()
    assert by_group[PART].nunique() == 5
    by_key = select_training_rows(rows.repartition(7), ["id"], labels, ["x", "id"], ["id"]).toPandas().set_index("id")[PART]
    again = select_training_rows(rows.coalesce(1), ["id"], labels, ["id"], ["id"]).toPandas().set_index("id")[PART]
    assert (by_key.sort_index() == again.sort_index()).all()
    assert by_key.value_counts().min() > 30
    assert PART not in select_training_rows(rows, ["id"], labels, ["x"]).columns
