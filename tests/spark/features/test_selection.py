"""The choice of slots against scikit-learn's scores on the same rows."""

import numpy as np
import pandas as pd
import pytest
from pyspark.ml.classification import DecisionTreeClassifier
from pyspark.ml.feature import SQLTransformer
from pyspark.sql import functions as F
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_classif, f_regression

from tidemill.errors import StepError
from tidemill.features import FeaturePlan, feature_pipeline, max_categories, slot_names
from tidemill.features import selection as room
from tidemill.features.counts import Label
from tidemill.features.custom import CustomStage
from tidemill.features.groups import Categorical, Numeric, Pca
from tidemill.features.names import PART
from tidemill.features.selection import select_slots
from tidemill.features.slots import Slot
from tidemill.spec.models import Select

ROWS = 300
NAMES = [f"n{place}" for place in range(8)]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(21)
    data = pd.DataFrame(rng.normal(size=(ROWS, 8)) * np.linspace(0.5, 3, 8), columns=NAMES)
    data["kind"] = rng.integers(0, 3, ROWS).astype(float)
    data["n1"] += data["kind"]
    data["n5"] -= 2 * data["kind"] * (data["kind"] == 2)
    data["n6"] = data["n5"] + rng.normal(0, 0.3, ROWS)
    data["amount"] = 100 + 3 * data["n2"] - data["n4"] + rng.normal(size=ROWS)
    # The order of these letters says nothing of the kind, each letter does; those of `noise` do not.
    data["letter"] = np.where(rng.random(ROWS) < 0.8, np.array(["b", "c", "a"])[data["kind"].astype(int)], rng.choice(list("abc"), ROWS))
    data["noise"] = rng.choice(list("stuvw"), ROWS)
    return data


@pytest.fixture(scope="module")
def df(spark, data):
    frame = spark.createDataFrame(data).repartition(3).persist()
    yield frame
    frame.unpersist()


def _labelled(df, label):
    metadata = {"ml_attr": {"type": "nominal", "num_vals": 3}} if label == "kind" else {}
    return df.withColumn("label", F.col(label).alias("label", metadata=metadata))


def fit_selection(df, select, *, encodings=("linear",), label="kind", **groups):
    groups = groups or {"numeric": Numeric(columns=NAMES, scale="none")}
    model = feature_pipeline(FeaturePlan.of(select=Select.model_validate(select), **groups), encodings).fit(_labelled(df, label))
    return model, slot_names(model, encodings[0])


@pytest.mark.parametrize(("label", "score"), [("kind", f_classif), ("amount", f_regression)])
@pytest.mark.parametrize("top", [1, 4])
def test_the_best_alone_are_scikit_learns(df, data, label, score, top):
    expected = SelectKBest(score, k=top).fit(data[NAMES], data[label]).get_feature_names_out()
    assert fit_selection(df, {"method": "univariate", "top": top}, label=label)[1] == list(expected)


def test_the_worth_is_the_explained_share(df, data):
    from pyspark.ml.feature import VectorAssembler

    for label, score in (("kind", f_classif), ("amount", f_regression)):
        vectors = VectorAssembler(inputCols=NAMES, outputCol="v").transform(_labelled(df, label))
        classes = Label(("0", "1", "2")) if label == "kind" else Label()
        worth = room._explained_shares(vectors, "v", [Slot(name) for name in NAMES], classes)
        f = score(data[NAMES], data[label])[0]
        between = 2 if label == "kind" else 1
        np.testing.assert_allclose(worth, f * between / (f * between + ROWS - between - 1), rtol=1e-9)


def test_what_varies_is_scikit_learns(df, data):
    # scikit-learn divides by n.
    threshold = 2.0
    expected = VarianceThreshold(threshold * (ROWS - 1) / ROWS).fit(data[NAMES]).get_feature_names_out()
    assert 2 < len(expected) < 8
    assert fit_selection(df, {"method": "variance", "threshold": threshold})[1] == list(expected)
    most = data[NAMES].var().nlargest(3).index
    assert fit_selection(df, {"method": "variance", "top": 3})[1] == sorted(most)


