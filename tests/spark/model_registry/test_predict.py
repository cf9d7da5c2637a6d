"""predict: types, probabilities, rows that cannot be scored, columns that are kept."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import SQLTransformer, VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import functions as F
from sklearn.linear_model import LogisticRegression as Reference

from tidemill.errors import StepError, UsageError
from tidemill.lake import Lake
from tidemill.model_registry import Manifest, load_model, save_model
from tidemill.model_registry.predict import EvaluationColumns, encode_label, evaluation_rows, predict

X = [-2.0, -1.5, -1.0, -0.2, 0.3, 1.0, 1.4, 2.2]
Y = ["no", "no", "yes", "no", "yes", "no", "yes", "yes"]
# What a column of the caller's must survive: the stages add columns of these names.
NOISE = {"label": "kept", "features": "kept", "rawPrediction": "kept"}


def _manifest(task, **more):
    return Manifest(
        **{
            "pipeline": "p",
            "version": 1,
            "task": task,
            "family": "test",
            "params": {},
            "metric": "f1",
            "cv_value": None,
            "classes": None,
            "label_type": "double",
            "positive": None,
            "feature_columns": {"x": "double"},
            "run_id": "r1",
            "dataset_version": 0,
        }
        | more
    )


def _stages(estimator, nan_at=None):
    guard = f"SELECT *, IF(x = {nan_at}, double('NaN'), x) AS z FROM __THIS__" if nan_at else "SELECT *, x AS z FROM __THIS__"
    assembler = VectorAssembler(inputCols=["z"], outputCol="features", handleInvalid="keep")
    return Pipeline(stages=[SQLTransformer(statement=guard), assembler, estimator])


@pytest.fixture(scope="module")
def binary(spark):
    frame = spark.createDataFrame([(x, float(y == "yes")) for x, y in zip(X, Y, strict=True)], "x double, label double")
    model = _stages(LogisticRegression(regParam=0.0, standardization=False, tol=1e-12), nan_at=99).fit(frame)
    return model, _manifest("binary", classes=["no", "yes"], label_type="string", positive="yes")


def test_binary_matches_scikit_learn_and_keeps_every_row_and_column(spark, binary):
    rows = [(i, str(x), *NOISE.values()) for i, x in enumerate(X)] + [(8, "abc", *NOISE.values()), (9, "99", *NOISE.values())]
    frame = spark.createDataFrame(rows, "id int, x string, label string, features string, rawPrediction string")
    scored = predict(*binary, frame)
    assert scored.columns == ["id", "x", *NOISE, "prediction", "probability", "score_error"]
    assert dict(scored.dtypes)["prediction"] == "string"
    assert dict(scored.dtypes)["probability"] == "double"
    actual = {row["id"]: row for row in scored.collect()}
    assert len(actual) == 10
    assert all(row[name] == value for row in actual.values() for name, value in NOISE.items())
    reference = Reference(C=np.inf, tol=1e-10).fit(np.array(X).reshape(-1, 1), Y)
    assert [actual[i]["probability"] for i in range(8)] == pytest.approx(
        reference.predict_proba(np.array(X).reshape(-1, 1))[:, 1], abs=1e-4
    )
    assert [actual[i]["prediction"] for i in range(8)] == list(reference.predict(np.array(X).reshape(-1, 1)))
    assert [actual[i]["score_error"] for i in range(8)] == [None] * 8
    assert actual[8]["score_error"] == "x: 'abc' is not a value of type double"
    assert actual[9]["score_error"] == "the model returned no number for this row"
    assert {actual[i][name] for i in (8, 9) for name in ("prediction", "probability")} == {None}


def test_multiclass_gives_the_array_in_the_order_of_the_classes(spark):
    train = [(x, float(min(2, max(0, round(x + 1))))) for x in X]
    model = _stages(LogisticRegression(family="multinomial", regParam=0.1)).fit(spark.createDataFrame(train, "x double, label double"))
    manifest = _manifest("multiclass", classes=[10, 20, 30], label_type="int")
    scored = predict(model, manifest, spark.createDataFrame([(-5.0,), (5.0,)], "x double"))
    assert scored.dtypes[1:3] == [("prediction", "int"), ("probability", "array<double>")]
    low, high = sorted(scored.collect(), key=lambda row: row["x"])
    assert (low["prediction"], high["prediction"]) == (10, 30)
    assert np.argmax(low["probability"]) == 0
    assert np.argmax(high["probability"]) == 2
    assert sum(low["probability"]) == pytest.approx(1)


@pytest.mark.parametrize(("task", "label_type"), [("regression", "int"), ("regression", "decimal(5,1)"), ("recommendation", "bigint")])
def test_numbers_are_doubles_whatever_the_type_of_the_label(spark, task, label_type):
    train = spark.createDataFrame([(x, 2 * x + 1.4) for x in X], "x double, label double")
    model = _stages(LinearRegression()).fit(train)
    endless = spark.createDataFrame([(float("inf"),)], "x double")
    unscored = predict(model, _manifest("regression"), endless).first()
    assert (unscored["prediction"], unscored["score_error"]) == (None, "the model returned no number for this row")
    scored = predict(model, _manifest(task, label_type=label_type), spark.createDataFrame([(10,), (10**12,)], "x bigint"))
    rows = scored.orderBy("x").collect()
    assert scored.dtypes[1:3] == [("prediction", "double"), ("probability", "double")]
    assert [row["prediction"] for row in rows] == pytest.approx([21.4, 2e12 + 1.4])
    assert {(row["probability"], row["score_error"]) for row in rows} == {(None, None)}


def test_missing_feature_columns_are_named_with_the_nearest(spark, binary):
    with pytest.raises(UsageError, match=r"model 1 of p needs the columns x, .*; they have y, xx"):
        predict(*binary, spark.createDataFrame([(1, 2.0)], "y int, xx double"))


def test_labels_become_indices(spark, binary):
    model, manifest = binary
    frame = spark.createDataFrame([("no", 0.0), ("yes", 0.0), ("perhaps", 0.0), (None, 0.0)], "answer string, x double")
    actual = [row["label"] for row in evaluation_rows(model, manifest, frame, EvaluationColumns("answer")).rows.collect()]
    assert actual == [0.0, 1.0, 2.0], "a row without a label is not evaluated"
    assert [row[0] for row in frame.select(encode_label(manifest, F.col("answer"))).collect()] == [0.0, 1.0, 2.0, None]
    numbered = _manifest("binary", classes=[0, 1], label_type="int", positive=1)
    actual = frame.unionAll(spark.createDataFrame([("1", 0.0)], frame.schema)).select(encode_label(numbered, F.col("answer"))).collect()
    assert [row[0] for row in actual] == [2.0, 2.0, 2.0, None, 1.0], "what is no number is of no class that training knew"
    named = spark.createDataFrame([("yes", 0.0)], "probability string, x double")
    assert evaluation_rows(model, manifest, named, EvaluationColumns("probability")).rows.first()["label"] == 1.0
    flags = _manifest("binary", classes=[True, False], label_type="boolean", positive=False)
    frame = spark.createDataFrame([(True,), (False,)], "flag boolean")
    assert [row[0] for row in frame.select(encode_label(flags, frame["flag"])).collect()] == [0.0, 1.0]


def test_a_saved_model_predicts_the_same_and_needs_its_manifest(spark, lake, binary):
    model, manifest = binary
    frame = spark.createDataFrame([(x,) for x in X], "x double")
    lake.write_text("models/p/1/_unfinished", "r0")
    lake.write_text("models/p/1/spark/metadata/part-00000", "a killed attempt is written over")
    save_model(lake, model, manifest)
    with pytest.raises(StepError, match=r"model 1 of p is not written: .*/models/p/1 holds files already"):
        save_model(lake, model, manifest)
    loaded, read = load_model(lake, "p", 1)
    assert dataclasses.replace(read, files={}) == Manifest.from_json(manifest.to_json())
    assert {path.partition("/")[0] for path in read.files} == {"metadata", "stages"}
    assert predict(loaded, read, frame).collect() == predict(model, manifest, frame).collect()
    assert load_model(lake, "p", 1)[0] is loaded, "evaluate, deploy and score of one run load the files once"
    with pytest.raises(StepError, match=r"model 2 of p: .*model\.json cannot be read"):
        load_model(lake, "p", 2)
    # The same files at another place; a file that was changed since it was loaded.
    save_model(other := Lake(f"{lake.root}_2"), model, manifest)
    assert load_model(other, "p", 1)[0] is not loaded
    Path(lake.root, "models/p/1/spark", next(path for path in read.files if path.endswith(".parquet"))).write_bytes(b"")
    with pytest.raises(StepError, match=r"model 1 of p: .*parquet is not the file that was written with the model"):
        load_model(lake, "p", 1)


@pytest.mark.parametrize("kind", ["double", "string"])
def test_many_columns_joined_and_filtered_do_not_overwhelm_the_planner(spark, kind):
    names = [f"x{i}" for i in range(24)]
    train = spark.createDataFrame([(*[x + i for i in range(24)], 2 * x) for x in X], [*names, "label"])
    assembler = VectorAssembler(inputCols=names, outputCol="features")
    model = Pipeline(stages=[assembler, LinearRegression(regParam=0.1)]).fit(train)
    manifest = _manifest("regression", feature_columns=dict.fromkeys(names, "double"))
    rows = train.selectExpr("CAST(label AS INT) AS id", *[f"CAST({name} AS {kind}) AS {name}" for name in names])
    scored = predict(model, manifest, rows).alias("s")
    other = rows.select("id", "x0").alias("t")
    joined = scored.join(other, on=[scored["x0"] == other["x0"]], how="left").where("t.id IS NULL OR NOT (s.prediction <=> 1e9)")
    assert joined.select("s.*").count() == len(X)
