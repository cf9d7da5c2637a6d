"""The Python interface over a real lake: one small pipeline from a file to predictions."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import tidemill as tm

SPEC = """\
pipeline: shop
lake: {folder}/lake
sources:
  orders: {{format: csv, path: {folder}/orders.csv, options: {{header: true}},
           schema: "id INT, price DOUBLE, weight DOUBLE, is_returned BOOLEAN"}}
dataset:
  from: bronze.orders
  key: [id]
  label: is_returned
  split: {{by: hash, test: 0.3}}
training:
  task: binary
  folds: 2
  models: {{logistic_regression: {{regParam: [0.01]}}}}
evaluation: {{gates: []}}
"""


@pytest.mark.long("a whole run, on which every method of the interface is checked")
def test_a_pipeline_runs_and_answers(spark, tmp_path):
    rng = np.random.default_rng(7)
    orders = pd.DataFrame({"id": range(240), "price": rng.normal(size=240), "weight": rng.normal(size=240)})
    orders["is_returned"] = orders["price"] + rng.normal(scale=0.3, size=240) > 0
    orders.to_csv(tmp_path / "orders.csv", index=False)
    with (tmp_path / "orders.csv").open("a") as file:
        file.write("240,cheap,0.5,true\n")
    (tmp_path / "pipeline.yml").write_text(SPEC.format(folder=tmp_path))
    pipeline = tm.load(tmp_path, spark=spark)

    outcome = pipeline.run()
    assert (outcome.state, outcome.champion, outcome.exit_code) == ("SUCCEEDED", 1, 0)
    assert pipeline.champion() == 1
    status = pipeline.status()
    assert (status.state, status.run["run_id"]) == ("SUCCEEDED", outcome.run_id)
    assert {step["node"]: step["rows_out"] for step in status.steps}["ingest.orders"] == 240
    assert set(pipeline.explain()["would"]) == {"skip"}

    models = pipeline.models().set_index("model_version")
    assert list(models["state"]) == ["BASELINE", "CHAMPION"]
    assert models.loc[1, "areaUnderROC"] > 0.9 > models.loc[0, "areaUnderROC"]
    assert list(pipeline.trials()["family"]) == ["logistic_regression"]
    assert list(pipeline.deployments()["to_state"])[-1] == "CHAMPION"
    assert set(pipeline.features()["column_name"]) == {"price", "weight"}
    [refused] = pipeline.quarantine(as_="rows")
    assert (refused["table"], refused["rule"], refused["records"]) == ("bronze.orders", "cast:price", 1)

    predictions = pipeline.sql("SELECT id, prediction, probability FROM gold.shop_predictions ORDER BY id")
    assert len(predictions) == 240
    counted = pipeline.sql("SELECT count(*) AS n FROM ops.steps_now", as_="arrow")
    assert counted.column("n").to_pylist() == [7]
    assert pipeline.sql("SELECT 1 AS one", as_="spark").columns == ["one"]
    with pytest.raises(tm.UsageError, match=r"gold\.shop_prediction is not in .*did you mean 'gold\.shop_predictions'"):
        pipeline.sql("SELECT * FROM gold.shop_prediction")

    # The same rows by file, as a pandas frame and as a Spark frame have the predictions of the run.
    by_file = pipeline.score(tmp_path / "orders.csv")
    assert by_file["score_error"].notna().sum() == 1
    scored = by_file[by_file["score_error"].isna()].sort_values("id").reset_index(drop=True)
    pd.testing.assert_series_equal(scored["probability"], predictions["probability"])
    for frame in (orders, spark.createDataFrame(orders)):
        by_frame = pipeline.score(frame).sort_values("id").reset_index(drop=True)
        pd.testing.assert_series_equal(by_frame["probability"], predictions["probability"])
    assert json.loads(pipeline.score(orders.head(1), as_="arrow").to_pandas().to_json(orient="records"))[0]["model_version"] == 1
