"""Encoders against scikit-learn and pandas on the same rows: means of the label, counts, hashes, lists, buckets, products, components."""

import numpy as np
import pandas as pd
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F
from sklearn.decomposition import PCA
from sklearn.preprocessing import KBinsDiscretizer, MultiLabelBinarizer, PolynomialFeatures, StandardScaler, TargetEncoder

from tidemill.errors import StepError
from tidemill.features import FeaturePlan, feature_pipeline, max_categories, slot_names
from tidemill.features.groups import Array, Boolean, Buckets, Categorical, Hashing, Interactions, Numeric, Pca, Polynomial
from tidemill.features.names import PART

ROWS = 241
KINDS = ("red", "green", "blue")


def _data():
    rng = np.random.default_rng(12)
    data = pd.DataFrame({"id": np.arange(ROWS), "x": rng.normal(5, 2, ROWS), "z": rng.exponential(3, ROWS), "w": rng.normal(0, 1, ROWS)})
    data["place"] = [None if n % 29 == 0 else f"p{value}" for n, value in enumerate(np.minimum(rng.geometric(0.12, ROWS), 30))]
    data["colour"] = rng.choice(["red", "green"], ROWS)
    data["is_new"] = [None if n % 31 == 0 else bool(value) for n, value in enumerate(rng.random(ROWS) < 0.7)]
    data["tags"] = [None if n % 37 == 0 else list(rng.choice(list("abcdef"), rng.integers(0, 4))) for n in range(ROWS)]
    data["trace"] = [[float(v) for v in rng.normal(size=3)] for _ in range(ROWS)]
    data["walk"] = [[float(v) for v in rng.normal(size=rng.integers(0, 4))] for _ in range(ROWS)]
    data["binary"] = (rng.random(ROWS) < 0.3 + 0.05 * data.x).astype(float)
    data["kind"] = rng.integers(0, 3, ROWS).astype(float)
    data["amount"] = data.x * 3 + rng.normal(size=ROWS)
    data[PART] = rng.integers(0, 5, ROWS)
    return data


@pytest.fixture(scope="module")
def data():
    return _data()


@pytest.fixture(scope="module")
def df(spark, data):
    schema = (
        "id BIGINT, x DOUBLE, z DOUBLE, w DOUBLE, place STRING, colour STRING, is_new BOOLEAN, tags ARRAY<STRING>, trace ARRAY<DOUBLE>, "
        f"walk ARRAY<FLOAT>, binary DOUBLE, kind DOUBLE, amount DOUBLE, {PART} INT"
    )
    rows = [tuple(v.item() if isinstance(v, np.generic) else v for v in row) for row in data.itertuples(index=False)]
    frame = spark.createDataFrame(rows, schema).selectExpr("*", "CASE WHEN id % 10 = 3 THEN NULL ELSE w END AS gaps").persist()
    yield frame
    frame.unpersist()


def _labelled(df, label):
    """The frame with its label as training has it."""
    classes = {"binary": 2, "kind": 3, "amount": 0}[label]
    metadata = {"ml_attr": {"type": "nominal", "num_vals": classes}} if classes else {}
    return df.withColumn("label", F.col(label).alias("label", metadata=metadata))


def _matrix(model, df, encoding="linear"):
    """The feature vectors as a frame in the order of id, its columns the slots' names."""
    rows = model.transform(df).select("id", vector_to_array(f"features_{encoding}").alias("v")).orderBy("id").collect()
    return pd.DataFrame([row["v"] for row in rows], columns=slot_names(model, encoding))


def _fit(df, *, encodings=("linear",), **groups):
    return feature_pipeline(FeaturePlan.of(**groups), encodings).fit(df)


def _target_encoded(data, label, smooth, kind):
    """What scikit-learn says of all rows, and of each part what it learns from the other parts."""
    values = data[["place"]].fillna("(missing)").to_numpy()

    def fitted(rows):
        return TargetEncoder(smooth=smooth, target_type=kind, categories="auto").fit(values[rows], data[label][rows])

    everywhere = fitted(np.full(len(data), True)).transform(values)
    blind = np.empty_like(everywhere)
    for part in range(5):
        inside = (data[PART] == part).to_numpy()
        blind[inside] = fitted(~inside).transform(values[inside])
    return everywhere, blind


