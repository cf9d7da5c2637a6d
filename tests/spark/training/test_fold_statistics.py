"""What the features of all folds ask of the rows, learnt in one pass: the same as each fold learns by itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F

from tidemill.features import FeaturePlan, counts, estimator, feature_pipeline, number_slots
from tidemill.features.groups import Categorical, Numeric
from tidemill.features.names import PART
from tidemill.learners.class_labels import class_metadata
from tidemill.training.folds import ORDER, Folds, FoldVariant
from tidemill.training.problem import Problem

FOLDS = [0, 1, 2]
PLAN = FeaturePlan.of(
    numeric=[Numeric(columns=["x"], impute="median", scale="robust"), Numeric(columns=["z"], impute="mean", indicators=True)],
    categorical=[Categorical(columns=["carrier"], min_frequency=3), Categorical(columns=["tail"], encode="target", smoothing=2.0)],
)
ENCODINGS = {"spark": ["linear", "tree"], "tasks": []}


@pytest.fixture(scope="module")
def frame(spark):
    rng = np.random.default_rng(12)
    rows = 240
    fold = rng.integers(0, 4, rows)  # those of 3 are of no fold
    data = pd.DataFrame(
        {
            "x": rng.normal(size=rows) + fold,
            "z": rng.normal(size=rows),
            "carrier": rng.choice(["AA", "DL", "UA", "B6"], rows, p=[0.6, 0.3, 0.07, 0.03]),
            "tail": rng.choice(list("abcdef"), rows),
            "label": (rng.random(rows) < 0.4).astype(float),
            "fold": fold,
            PART: rng.integers(0, 5, rows),
            ORDER: np.arange(rows),
        }
    )
    data.loc[rng.random(rows) < 0.2, "x"] = np.nan
    data.loc[(rng.random(rows) < 0.3) & (fold == 1), "z"] = np.nan  # its indicator is a slot where fold 1 is learned from
    data.loc[rng.random(rows) < 0.1, "carrier"] = None
    label = F.col("label").alias("label", metadata=class_metadata(2))
    numbers = [F.when(~F.isnan(name), F.col(name)).alias(name) for name in ("x", "z")]
    held = F.when(F.col("fold") < 3, F.col("fold")).cast("int").alias("fold")
    made = spark.createDataFrame(data).select(*numbers, "carrier", "tail", label, held, F.col(PART).cast("int"), ORDER).persist()
    yield made
    made.unpersist()


def vectors(folds, number):
    found = folds.spark_vectors(FoldVariant(number))
    rows = found.train.union(found.held_out).orderBy(ORDER)
    arrays = [vector_to_array(f"features_{encoding}").alias(encoding) for encoding in ENCODINGS["spark"]]
    table = rows.select(ORDER, *arrays).toPandas()
    return table[ORDER].to_numpy(), [np.stack(table[encoding]) for encoding in ENCODINGS["spark"]]


@pytest.mark.parametrize("is_expanding", [False, True])
def test_all_folds_learn_in_one_pass_what_each_learns_by_itself(frame, monkeypatch, is_expanding):
    passes = []

    def counting(name, function):
        def counted(*given):
            passes.append((name, len(given) > 1 and given[-1] is not None))
            return function(*given)

        return counted

    monkeypatch.setattr(number_slots, "fit_numbers", counting("numbers", number_slots.fit_numbers))
    monkeypatch.setattr(estimator, "count_values", counting("values", counts.count_values))
    problem = dataclasses.replace(Problem("binary", "areaUnderROC", 2, seed=7), is_expanding=is_expanding)
    validated = FOLDS[1:] if is_expanding else FOLDS
    alone, together = (Folds(frame, lambda _: PLAN, ENCODINGS, problem) for _ in range(2))
    together.expect(validated)
    for number in validated:
        passes.clear()
        (order, expected), (same_order, found) = vectors(alone, number), vectors(together, number)
        assert (order == same_order).all()
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-12, atol=1e-12)
        of_all = [("numbers", True), ("values", True)] if number == validated[0] else []
        assert sorted(passes) == sorted([("numbers", False), ("values", False), *of_all])
    assert (together.requests, together.misses) == (alone.requests, alone.misses)
    for each in (alone, together):
        each.close()


def test_the_final_fit_takes_what_was_learnt_with_the_folds_for_fewer_encodings_too(frame, monkeypatch):
    folds = Folds(frame, lambda _: PLAN, ENCODINGS, Problem("binary", "areaUnderROC", 2, seed=7))
    folds.expect(FOLDS)
    folds.prepare(FoldVariant(0))
    for encodings in (["tree"], ["linear", "tree"]):
        alone = feature_pipeline(PLAN, encodings).fit(frame)
        with monkeypatch.context() as patched:
            for module, name in ((number_slots, "fit_numbers"), (estimator, "count_values")):
                patched.setattr(module, name, lambda *_: pytest.fail("the rows are looked at once more"))
            found = feature_pipeline(PLAN, encodings, folds.all_rows_cache).fit(frame)
        for encoding in encodings:
            given, expected = (
                np.stack(each.transform(frame).orderBy(ORDER).select(vector_to_array(f"features_{encoding}")).toPandas().iloc[:, 0])
                for each in (found, alone)
            )
            assert len(given) == 240, "rows without a fold are learnt from too"
            np.testing.assert_allclose(given, expected, rtol=1e-12, atol=1e-12)
    folds.close()
