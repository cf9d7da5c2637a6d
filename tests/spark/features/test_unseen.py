"""Values that were in no row of the training: counted in the rows to be scored, as pandas counts them."""

import numpy as np
import pandas as pd
import pytest
from pyspark.ml import PipelineModel

from tidemill.features import FeaturePlan, feature_pipeline, slot_names
from tidemill.features.groups import Categorical, Interactions, Numeric
from tidemill.features.unseen import UnseenValues, count_unseen

TYPES = {"zip": "string", "colour": "string", "floor": "int", "x": "double"}


@pytest.fixture(scope="module")
def frames(spark):
    """Training rows with 600 zips, most of them seen once or twice; later rows of which some have other values."""
    rng = np.random.default_rng(3)
    train = pd.DataFrame({"zip": [f"z{n:03}" for n in rng.integers(0, 600, 900)], "colour": rng.choice(["red", "blue", ""], 900)})
    later = pd.DataFrame({"zip": [f"z{n:03}" for n in rng.integers(0, 700, 400)], "colour": rng.choice(["red", "green", "grey"], 400)})
    for data in (train, later):
        data["floor"], data["x"] = rng.integers(0, 4 if data is train else 6, len(data)), 1.0
        data.loc[::7, "colour"] = None
    frames = [
        spark.createDataFrame(data).selectExpr("zip", "colour", "CAST(floor AS INT) AS floor", "x").persist() for data in (train, later)
    ]
    yield train, later, *frames
    for frame in frames:
        frame.unpersist()


def _unseen(train, later, column):
    """Rows of values that training lacks, and those values with their rows, most first."""
    rows = later[column][later[column].notna() & ~later[column].isin(train[column])]
    counts = rows.value_counts().reset_index(name="n").sort_values(["n", column], ascending=[False, True], key=lambda v: v)
    return len(rows), tuple((str(value), int(n)) for value, n in counts.head(10).itertuples(index=False))


@pytest.mark.parametrize("encoding", ["linear", "tree"])
@pytest.mark.parametrize(
    "blocks",
    [
        [Categorical(columns=["zip", "colour", "floor"])],
        # What is rare has been seen all the same.
        [Categorical(columns=["zip"], min_frequency=3), Categorical(columns=["colour", "floor"], encode="count")],
    ],
)
def test_unseen_values_are_those_of_pandas(frames, encoding, blocks, tmp_path):
    train, later, fitted, rows = frames
    plan = FeaturePlan.of(categorical=blocks, numeric=Numeric(columns=["x"]), interactions=Interactions(pairs=[["zip", "colour"]]))
    model = feature_pipeline(plan, [encoding]).fit(fitted)
    total, actual = count_unseen(model, TYPES, rows.selectExpr("CAST(floor AS STRING) AS floor", "zip", "x", "colour"))
    assert total == 400
    expected = {column: UnseenValues(column, *_unseen(train, later, column)) for column in ("zip", "colour", "floor")}
    assert {each.column: each for each in actual} == expected
    assert expected["zip"].rows > 20
    assert all("seen" not in name for name in slot_names(model, encoding))
    if encoding == "tree" and len(blocks) == 1:
        model.write().overwrite().save(str(tmp_path / "model"))
        assert count_unseen(PipelineModel.load(str(tmp_path / "model")), TYPES, rows)[1] == actual


def test_the_sentence_names_the_most_frequent():
    message = UnseenValues("tail", 1200, (("N1", 900), ("N2", 200), ("N3", 99), ("N4", 1))).sentence(5000)
    before, _, such_as = message.partition(", such as ")
    assert before == "tail: in 1,200 of 5,000 rows the value was not in the training rows"
    assert such_as == "N1 (900), N2 (200), N3 (99), …; they share one slot"


def test_a_model_without_categories_counts_the_rows_alone(frames):
    _, _, fitted, rows = frames
    model = feature_pipeline(FeaturePlan.of(numeric=Numeric(columns=["x"])), ["tree"]).fit(fitted)
    assert count_unseen(model, TYPES, rows) == (400, [])
