"""Feature stages against scikit-learn and pandas on the same rows, and the ways of a fitted model."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.classification import DecisionTreeClassifier, LogisticRegression
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler

from tidemill.features import FeaturePlan, feature_pipeline, max_categories, slot_names
from tidemill.features.groups import Array, Buckets, Categorical, Datetime, Numeric, Pca

ROWS = 201


def _data():
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"id": np.arange(ROWS), "x": rng.normal(50, 9, ROWS), "n": rng.integers(0, 30, ROWS)})
    data["colour"] = [*["rare"] * 4, *["odd"] * 9, *["blue"] * 10, *rng.choice(["red", "green"], ROWS - 23)]
    data["at"] = pd.Timestamp("2013-01-01") + pd.to_timedelta(rng.integers(0, 365 * 1440, ROWS), unit="min")
    data["is_big"] = data.n > 20
    return data


@pytest.fixture(scope="module")
def data():
    data = _data()
    data.loc[:29, "x"] = np.nan
    return data


@pytest.fixture(scope="module")
def df(spark, data):
    frame = spark.createDataFrame(data).withColumn("x", F.expr("CASE WHEN id BETWEEN 10 AND 29 THEN NULL ELSE x END"))
    frame = frame.withColumn("n", F.expr("CAST(n AS DECIMAL(6, 2))")).persist()
    yield frame
    frame.unpersist()


def _matrix(model, df, encoding="linear"):
    """The feature vectors as a frame in the order of id, its columns the slots' names."""
    out = model.transform(df)
    rows = out.select("id", vector_to_array(f"features_{encoding}").alias("v")).orderBy("id").collect()
    return pd.DataFrame([row["v"] for row in rows], columns=slot_names(model, encoding))


def _fit(df, *, encodings=("linear",), **groups):
    return feature_pipeline(FeaturePlan.of(**groups), encodings).fit(df)


def test_standard_scaling_after_median_is_scikit_learns_but_for_ddof(df, data):
    # An odd number of values is present: MLlib and scikit-learn mean the same median.
    matrix = _matrix(_fit(df, numeric=Numeric(columns=["x", "n", "is_big"])), df)
    raw = data[["x", "n", "is_big"]].astype(float)
    expected = StandardScaler().fit_transform(SimpleImputer(strategy="median").fit_transform(raw)) * np.sqrt((ROWS - 1) / ROWS)
    assert list(matrix.columns) == ["x", "n", "is_big"]
    np.testing.assert_allclose(matrix, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("impute", "scale", "imputer", "scaler"),
    [
        ("mean", "minmax", SimpleImputer(strategy="mean"), MinMaxScaler()),
        ("mode", "none", SimpleImputer(strategy="most_frequent"), None),
        (-5.5, "minmax", SimpleImputer(strategy="constant", fill_value=-5.5), MinMaxScaler()),
        ("none", "standard", None, StandardScaler()),
    ],
)
def test_imputing_and_scaling_are_scikit_learns(df, data, impute, scale, imputer, scaler):
    matrix = _matrix(_fit(df, numeric=Numeric(columns=["x", "n"], impute=impute, scale=scale)), df)
    expected = data[["x", "n"]].astype(float).to_numpy()
    for step in filter(None, (imputer, scaler)):
        expected = step.fit_transform(expected)
    if scale == "standard":
        present = (~np.isnan(expected)).sum(axis=0)
        expected = expected * np.sqrt((present - 1) / present)
    np.testing.assert_allclose(matrix, expected, rtol=1e-9, atol=1e-12)


def test_robust_scaling_is_by_the_quartiles_present(spark):
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    df = spark.createDataFrame([(i, v) for i, v in enumerate(values)], "id INT, x DOUBLE")
    matrix = _matrix(_fit(df, numeric=Numeric(columns=["x"], scale="robust")), df)
    np.testing.assert_allclose(matrix, RobustScaler().fit_transform(np.array(values)[:, None]))


def test_one_hot_is_scikit_learns_with_min_frequency(df, data):
    model = _fit(df, categorical=Categorical(columns=["colour", "is_big"], min_frequency=10))
    matrix = _matrix(model, df)
    big = ["is_big=false", "is_big=true", "is_big=(other)"]
    assert list(matrix.columns) == ["colour=blue", "colour=green", "colour=red", "colour=(other)", *big]
    expected = OneHotEncoder(min_frequency=10, sparse_output=False).fit_transform(data[["colour"]])
    np.testing.assert_array_equal(matrix.iloc[:, :4], expected)
    np.testing.assert_array_equal(matrix["is_big=true"], data.is_big.astype(float))
    assert not matrix["is_big=(other)"].any()