@pytest.mark.parametrize(
    ("label", "kind", "smooth"), [("binary", "binary", 20.0), ("kind", "multiclass", 3.5), ("amount", "continuous", 0.5)]
)
def test_means_of_the_label_are_scikit_learns_and_training_rows_see_other_parts_alone(df, data, label, kind, smooth):
    plan = {"categorical": Categorical(columns=["place"], encode="target", smoothing=smooth), "classes": KINDS if label == "kind" else ()}
    rows = _labelled(df, label)
    model = _fit(rows, encodings=("linear", "tree", "positive"), **plan)
    everywhere, blind = _target_encoded(data, label, smooth, kind)
    names = [f"place.target={name}" for name in KINDS] if label == "kind" else ["place.target"]
    later = _matrix(model, rows.drop(PART, "label"), "tree")
    assert list(later.columns) == names
    np.testing.assert_allclose(later, everywhere, rtol=1e-12)
    np.testing.assert_allclose(_matrix(model, rows, "tree"), blind, rtol=1e-12)
    np.testing.assert_allclose(_matrix(model, rows.drop(PART)), StandardScaler().fit_transform(everywhere) * np.sqrt((ROWS - 1) / ROWS))
    spread = everywhere - everywhere.min(axis=0)
    np.testing.assert_allclose(_matrix(model, rows.drop(PART), "positive"), spread / spread.max(axis=0), atol=1e-12)
    # An unseen value is the average of all rows.
    unseen = rows.drop(PART, "label").limit(1).withColumn("place", F.lit("elsewhere"))
    overall = pd.get_dummies(data["kind"]).mean().to_numpy() if label == "kind" else [data[label].mean()]
    np.testing.assert_allclose(_matrix(model, unseen, "tree").iloc[0], overall)


def test_no_label_of_a_row_moves_its_own_feature(df):
    plan = {"categorical": Categorical(columns=["place"], encode="target", smoothing=1.0)}
    rows = _labelled(df, "binary")
    turned = rows.withColumn("label", F.when(F.col(PART) == 2, 1 - F.col("label")).otherwise(F.col("label")).alias(
        "label", metadata=rows.schema["label"].metadata))  # fmt: skip
    before, after = (_matrix(_fit(frame, encodings=("tree",), **plan), frame, "tree")["place.target"] for frame in (rows, turned))
    inside = rows.orderBy("id").toPandas()[PART] == 2
    np.testing.assert_array_equal(before[inside], after[inside])
    assert (before[~inside] != after[~inside]).any()


def test_means_need_the_label_and_the_parts(df):
    plan = {"categorical": Categorical(columns=["place"], encode="target")}
    with pytest.raises(StepError, match="need the column `label`"):
        _fit(df, **plan)
    with pytest.raises(StepError, match="needs the column _tidemill_part"):
        _fit(_labelled(df, "binary").drop(PART), **plan)


def test_counts_are_those_of_pandas(df, data):
    model = _fit(df, encodings=("linear", "tree"), categorical=Categorical(columns=["place", "colour"], encode="count", min_frequency=5))
    counts = data["place"].fillna("(missing)").map(data["place"].fillna("(missing)").value_counts())
    expected = np.column_stack([counts.where(counts >= 5, 0), data["colour"].map(data["colour"].value_counts())]).astype(float)
    tree = _matrix(model, df, "tree")
    assert list(tree.columns) == ["place.count", "colour.count"]
    np.testing.assert_array_equal(tree, expected)
    np.testing.assert_allclose(_matrix(model, df), StandardScaler().fit_transform(expected) * np.sqrt((ROWS - 1) / ROWS))


def test_blocks_of_one_group_treat_their_columns_differently(df, data):
    blocks = [
        Categorical(columns=["colour"]),
        Categorical(columns=["place"], encode="count"),
        Categorical(columns=["place"], min_frequency=20),
    ]
    numbers = [Numeric(columns=["x"], scale="none"), Numeric(columns=["z"], scale="minmax")]
    model = _fit(df, categorical=blocks, numeric=numbers)
    matrix = _matrix(model, df)
    frequent = sorted(data["place"].value_counts().loc[lambda n: n >= 20].index)
    assert list(matrix.columns) == [
        "x", "z", "place.count", "colour=green", "colour=red", "colour=(other)", *(f"place={name}" for name in frequent), "place=(other)"
    ]  # fmt: skip
    np.testing.assert_array_equal(matrix["x"], data["x"])
    assert (matrix["z"].min(), matrix["z"].max()) == (0.0, 1.0)


