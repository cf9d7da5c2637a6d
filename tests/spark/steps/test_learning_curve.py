"""The learning curve of the candidate, against least squares on the same rows."""

import numpy as np
import pandas as pd
import pytest

from tidemill.lake.ops import CurveRow, MetricRow

SPEC = """
pipeline: prices
lake: {folder}/lake
sources:
  raw:
    {{format: csv, path: "{folder}/rows.csv", options: {{header: true}}, schema: "id INT, town STRING, x DOUBLE, z DOUBLE, y DOUBLE"}}
tables: {{rows: {{sql: SELECT * FROM bronze.raw, key: [id]}}}}
dataset:
  from: silver.rows
  key: [id]
  label: y
  split: {{by: group, group: town, test: 0.3}}
features: {{numeric: {{columns: [x, z]}}}}
training: {{task: regression, metric: rmse, models: {{linear_regression: {{regParam: 0.0}}}}, tuner: {{strategy: grid}}}}
evaluation: {{learning_curve: true, importance: {{rows: 0, contributions: 0}}}}
"""


def _rows() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    x, z = rng.normal(size=(2, 600))
    y = 3 * x - z + 0.5 * x * z + rng.normal(size=600)
    return pd.DataFrame({"id": np.arange(600), "town": rng.integers(0, 80, 600).astype(str), "x": x, "z": z, "y": y})


@pytest.mark.slow
def test_each_point_is_the_trial_trained_on_a_part_of_the_groups(spark, whole_pipeline, tmp_path):
    run = whole_pipeline(tmp_path, SPEC, _rows())
    assert run.outcome.exit_code == 0
    points = run.lake.ledger.read(CurveRow, pipeline="prices", curve="learning")
    assert [(row.model_version, row.split) for row in points] == [(1, "test")] * 4

    order = "pmod(xxhash64('share of the training rows', town, 0), 1000000) AS place"
    rows = run.lake.read(spark, "gold.prices_dataset").selectExpr("*", order).toPandas()
    test, train = rows[rows["split"] == "test"], rows[rows["split"] == "train"]
    groups = set()
    for point, share in zip(points, (1 / 8, 1 / 4, 1 / 2, 1), strict=True):
        part = train[train["place"] < 1_000_000 * share]
        assert point.x == len(part)
        assert groups <= set(part["town"])  # nested, and whole groups
        groups = set(part["town"])
        design = np.column_stack([np.ones(len(part)), part[["x", "z"]]])
        solution = np.linalg.lstsq(design, part["y"], rcond=None)[0]
        residuals = test["y"] - np.column_stack([np.ones(len(test)), test[["x", "z"]]]) @ solution
        assert point.y == pytest.approx(np.sqrt((residuals**2).mean()), rel=1e-6)
    metrics = run.lake.ledger.read(MetricRow, pipeline="prices", metric="rmse", model_version=1)
    assert points[-1].y == next(row.value for row in metrics if row.slice is None)
