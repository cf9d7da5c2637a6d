"""Weights, a monotone column, logarithms and a quantile through the steps dataset, train, evaluate and score."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_pinball_loss, r2_score

from tidemill.errors import ExpectationRefused, SpecError
from tidemill.model_registry import Deployments, load_model, read_manifest
from tidemill.model_registry.predict import predict
from tidemill.steps.dataset.step import dataset
from tidemill.steps.evaluate.step import evaluate
from tidemill.steps.train.step import train

SCHEMA = "id INT, x DOUBLE, size DOUBLE, price DOUBLE, weight DOUBLE"


def examples(rows=240):
    rng = np.random.default_rng(8)
    x, size = rng.uniform(0, 10, rows), rng.uniform(1, 3, rows)
    price = np.expm1(0.3 * x + 0.6 * np.sin(x) + 0.3 * size + 0.2 * rng.normal(size=rows)).clip(0)
    return pd.DataFrame({"id": np.arange(rows), "x": x, "size": size, "price": price, "weight": rng.choice([0.0, 1.0, 4.0], rows)})


def spec(**training):
    return {
        "pipeline": "prices",
        "sources": {"raw": {"format": "csv", "path": "raw.csv"}},
        "dataset": {"from": "silver.rows", "key": ["id"], "label": "price", "weight": "weight", "split": {"by": "hash", "test": 0.3}},
        "training": {
            "task": "regression",
            "folds": 2,
            "target": "log",
            "loss": {"quantile": 0.8},
            "tuner": {"strategy": "grid"},
            "models": {"hist_gradient_boosting": {"max_iter": [10, 30], "min_samples_leaf": 5}},
            **training,
        },
    }


@pytest.fixture
def prices(spark, lake, make_context):
    """Make the dataset of the rows given, or of the usual ones, and give the contexts of the steps behind it."""

    def make(frame=None, declared=None):
        records = [
            tuple(None if pd.isna(value) else value for value in row)
            for row in (examples() if frame is None else frame).astype(object).to_numpy().tolist()
        ]
        version = lake.replace(spark.createDataFrame(records, SCHEMA), "silver.rows", meta={})
        return make_context(declared or spec(), "dataset", {"silver.rows": version})

    return make


@pytest.mark.long("trains with weights, constraints and calibration, evaluates and scores")
def test_all_of_it_together(spark, lake, prices, make_context):
    made = dataset(prices())
    trained = train(make_context(spec(), "train", dict(made.outputs)))
    evaluate(make_context(spec(), "evaluate", {**made.outputs, **trained.outputs}))
    manifest = read_manifest(lake, "prices", 1)
    assert (manifest.metric, sorted(manifest.feature_columns)) == ("quantileLoss", ["size", "x"])
    rows = lake.read(spark, "gold.prices_dataset")
    test = predict(*load_model(lake, "prices", 1), rows.where("split = 'test'")).toPandas()
    found = {row["metric"]: row["value"] for row in lake.ledger.rows("ops.metrics", pipeline="prices", model_version=1)}
    given = {"sample_weight": test["weight"]}
    assert found["quantileLoss"] == pytest.approx(mean_pinball_loss(test["price"], test["prediction"], alpha=0.8, **given))
    assert found["r2"] == pytest.approx(r2_score(test["price"], test["prediction"], **given))
    baseline = {row["metric"]: row["value"] for row in lake.ledger.rows("ops.metrics", pipeline="prices", model_version=0)}
    assert found["quantileLoss"] < 0.7 * baseline["quantileLoss"]
    assert 0.6 < np.average(test["price"] <= test["prediction"], weights=test["weight"]) < 0.95
    evidence = json.loads(Deployments(lake.ledger, "prices").rows()[-1].evidence)
    assert [gate["gate"] for gate in evidence["gates"]] == [
        "upper(quantileLoss - baseline.quantileLoss) < 0",
        "lower(quantileLoss - champion.quantileLoss) <= 0",
    ]
    # Beside a squared loss, predictions can be held: they do not fall along x. New rows have no weight.
    held = {
        "loss": "squared",
        "monotone": {"x": "increasing"},
        "models": {"hist_gradient_boosting": {"max_iter": 30, "min_samples_leaf": 5}},
    }
    train(make_context(spec(**held), "train", dict(made.outputs), "r2"))
    grid = spark.createDataFrame([(float(x), 2.0) for x in np.linspace(0, 10, 101)], "x double, size double")
    curves = [predict(*load_model(lake, "prices", version), grid).orderBy("x").toPandas()["prediction"] for version in (1, 2)]
    assert (np.diff(curves[0]) < 0).any() and (np.diff(curves[1]) >= -1e-9).all() and curves[1].iloc[-1] > 3 * curves[1].iloc[0]
    importances = {row["slot"]: row["importance"] for row in lake.ledger.rows("ops.importances", pipeline="prices", model_version=1)}
    assert importances["x"] > importances["size"] > 0, "they are read off the model before the stage that brings prices back"


def test_weights_that_are_none_are_counted(prices):
    rows = examples()
    rows.loc[0, "weight"], rows.loc[1:2, "weight"] = None, -1.0
    with pytest.raises(
        ExpectationRefused, match=r"the weight weight is null in 1, below 0 in 2 labelled rows, expected a number from 0 on"
    ):
        dataset(prices(rows))
    rows["weight"] = 0.0
    with pytest.raises(ExpectationRefused, match=r"is 0 in every labelled t[a-z]+ row, so that none counts"):
        dataset(prices(rows))
    declared = spec()
    declared["dataset"]["weight"] = "wieght"
    with pytest.raises(SpecError, match=r"column 'wieght' is not in the dataset; did you mean 'weight'?"):
        dataset(prices(rows, declared))
