"""A feature group of the user's own: numbers, and vectors that its own stages are fitted for, beside built-in groups."""

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.functions import vector_to_array

from tidemill.extensions import search_beside
from tidemill.features import feature_pipeline, plan_features, slot_names
from tidemill.spec.models import Features

FUNCTIONS = """
from pyspark.ml.feature import MinMaxScaler, VectorAssembler, VectorSizeHint

from tidemill.features.groups import ColumnBlock, Contribution, FeatureGroup, FittedVectors, Scalar, VectorColumns


class Ratio(ColumnBlock):
    over: str


class Extent(VectorColumns):
    def __init__(self, block):
        self.block = block

    def fit(self, fit):
        names = self.block.columns
        whole = VectorAssembler(inputCols=names, outputCol="whole")
        extent = MinMaxScaler(inputCol="whole", outputCol="extent").fit(whole.transform(fit.prepared()))
        hint = VectorSizeHint(inputCol="extent", size=len(names))
        return FittedVectors([whole, extent, hint], ["extent"], ["extent"], ["whole", "extent"])


class Ratios(FeatureGroup):
    options = Ratio
    accepts, expected = frozenset({"numeric"}), "a number"

    def contribute(self, blocks, columns):
        ratios = [Scalar(f"{name}/{block.over}", f"{name} / {block.over}", scale="none") for block in blocks for name in block.columns]
        return Contribution(ratios, vectors=[Extent(block) for block in blocks])

    def columns(self, block):
        return [*block.columns, block.over]
"""


def test_it_adds_numbers_and_vectors_that_load_without_it(spark, tmp_path):
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    df = spark.range(1, 41).selectExpr("id", "CAST(id AS DOUBLE) AS x", "CAST(id % 7 + 1 AS DOUBLE) AS z")
    with search_beside(tmp_path):
        features = Features.model_validate(
            {"numeric": {"columns": ["z"], "scale": "none"}, "functions.Ratios": {"columns": ["x"], "over": "z"}}
        )
    plan = plan_features(features, df, exclude={"id"})
    assert plan.columns == ["z", "x"]
    assert plan.groups_of("x") == ["functions.Ratios"]
    model = feature_pipeline(plan, ["linear", "tree"]).fit(df)
    model.write().save(str(tmp_path / "model"))
    again = PipelineModel.load(str(tmp_path / "model"))
    assert slot_names(again, "linear") == ["z", "x/z", "extent[0]"]
    rows = again.transform(df).select("x", "z", vector_to_array("features_linear").alias("v")).orderBy("id").toPandas()
    expected = np.column_stack([rows.z, rows.x / rows.z, (rows.x - 1) / 39])
    assert np.stack(rows.v) == pytest.approx(expected)