def test_hashes_keep_equal_values_together_and_lose_none(df, data):
    model = _fit(
        df, categorical=Categorical(columns=["place"], encode="hashing", size=4096), hashing=Hashing(columns=["place", "colour"], size=8192)
    )
    matrix = _matrix(model, df)
    assert len(matrix.columns) == 4096 + 8192
    assert (matrix.columns[7], matrix.columns[4096 + 3]) == ("place=#7", "hashing=#3")
    own, shared = matrix.iloc[:, :4096].to_numpy(), matrix.iloc[:, 4096:].to_numpy()
    known = data["place"].notna().to_numpy()
    np.testing.assert_array_equal(own.sum(axis=1), known.astype(float))  # null has no hash
    np.testing.assert_array_equal(shared.sum(axis=1), known + 1.0)
    slots = pd.Series(own[known].argmax(axis=1))
    assert slots.groupby(data["place"][known].to_numpy()).nunique().eq(1).all()
    assert slots.nunique() == data["place"].nunique()


def test_truths_and_whether_something_is_missing(df, data):
    model = _fit(df, encodings=("linear", "positive"), boolean=Boolean(columns=["is_new"], indicators=True),
                 numeric=Numeric(columns=["gaps", "x"], scale="none", indicators=True))  # fmt: skip
    for encoding in ("linear", "positive"):
        matrix = _matrix(model, df, encoding)
        assert list(matrix.columns) == ["gaps", "x", "is_new", "gaps.missing", "is_new.missing"]  # x is never missing
        np.testing.assert_array_equal(matrix["is_new"], data["is_new"].map({None: True, True: True, False: False}).astype(float))
        np.testing.assert_array_equal(matrix["is_new.missing"], data["is_new"].isna().astype(float))
        np.testing.assert_array_equal(matrix["gaps.missing"], (data["id"] % 10 == 3).astype(float))