def test_of_two_that_correlate_the_better_one_stays(df, data):
    assert abs(np.corrcoef(data["n5"], data["n6"])[0, 1]) > 0.95
    scores = dict(zip(NAMES, f_classif(data[NAMES], data["kind"])[0], strict=True))
    worse = min(("n5", "n6"), key=scores.get)
    assert fit_selection(df, {"method": "correlation", "threshold": 0.95})[1] == [name for name in NAMES if name != worse]
    best = [name for name in sorted(NAMES, key=scores.get, reverse=True) if name != worse][:2]
    assert fit_selection(df, {"method": "correlation", "top": 2})[1] == sorted(best)


def test_categories_are_judged_by_their_values_and_stay_nominal(df, data):
    groups = {"numeric": Numeric(columns=["n0", "n1"]), "categorical": Categorical(columns=["letter", "noise"])}
    model, selected = fit_selection(df, {"method": "univariate", "top": 2}, encodings=("tree",), **groups)
    assert selected == ["n1", "letter"]
    assert max_categories(model) == 4  # a, b, c, and all else; `noise` is gone
    tree = DecisionTreeClassifier(featuresCol="features_tree", maxDepth=2, maxBins=8).fit(model.transform(_labelled(df, "kind")))
    assert "in {" in tree.toDebugString
    # Of a number it is the share that the values explain, less what they would by chance.
    by_letter = data.groupby("letter")["kind"]
    share = (by_letter.size() * (by_letter.mean() - data["kind"].mean()) ** 2).sum() / ((data["kind"] - data["kind"].mean()) ** 2).sum()
    vectors = feature_pipeline(FeaturePlan.of(**groups), ["tree"]).fit(df).transform(df).withColumn("label", F.col("kind"))
    slots = [Slot("n0"), Slot("n1"), Slot("letter", 4), Slot("noise", 6)]
    worth = room._explained_shares(vectors, "features_tree", slots, Label())
    assert worth[2] == pytest.approx(1 - (1 - share) * (ROWS - 2) / (ROWS - 3))
    assert worth[3] < 0.05


def test_what_a_custom_stage_adds_is_chosen_from_too(df, data):
    both = CustomStage("product", SQLTransformer, {"statement": "SELECT *, kind * 2 + n0 AS both FROM __THIS__"}, ("kind", "n0"))
    groups = {"numeric": Numeric(columns=["n0", "n1"]), "custom": (both,), "pca": Pca(columns=["n2", "n3"], k=1)}
    model, selected = fit_selection(df, {"top": 2}, **groups)
    assert selected == ["n1", "both"]
    first = model.transform(df).orderBy("n0").select("features_linear").head()[0]
    assert first[1] == pytest.approx((data["kind"] * 2 + data["n0"])[data["n0"].idxmin()])


def test_a_threshold_that_none_reaches_leaves_the_best(df):
    assert fit_selection(df, {"method": "univariate", "threshold": 1.0})[1] == fit_selection(df, {"method": "univariate", "top": 1})[1]


def test_too_many_slots_for_a_matrix_are_refused(df, monkeypatch):
    monkeypatch.setattr(room, "MAX_CORRELATED", 7)
    with pytest.raises(StepError, match="compares all pairs of slots, at most 7 of them, and there are 8"):
        fit_selection(df, {"method": "correlation", "threshold": 0.9})


def test_what_the_labels_of_other_rows_say_does_not_count(df):
    """The choice is made on what training rows see, so that a mean of the label that is noise is not taken for knowledge."""
    rows = df.withColumn(PART, F.pmod(F.monotonically_increasing_id(), F.lit(5)).cast("int"))
    rows = rows.withColumn("ticket", F.monotonically_increasing_id().cast("string"))
    groups = {"numeric": Numeric(columns=["n1"]), "categorical": Categorical(columns=["ticket"], encode="target", smoothing=0.0)}
    assert fit_selection(rows, {"top": 1}, label="amount", **groups)[1] == ["n1"]


def test_the_choice_is_of_the_vectors_given(df):
    from pyspark.ml.feature import VectorAssembler

    vectors = VectorAssembler(inputCols=["n0", "n1"], outputCol="v").transform(_labelled(df, "kind"))
    assert select_slots(vectors, "v", [Slot("n0"), Slot("n1")], Select(top=1), Label(("a", "b", "c"))) == [1]