def test_null_empty_and_unseen_values_are_kept(spark):
    train = spark.createDataFrame([(0, "a", None), (1, "", None), (2, None, None)], "id INT, c STRING, void STRING")
    model = _fit(train, encodings=("linear", "tree"), categorical=Categorical(columns=["c", "void"]))
    later = spark.createDataFrame([(0, "new", "seen"), (1, "", None), (2, None, None), (3, "a", None)], train.schema)
    assert slot_names(model, "linear") == ["c=(empty)", "c=a", "c=(other)", "void=(other)"]
    assert _matrix(model, later).to_numpy().tolist() == [[0, 0, 1, 1], [1, 0, 0, 1], [0, 0, 1, 1], [0, 1, 0, 1]]
    assert _matrix(model, later, "tree").to_numpy().tolist() == [[2, 0], [0, 0], [2, 0], [1, 0]]


def test_parts_of_an_instant(df, data):
    group = Datetime(columns=["at"], parts=["year", "quarter", "month", "week", "day", "weekday", "yearday", "hour", "minute"])
    model = _fit(df, encodings=("linear", "tree"), datetime=group)
    tree, linear, at = _matrix(model, df, "tree"), _matrix(model, df), data["at"].dt
    expected = {"at.weekday": at.weekday, "at.yearday": at.dayofyear, "at.week": at.isocalendar().week, "at.quarter": at.quarter}
    expected |= {"at.year": at.year, "at.month": at.month, "at.day": at.day, "at.hour": at.hour, "at.minute": at.minute}
    for name, values in expected.items():
        np.testing.assert_array_equal(tree[name], values.astype(float), err_msg=name)
    assert len(tree.columns) == 9
    np.testing.assert_allclose(linear["at.hour_sin"], np.sin(2 * np.pi * at.hour / 24), atol=1e-12)
    np.testing.assert_allclose(linear["at.weekday_cos"], np.cos(2 * np.pi * at.weekday / 7), atol=1e-12)
    assert len(linear.columns) == 17
    # One year only: no spread, so it is centred and not divided by 0.
    assert not linear["at.year"].any()


def test_dates_text_and_missing_instants(spark):
    rows = [(0, "2013-05-06", "2013-05-06 07:00:00"), (1, None, "soon"), (2, "2013-05-08", None)]
    df = spark.createDataFrame(rows, "id INT, day STRING, text STRING").withColumn("day", F.to_date("day"))
    model = _fit(df, encodings=("linear", "tree"), datetime=Datetime(columns=["day", "text"], parts=["hour", "weekday"]))
    assert slot_names(model, "tree") == ["day.weekday", "text.hour", "text.weekday"]
    assert _matrix(model, df, "tree").to_numpy().tolist() == [[0, 7, 0], [-1, -1, -1], [2, -1, -1]]
    assert _matrix(model, df).iloc[1].tolist() == [0] * 6


def test_columns_without_numbers_and_without_finite_numbers(spark):
    rows = [(0, None, float("inf"), "1.5"), (1, None, 4.0, "x"), (2, None, float("nan"), "2.5"), (3, None, 8.0, "3.5")]
    df = spark.createDataFrame(rows, "id INT, `no.thing` DOUBLE, wild DOUBLE, text STRING")
    model = _fit(df, encodings=("tree",), numeric=Numeric.model_construct(columns=["no.thing", "wild", "text"], impute="mean"))
    matrix = _matrix(model, df, "tree")
    assert list(matrix.columns) == ["no.thing", "wild", "text"]
    assert matrix.to_numpy().tolist() == [[0, 6, 1.5], [0, 4, 2.5], [0, 6, 2.5], [0, 8, 3.5]]


def _everything():
    return {
        "numeric": Numeric(columns=["x", "n"]),
        "categorical": Categorical(columns=["colour"]),
        "datetime": Datetime(columns=["at"]),
    }


def test_a_fitted_model_loads_as_mllibs_own_and_adds_nothing_else(df, tmp_path):
    model = _fit(df, encodings=("linear", "tree"), **_everything())
    assert all(type(stage).__module__ == "pyspark.ml.feature" for stage in model.stages)
    model.write().overwrite().save(str(tmp_path / "model"))
    loaded = PipelineModel.load(str(tmp_path / "model"))
    out = loaded.transform(df)
    assert out.columns == [*df.columns, "features_linear", "features_tree"]
    for encoding in ("linear", "tree"):
        assert slot_names(loaded, encoding) == slot_names(model, encoding)
        pd.testing.assert_frame_equal(_matrix(loaded, df, encoding), _matrix(model, df, encoding))
    assert max_categories(loaded) == 6
    first = out.select("features_linear").head()[0]
    assert len(first) == 2 + 6 + 6
    # Rows that lack everything are scored too, the label's column need not be there.
    empty = df.limit(2).select("id", *[F.lit(None).cast(df.schema[name].dataType).alias(name) for name in ("x", "n", "colour", "at")])
    assert _matrix(loaded, empty).notna().to_numpy().all()


