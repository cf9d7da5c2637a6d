"""Custom stages: from a file beside the spec into the model, and out of it in a process that never saw the file."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from tests.spark.tables import write_table

from tidemill.errors import SpecError, StepError, UsageError
from tidemill.model_registry import Deployments, load_model
from tidemill.model_registry.predict import predict
from tidemill.steps.score.step import score
from tidemill.steps.train.step import train

FUNCTIONS = """
from pyspark.ml import Estimator, Model, Transformer
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import functions as F


class Length(Transformer, DefaultParamsReadable, DefaultParamsWritable):
    factor = Param(Params._dummy(), "factor", "", TypeConverters.toFloat)

    def __init__(self):
        super().__init__()
        self._setDefault(factor=1.0)

    def _transform(self, df):
        times = self.getOrDefault("factor")
        return df.withColumn("length", F.length("carrier") * times)


class Centre(Estimator, DefaultParamsReadable, DefaultParamsWritable):
    def __init__(self, column="x"):
        super().__init__()
        self.column = column

    def _fit(self, df):
        return Centred()._set(middle=df.agg(F.avg(self.column)).head()[0], column=self.column)


class Centred(Model, DefaultParamsReadable, DefaultParamsWritable):
    middle = Param(Params._dummy(), "middle", "", TypeConverters.toFloat)
    column = Param(Params._dummy(), "column", "", TypeConverters.toString)

    def _transform(self, df):
        return df.withColumn("centred", F.col(self.getOrDefault("column")) - self.getOrDefault("middle"))


def loudness(letters):
    return letters.str.count("A") * 3.0


class Shout(Transformer, DefaultParamsReadable, DefaultParamsWritable):
    def _transform(self, df):
        return df.withColumn("shout", F.pandas_udf(loudness, "double", F.PandasUDFType.SCALAR)("carrier"))


class Narrow(Transformer):
    def _transform(self, df):
        return df.withColumn("one", F.lit(1))


class Leaves(Estimator):
    def _fit(self, df):
        raise SystemExit(0)


class Forgetful(Transformer, DefaultParamsReadable, DefaultParamsWritable):
    def _transform(self, df):
        return df.withColumn("one", F.lit(1)).drop("x")
"""

SCORE = """
import json, sys
from tidemill.runtime.session import get_spark
from tidemill.lake import Lake
from tidemill.model_registry import load_model
from tidemill.model_registry.predict import predict
spark = get_spark("other", {"spark.master": "local[1]", "spark.sql.shuffle.partitions": "1"})
lake = Lake(sys.argv[1])
model, manifest = load_model(lake, "late", 1)
rows = predict(model, manifest, lake.read(spark, "gold.late_dataset")).orderBy("id").select("probability").collect()
print(json.dumps([row[0] for row in rows]))
"""


def _spec(custom, **features):
    return {
        "pipeline": "late",
        "sources": {"raw": {"format": "csv", "path": "raw.csv"}},
        "dataset": {"from": "silver.rows", "key": ["id"], "label": "y"},
        "features": {"custom": custom, **features},
        "training": {"task": "binary", "folds": 2, "tuner": {"strategy": "grid"}, "models": {"logistic_regression": {"maxIter": 5}}},
    }


CUSTOM = [
    {"python": "functions.Length", "params": {"factor": 2.0}},
    {"python": "functions.Centre", "params": {"column": "x"}},
    {"python": "functions.Shout", "columns": ["carrier"]},
]


@pytest.fixture
def context(spark, lake, make_context, tmp_path):
    """The context of a step over 60 rows, ``functions.py`` beside the spec."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    rng = np.random.default_rng(3)
    x = rng.normal(5, 2, 60)
    data = pd.DataFrame(
        {"id": range(60), "x": x, "carrier": ["AA" if v % 3 else "UA9" for v in range(60)], "y": x + rng.normal(0, 2, 60) > 5}
    )
    data["split"], data["fold"] = np.where(data.id < 40, "train", "test"), data.id % 2
    frame = (
        spark.createDataFrame(data)
        .selectExpr("*", "'spare' AS spare")
        .drop("fold")
        .selectExpr("*", "CASE WHEN id < 40 THEN CAST(id % 2 AS INT) END AS fold")
    )
    version = write_table(lake, frame, "gold.late_dataset")

    def make(custom=CUSTOM, node="train", inputs=None, **features):
        return make_context(_spec(custom, **features), node, {"gold.late_dataset": version, **(inputs or {})})

    return make