def test_lists_of_words_and_of_numbers(df, data):
    model = _fit(df, encodings=("linear", "tree"), array=Array(columns=["tags", "trace", "walk"]), sizes={"trace": 3})
    tree = _matrix(model, df, "tree")
    words = [set(value) if isinstance(value, list) else set() for value in data["tags"]]
    binarizer = MultiLabelBinarizer()
    expected = pd.DataFrame(binarizer.fit_transform(words), columns=[f"tags={name}" for name in binarizer.classes_])
    assert list(tree.columns[:7]) == ["trace[0]", "trace[1]", "trace[2]", "walk.size", "walk.mean", "walk.min", "walk.max"]
    assert sorted(tree.columns[7:]) == list(expected.columns)
    pd.testing.assert_frame_equal(tree[list(expected.columns)], expected.astype(float))
    np.testing.assert_array_equal(tree.iloc[:, :3], np.array(data["trace"].tolist()))
    np.testing.assert_array_equal(tree["walk.size"], data["walk"].map(len).astype(float))
    filled = data["walk"].map(lambda v: np.mean(np.array(v, dtype="float32").astype(float)) if v else np.nan)
    np.testing.assert_allclose(tree["walk.mean"], filled.fillna(filled.sort_values().iloc[(filled.notna().sum() - 1) // 2]), rtol=1e-9)
    hashed = _matrix(_fit(df, array=Array(columns=["tags"], encode="hashing", size=512)), df)
    np.testing.assert_array_equal(hashed.sum(axis=1), [float(len(value)) for value in words])
    rare = _fit(df, array=Array(columns=["tags"], min_frequency=int(expected.sum().max())))
    assert slot_names(rare, "linear") == [f"tags={expected.sum().idxmax()[5:]}"]


def test_buckets_are_scikit_learns_quantiles_and_given_splits(df, data):
    plan = {"buckets": [Buckets(columns=["x", "gaps"], quantiles=4), Buckets(columns=["z"], splits=[1.0, 2.5])]}
    model = _fit(df, encodings=("linear", "tree"), **plan)
    tree, hot = _matrix(model, df, "tree"), _matrix(model, df)
    bins = KBinsDiscretizer(4, encode="ordinal", strategy="quantile", quantile_method="inverted_cdf")
    np.testing.assert_array_equal(tree["x.bucket"], bins.fit_transform(data[["x"]])[:, 0])
    np.testing.assert_array_equal(tree["z.bucket"], pd.cut(data["z"], [-np.inf, 1, 2.5, np.inf], right=False, labels=False))
    assert (tree["gaps.bucket"] == -1).sum() == (data["id"] % 10 == 3).sum()
    np.testing.assert_array_equal(hot[["z=<1", "z=[1, 2.5)", "z=>=2.5"]], pd.get_dummies(tree["z.bucket"]).astype(float))
    np.testing.assert_array_equal(hot["gaps=(missing)"], (data["id"] % 10 == 3).astype(float))
    assert (hot[[name for name in hot if name.startswith("x=")]].sum(axis=1) == 1).all()


def test_powers_are_scikit_learns(df, data):
    model = _fit(
        df,
        encodings=("linear", "tree"),
        polynomial=Polynomial(columns=["x", "z", "w"], degree=3),
        numeric=Numeric(columns=["x"], scale="none"),
    )
    poly = PolynomialFeatures(3, include_bias=False)
    expected = poly.fit_transform(data[["x", "z", "w"]])
    tree = _matrix(model, df, "tree")
    names = [name.replace(" ", "*") for name in poly.get_feature_names_out()]
    assert list(tree.columns) == names
    np.testing.assert_allclose(tree, expected, rtol=1e-12)
    scaled = StandardScaler().fit_transform(data[["z", "w"]]) * np.sqrt((ROWS - 1) / ROWS)
    expected = poly.fit_transform(np.column_stack([data["x"], scaled]))
    np.testing.assert_allclose(_matrix(model, df), expected, rtol=1e-9, atol=1e-12)


def test_pairs_of_numbers_of_categories_and_of_both(df, data):
    pairs = Interactions(pairs=[["x", "z"], ["place", "colour"], ["colour", "w"]], min_frequency=6)
    model = _fit(df, encodings=("linear", "tree"), interactions=pairs)
    tree, linear = _matrix(model, df, "tree"), _matrix(model, df)
    assert list(tree.columns) == ["x*z", "place&colour"]
    np.testing.assert_allclose(tree["x*z"], data["x"] * data["z"])
    both = (data["place"] + "&" + data["colour"]).value_counts()
    frequent = sorted(both[both >= 6].index)
    assert max_categories(model) == len(frequent) + 1
    assert list(linear.columns) == [
        "x*z", *(f"place&colour={name}" for name in frequent), "place&colour=(other)", "w*colour=green", "w*colour=red", "w*colour=(other)"
    ]  # fmt: skip
    scaled = StandardScaler().fit_transform(data[["w"]])[:, 0] * np.sqrt((ROWS - 1) / ROWS)
    np.testing.assert_allclose(linear["w*colour=red"], scaled * (data["colour"] == "red"), atol=1e-12)


def test_components_are_scikit_learns_up_to_their_sign(df, data):
    model = _fit(df, pca=Pca(columns=["x", "z", "w"], k=2), numeric=Numeric(columns=["x"], scale="minmax"))
    matrix = _matrix(model, df)
    assert list(matrix.columns) == ["x", "pca.0", "pca.1"]
    scaled = StandardScaler().fit_transform(data[["x", "z", "w"]]) * np.sqrt((ROWS - 1) / ROWS)
    expected = PCA(2).fit_transform(scaled)
    actual = matrix[["pca.0", "pca.1"]].to_numpy()
    np.testing.assert_allclose(actual * np.sign((actual * expected).sum(axis=0)), expected, atol=1e-9)


@pytest.mark.long("fits, saves and loads every kind of encoder")
def test_all_of_it_is_saved_as_mllibs_own_stages_and_loads(df, tmp_path):
    plan = {
        "categorical": [Categorical(columns=["place"], encode="target"), Categorical(columns=["colour"]),
                        Categorical(columns=["place"], encode="hashing", size=16)],
        "boolean": Boolean(columns=["is_new"], indicators=True), "array": Array(columns=["tags", "trace"]), "sizes": {"trace": 3},
        "buckets": Buckets(columns=["x"], quantiles=3), "polynomial": Polynomial(columns=["x", "z"]), "pca": Pca(columns=["x", "w"], k=1),
        "interactions": Interactions(pairs=[["x", "colour"]]), "hashing": Hashing(columns=["colour"], size=8),
    }  # fmt: skip
    rows = _labelled(df, "binary")
    model = _fit(rows, encodings=("tree", "positive"), **plan)
    assert all(type(stage).__module__ == "pyspark.ml.feature" for stage in model.stages)
    model.write().overwrite().save(str(tmp_path / "model"))
    loaded = PipelineModel.load(str(tmp_path / "model"))
    later = df.drop(PART)
    feature_columns = ["features_tree", "features_positive"]
    assert sorted(loaded.transform(later).columns) == sorted([*later.columns, *feature_columns])
    for encoding in ("tree", "positive"):
        assert slot_names(loaded, encoding) == slot_names(model, encoding)
        pd.testing.assert_frame_equal(_matrix(loaded, later, encoding), _matrix(model, later, encoding))
    assert (_matrix(loaded, later, "positive").drop(columns="pca.0").to_numpy() >= 0).all()
    assert max_categories(loaded) == 3
