"""The sample kept with a version: which rows, their predictions, and what a check of it finds."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import SQLTransformer, VectorAssembler
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.lake import Lake
from tidemill.model_registry import Manifest, load_model, save_model
from tidemill.model_registry.predict import predict
from tidemill.model_registry.sample import SAMPLE_ROWS, check_sample, compare_predictions, read_sample, take_sample, to_parquet

MANIFEST = Manifest(
    "p", 1, "binary", "test", {}, "f1", None, [False, True], "boolean", True, {"x": "double", "at": "timestamp"}, "r1", 0
)  # fmt: skip


@pytest.fixture(scope="module")
def saved(spark, tmp_path_factory):
    """A dataset of 250 rows, a model of it, and the model saved with its sample."""
    dataset = spark.range(250, numPartitions=3).selectExpr(
        "id", "CAST(id % 7 AS STRING) AS part", "sin(id) AS x", "TIMESTAMP '2013-01-01 12:00:00' + make_dt_interval(id) AS at",
        "IF(id % 2 = 0, 'train', 'test') AS split", "sin(id) + cos(id * 5) > 0 AS late",
    )  # fmt: skip
    stages = [
        SQLTransformer(statement="SELECT *, day(at) + 0.0 AS day FROM __THIS__"),
        VectorAssembler(inputCols=["x", "day"], outputCol="features"),
        LogisticRegression(),
    ]
    model = Pipeline(stages=stages).fit(dataset.withColumn("label", F.col("late").cast("double")))
    lake = Lake(str(tmp_path_factory.mktemp("sample") / "lake"))
    sample = take_sample(model, MANIFEST, dataset, ["part", "id"], "late")
    save_model(lake, model, MANIFEST, to_parquet(sample))
    return dataset, model, lake


def test_sample_is_of_the_lowest_hashes_and_holds_the_predictions(spark, saved):
    dataset, model, lake = saved
    _, manifest = load_model(lake, "p", 1)
    sample = read_sample(lake, manifest)
    assert sample.schema.field("features").type.names == ["x", "at"]
    scored = predict(model, manifest, dataset).select("part", "id", "x", "prediction", "probability").toPandas()
    hashes = dataset.select(F.xxhash64("part", F.col("id").cast("string")).alias("hash"), "id").toPandas()
    lowest = hashes.sort_values("hash")["id"].head(SAMPLE_ROWS).tolist()
    rows = sample.to_pylist()
    assert [row["key"]["id"] for row in rows] == lowest
    expected = scored.set_index("id").loc[lowest]
    assert [row["prediction"] for row in rows] == expected["prediction"].tolist()
    assert [row["probability"] for row in rows] == pytest.approx(expected["probability"].tolist(), abs=1e-12)
    repartitioned = take_sample(model, manifest, dataset.repartition(7, "x"), ["part", "id"], "late")
    assert repartitioned.to_pylist() == rows


def test_check_loads_anew_and_finds_the_first_difference(spark, saved, tmp_path):
    _, _, lake = saved
    check = check_sample(spark, lake, "p", 1)
    assert (check.rows, check.difference, check.is_equal) == (SAMPLE_ROWS, None, True)
    other = Lake(str(tmp_path / "lake"))
    shutil.copytree(lake.root, other.root)
    _, manifest = load_model(other, "p", 1)
    rows = read_sample(other, manifest).to_pylist()
    rows[3]["probability"] += 1e-6
    content = to_parquet(pa.Table.from_pylist(rows, schema=read_sample(other, manifest).schema))
    other.write_bytes("models/p/1/sample.parquet", content)
    with pytest.raises(StepError, match=r"sample.parquet is not the file that was written with the model"):
        check_sample(spark, other, "p", 1)
    (Path(other.root) / "models/p/1").rename(Path(other.root) / "models/p/0")
    model, _ = load_model(lake, "p", 1)
    save_model(other, model, dataclasses.replace(manifest, files={}, sample=None), content)
    difference = check_sample(spark, other, "p", 1).difference
    assert difference is not None
    assert (difference.column, dict(difference.key), difference.stored) == ("probability", rows[3]["key"], rows[3]["probability"])
    assert difference.computed == pytest.approx(rows[3]["probability"] - 1e-6, abs=1e-9)
    assert f"probability of the row part {rows[3]['key']['part']}, id {rows[3]['key']['id']} was" in str(difference)


def test_version_without_a_sample_is_refused_by_name(spark, saved, tmp_path):
    _, model, _ = saved
    lake = Lake(str(tmp_path / "lake"))
    save_model(lake, model, MANIFEST)
    with pytest.raises(StepError, match="model 1 of p has no stored sample of predictions"):
        check_sample(spark, lake, "p", 1)


def test_classes_are_compared_exactly_and_numbers_up_to_the_tolerance():
    def table(prediction, probability, error=None):
        cells = {"key": [{"id": 1}], "prediction": [prediction], "probability": [probability], "score_error": [error]}
        return pa.table(cells)

    def differs_in(before, now, is_number=False):
        difference = compare_predictions(table(*before), table(*now), is_number=is_number).difference
        return difference and difference.column

    assert differs_in((1, 0.5), (1, 0.5 + 9e-10)) is None
    assert differs_in((1, 0.5), (1, 0.5 + 2e-9)) == "probability"
    assert differs_in((1, [0.5, 0.5]), (1, [0.5, 0.4])) == "probability"
    assert differs_in((1.0, None), (1.0 + 1e-10, None)) == "prediction"
    assert differs_in((1e6, None), (1e6 + 9e-4, None), is_number=True) is None
    assert differs_in((1e6, None), (1e6 + 2e-3, None), is_number=True) == "prediction"
    assert differs_in((None, None, "x: null"), (None, None, None)) == "score_error"
    assert differs_in((1.5, None), (None, None), is_number=True) == "prediction"


def test_sample_file_is_parquet_that_any_reader_takes(saved):
    _, _, lake = saved
    assert pq.read_table(io.BytesIO(lake.read_bytes("models/p/1/sample.parquet"))).num_rows == SAMPLE_ROWS