@pytest.mark.long("trains with three classes of the user, and sends them to workers of Python")
def test_a_model_with_custom_stages_scores_without_the_file_that_declares_them(context, lake, spark, tmp_path):
    train(context())
    (tmp_path / "functions.py").unlink()
    assert "functions" not in sys.modules, "the classes can only be those that the model brings along"
    model, manifest = load_model(lake, "late", 1)
    # The class that names no column reads only what it cannot do without.
    assert manifest.feature_columns == {"carrier": "string", "x": "double"}
    assert list(manifest.slots) == ["length", "centred", "shout"]
    weights = {row["slot"]: (row["kind"], row["importance"]) for row in lake.ledger.rows("ops.importances", run_id="r1")}
    assert weights == {
        slot: ("coefficient", pytest.approx(value)) for slot, value in zip(manifest.slots, model.stages[-1].coefficients, strict=True)
    }
    dataset = lake.read(spark, "gold.late_dataset")
    out = model.transform(dataset).orderBy("id").toPandas()
    data = dataset.orderBy("id").toPandas()
    expected = np.column_stack(
        [data.carrier.str.len() * 2.0, data.x - data[data.split == "train"].x.mean(), data.carrier.str.count("A") * 3.0]
    )
    np.testing.assert_allclose(np.stack([vector.toArray() for vector in out["features_linear"]]), expected)
    scored = predict(model, manifest, dataset).orderBy("id").toPandas()
    regression = model.stages[-1]
    margins = expected @ regression.coefficients.toArray() + regression.intercept
    np.testing.assert_allclose(scored["probability"], 1 / (1 + np.exp(-margins)))
    with pytest.raises(UsageError, match="needs the columns x, which the rows to score lack"):
        predict(model, manifest, dataset.drop("x"))


@pytest.mark.slow
def test_a_model_with_custom_stages_scores_in_another_process(context, lake, spark, tmp_path):
    train(context())
    dataset = lake.read(spark, "gold.late_dataset")
    here = [row[0] for row in predict(*load_model(lake, "late", 1), dataset).orderBy("id").select("probability").collect()]
    (tmp_path / "functions.py").unlink()
    run = subprocess.run(
        [sys.executable, "-c", SCORE, lake.root], capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ}
    )
    assert json.loads(run.stdout.strip().splitlines()[-1]) == pytest.approx(here)


def test_stages_that_cannot_serve_are_named(context):
    with pytest.raises(StepError, match=r"functions.Narrow cannot be saved with the model; let it inherit DefaultParamsReadable"):
        train(context([{"python": "functions.Narrow"}]))
    with pytest.raises(StepError, match=r"features.custom: functions.Leaves called sys.exit\(0\) \(functions.py, line \d+, in _fit\)"):
        train(context([{"python": "functions.Leaves"}]))
    with pytest.raises(StepError, match=r"functions.Forgetful drops the column 'x'"):
        train(context([{"python": "functions.Forgetful"}], numeric={"columns": ["x"]}))
    with pytest.raises(StepError, match=r"functions.Length has no parameter 'facto'; did you mean 'factor'\?"):
        train(context([{"python": "functions.Length", "params": {"facto": 1.0}}]))
    with pytest.raises(SpecError, match=r"features.custom.0.columns: column 'z' is not in the dataset"):
        train(context([{"python": "functions.Length", "columns": ["z"]}]))


def test_a_model_of_other_features_than_the_specs_is_refused_by_name(context, lake):
    train(context([], numeric={"columns": ["x"]}))
    with pytest.raises(StepError) as caught:
        score(context([], "score", {"models.late": 1}, numeric={"columns": ["x"], "scale": "minmax"}, categorical={"columns": ["carrier"]}))
    said = str(caught.value)
    assert "model 1 of late was trained with other features" in said
    assert "features.numeric.scale: was standard, now minmax" in said
    assert "features.categorical: was absent, now a block" in said
    assert Deployments(lake.ledger, "late").states() == {1: "CANDIDATE"}
