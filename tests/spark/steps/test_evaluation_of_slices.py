"""The step evaluate with slices, SQL metrics and fairness, against pandas and scikit-learn on the rows of the predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk

from tidemill.evaluation.measurement import ALL_ROWS
from tidemill.model_registry import load_model
from tidemill.model_registry.predict import predict
from tidemill.steps.evaluate.labels import LabelEvaluator
from tidemill.steps.evaluate.step import evaluate

EVALUATION = {
    "slices": ["carrier", ["carrier", "fold"], {"x": [-0.5, 0.5]}],
    "metrics": {
        "profit": "sum(CASE WHEN prediction AND label THEN 5 WHEN prediction THEN -1 ELSE 0 END)",
        "mean_x": "avg(x)",
        "greatest": "max(probability)",
    },
    "fairness": {"by": ["carrier"]},
    "bootstrap": 50,
    "gates": ["profit >= -100", "min(slices.carrier.accuracy) >= 0"],
    "min_slice_rows": 5,
    "importance": {"rows": 0, "contributions": 0},
}


@pytest.fixture
def evaluated(trained) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of ops.metrics about the candidate, and the labelled test rows with their predictions."""
    trained.spec["evaluation"] = EVALUATION
    version = trained.train("good")
    table = "gold.late_dataset"
    rows = trained.lake.read(trained.spark, table).where("split = 'test' AND is_late IS NOT NULL")
    scored = predict(*load_model(trained.lake, "late", version), rows).toPandas()
    evaluate(trained.context("evaluate", version))
    metrics = pd.DataFrame(trained.lake.ledger.rows("ops.metrics", pipeline="late", model_version=version))
    return metrics, scored


@pytest.mark.long("evaluates a model with slices, SQL metrics and fairness")
def test_slices_sql_metrics_and_fairness_are_those_of_the_rows(trained, evaluated):
    metrics, rows = evaluated
    value = metrics.assign(slice=metrics.slice.fillna(ALL_ROWS)).set_index(["slice", "metric"]).value
    y, yhat = rows.is_late.astype(bool), rows.prediction.astype(bool)
    assert value[ALL_ROWS, "profit"] == np.where(yhat & y, 5, np.where(yhat, -1, 0)).sum()
    assert value[ALL_ROWS, "mean_x"] == pytest.approx(rows.x.mean())
    assert value[ALL_ROWS, "greatest"] == pytest.approx(rows.probability.max())
    for carrier, part in rows.groupby("carrier"):
        name = f"carrier={carrier}"
        assert value[name, "accuracy"] == pytest.approx((part.is_late.astype(bool) == part.prediction.astype(bool)).mean())
        assert value[name, "brier"] == pytest.approx(sk.brier_score_loss(part.is_late.astype(bool), part.probability))
        assert value[name, "greatest"] == pytest.approx(part.probability.max())
    middle = rows[(rows.x >= -0.5) & (rows.x < 0.5)]
    assert value["x=[-0.5, 0.5)", "mean_x"] == pytest.approx(middle.x.mean())
    rates = rows.groupby("carrier").prediction.apply(lambda each: each.astype(bool).mean())
    assert value["carrier", "selectionRateDifference"] == pytest.approx(np.ptp(rates))
    shown = metrics.set_index([metrics.slice.fillna(ALL_ROWS), "metric"])
    assert shown.loc[(ALL_ROWS, "profit"), ["lower", "upper"]].notna().all()
    assert shown.loc[(ALL_ROWS, "greatest"), ["lower", "upper"]].isna().all()
    sizes = metrics[metrics.slice.notna() & (metrics.metric == "accuracy")].set_index("slice")
    assert sizes.is_small.astype(bool).equals(sizes.rows < EVALUATION["min_slice_rows"])
    assert sizes.rows["carrier=AA, fold=null"] == (rows.carrier == "AA").sum()
    confusion = pd.DataFrame(trained.lake.ledger.rows("ops.confusion", pipeline="late")).set_index(["label", "prediction"]).rows
    expected = sk.confusion_matrix(y, yhat)
    assert [confusion[a, b] for a in ("false", "true") for b in ("false", "true")] == expected.ravel().tolist()
    curves = {row["curve"] for row in trained.lake.ledger.rows("ops.curves", pipeline="late")}
    assert curves >= {"roc", "pr", "calibration", "gain", "lift", "precision", "recall", "share_flagged"}


def test_rows_that_the_champion_was_trained_on_are_left_out(trained):
    champion = trained.train("good")
    _, manifest = load_model(trained.lake, "late", champion)
    context = trained.context("evaluate", champion)
    old = trained.lake.read(trained.spark, "gold.late_dataset")
    rows = pd.DataFrame([row.asDict() for row in old.collect()])
    moved = old.withColumn("split", (old.id % 2 == 0).cast("int").cast("string")).replace({"0": "train", "1": "test"}, subset=["split"])
    moved.write.format("delta").mode("overwrite").save(trained.lake.path("gold.late_dataset"))
    new = trained.lake.version("gold.late_dataset")
    inputs = {**context.inputs, "gold.late_dataset": new}
    evaluator = LabelEvaluator(
        type(context)(**{**context.__dict__, "inputs": inputs}), trained.lake.read(trained.spark, "gold.late_dataset", new), ()
    )
    fresh = evaluator.without_training_rows(manifest)
    is_kept = (rows.id % 2 == 0) & ~(rows.split == "train") & rows.is_late.notna()
    assert fresh.count_rows(manifest) == is_kept.sum() > 0
    assert evaluator.count_rows(manifest) == ((rows.id % 2 == 0) & rows.is_late.notna()).sum()