def test_encodings_may_be_forced(df):
    hot = _fit(df, encodings=("tree",), categorical=Categorical(columns=["colour"], encode="onehot"))
    assert len(slot_names(hot, "tree")) == 6
    assert max_categories(hot) == 2
    index = _fit(df, encodings=("linear", "tree"), categorical=Categorical(columns=["colour"], encode="index"))
    assert slot_names(index, "linear") == ["colour"]


def test_trees_split_by_sets_of_categories(spark):
    # The label is true for every second letter: one split by a set tells them apart, one by order never does.
    df = spark.range(260).selectExpr("id", "char(97 + CAST(id % 26 AS INT)) AS letter", "CAST(id % 2 AS DOUBLE) AS label")
    model = _fit(df, encodings=("tree",), categorical=Categorical(columns=["letter"]))
    tree = DecisionTreeClassifier(featuresCol="features_tree", maxDepth=1, maxBins=max_categories(model), seed=1).fit(model.transform(df))
    assert "in {" in tree.toDebugString
    out = PipelineModel([*model.stages, tree]).transform(df)
    assert out.where("prediction = label").count() == 260
    assert slot_names(PipelineModel([model, tree]), "tree") == ["letter"]


def test_wide_categories_keep_the_most_frequent_for_trees(spark):
    # Value v is seen 2 times where v < 200, else once: among those seen once the first by their text stay.
    df = spark.range(1200).select("id", F.expr("lpad(CAST(id % 1000 AS STRING), 4, '0')").alias("zip"))
    model = _fit(df, encodings=("linear", "tree"), categorical=Categorical(columns=["zip"]))
    assert max_categories(model) == 256
    assert len(slot_names(model, "linear")) == 1001
    tree = _matrix(model, df, "tree")["zip"]
    assert [i for i in range(1000) if tree[i] < 255] == list(range(255))


def test_a_linear_model_learns_from_the_pipeline(df):
    model = _fit(df, **_everything())
    labelled = model.transform(df).withColumn("label", F.col("is_big").cast("double"))
    fitted = LogisticRegression(featuresCol="features_linear", regParam=0.01, maxIter=10).fit(labelled)
    weights = dict(zip(slot_names(model, "linear"), fitted.coefficients, strict=True))
    assert max(weights, key=lambda name: abs(weights[name])) == "n"


def test_huge_numbers_are_scaled_as_exact_fractions_are_and_every_slot_is_finite(spark):
    values = [*[1e308, -1e308, 0.5, 0.7] * 5, 1.7e308, None]
    frame = spark.createDataFrame(
        [(place, value, -1e308, 5.0, [1e308, 1e308]) for place, value in enumerate(values)],
        "id INT, `a b` DOUBLE, same DOUBLE, y DOUBLE, l ARRAY<DOUBLE>",
    )
    exact = [Fraction(value) for value in values if value is not None]
    mean = sum(exact) / len(exact)
    deviation = math.sqrt(sum((value / 2**900 - mean / 2**900) ** 2 for value in exact) / (len(exact) - 1))
    standard = [float((value - mean) / 2**900) / deviation for value in exact]
    span = max(exact) - min(exact)
    minmax = [float((value - min(exact)) / span) for value in exact]
    for scale, impute, expected in (("standard", "none", standard), ("minmax", "mean", [*minmax, float((mean - min(exact)) / span)])):
        model = _fit(frame, encodings=("linear", "positive", "tree"), numeric=Numeric(columns=["a b", "same"], scale=scale, impute=impute))
        actual = _matrix(model, frame)
        np.testing.assert_allclose(actual["a b"][: len(expected)], expected, rtol=1e-9, atol=1e-12)
        assert (actual["same"] == 0).all()
        np.testing.assert_allclose(_matrix(model, frame, "positive")["a b"][: len(minmax)], minmax, rtol=1e-9)
        assert list(_matrix(model, frame, "tree")["a b"][: len(exact)]) == [float(value) for value in exact]
    wide = Numeric(columns=["a b"], scale="none", impute=0.0), Numeric(columns=["a b"], scale="robust")
    lists = Array(columns=["l"], encode="summary")
    for numeric in wide:
        matrix = _matrix(_fit(frame, numeric=numeric, array=lists, buckets=Buckets(columns=["a b"], quantiles=3)), frame)
        assert np.isfinite(matrix.to_numpy()).all() and matrix["a b"].nunique() > 2
    assert set(_matrix(_fit(frame, encodings=("tree",), array=lists), frame, "tree")["l.mean"]) == {1e308}
    assert np.isfinite(_matrix(_fit(frame, numeric=wide[1], pca=Pca(columns=["a b", "y"], k=1)), frame).to_numpy()).all()
