"""The task anomaly through all steps: planted outliers, judged by a label that is never learned from, and without one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score

from tidemill.model_registry import load_model
from tidemill.model_registry.predict import predict
from tidemill.steps.evaluate.step import evaluate
from tidemill.steps.train.step import train

pytestmark = pytest.mark.long("its tests share one run over all steps; the first pays for it")

SPEC = """\
pipeline: payments
lake: {folder}/lake
sources: {{payments: {{format: csv, path: "{folder}/rows.csv", options: {{header: true}}}}}}
tables: {{payments: {{sql: SELECT * FROM bronze.payments, key: [id]}}}}
dataset: {{from: silver.payments, key: [id], label: is_fraud, split: {{by: hash, test: 0.3, stratified: true}}}}
training:
  task: anomaly
  folds: 2
  contamination: 0.03
  tuner: {{strategy: grid}}
  models: {{isolation_forest: {{n_estimators: 50, max_samples: [64, 256]}}, gaussian_mixture: {{k: 2}}}}
"""
ROWS, PLANTED = 1000, 30


def payments() -> pd.DataFrame:
    """Two dense clouds, and thirty rows strewn around them; nobody has looked at every twentieth row."""
    rng = np.random.default_rng(9)
    far = np.arange(ROWS) < PLANTED
    x = np.where(np.arange(ROWS) % 2, 0.0, 8.0) + rng.normal(size=ROWS)
    y = np.where(np.arange(ROWS) % 2, 0.0, 8.0) + rng.normal(size=ROWS)
    x, y = np.where(far, rng.uniform(-12, 20, ROWS), x), np.where(far, rng.uniform(-12, 20, ROWS), y)
    found = pd.DataFrame({"id": rng.permutation(ROWS), "amount": x, "age": y, "shop": rng.choice(["a", "b"], ROWS), "is_fraud": far})
    found["is_fraud"] = found["is_fraud"].astype(object).where(np.arange(ROWS) % 20 != 19, None)
    return found


@pytest.fixture(scope="module")
def finished(whole_pipeline, tmp_path_factory):
    """One run over all steps, with a label."""
    return whole_pipeline(tmp_path_factory.mktemp("anomalies"), SPEC, payments())


def test_planted_rows_are_the_strangest_and_as_many_are_called_as_the_spec_says(finished, spark):
    outcome, lake = finished.outcome, finished.lake
    assert (outcome.exit_code, outcome.champion) == (0, 1), outcome
    predictions = lake.read(spark, "gold.payments_predictions")
    types = dict(predictions.dtypes)
    assert (types["prediction"], types["probability"]) == ("boolean", "double")  # the label's own type
    told = predictions.toPandas().merge(lake.read(spark, "gold.payments_dataset").toPandas(), on="id")
    assert len(told) == ROWS and told["score_error"].isna().all()
    assert told["probability"].between(0, 1).all() and (told["prediction"] == (told["probability"] >= 0.97)).all()
    train_rows = told[told["split"] == "train"]
    assert train_rows["prediction"].sum() == int(0.03 * len(train_rows))
    # The score is the share of the training rows that are less strange.
    shares = train_rows["probability"].rank(method="min").sub(1) / len(train_rows)
    assert np.allclose(train_rows["probability"], shares)
    judged = told[told["is_fraud"].notna()]
    assert roc_auc_score(judged["is_fraud"].astype(bool), judged["probability"]) > 0.9


def test_the_label_judges_test_rows_as_scikit_learn_does(finished, spark):
    lake = finished.lake
    told = lake.read(spark, "gold.payments_predictions").toPandas().merge(lake.read(spark, "gold.payments_dataset").toPandas(), on="id")
    test = told[(told["split"] == "test") & told["is_fraud"].notna()]
    label = test["is_fraud"].astype(bool)
    values = {(row["model_version"], row["metric"]): row["value"] for row in lake.ledger.rows("ops.metrics", pipeline="payments")}
    precision, recall, _ = precision_recall_curve(label, test["probability"])
    assert values[1, "areaUnderROC"] == pytest.approx(roc_auc_score(label, test["probability"]), abs=1e-3)
    assert values[1, "areaUnderPR"] == pytest.approx(auc(recall, precision), abs=5e-3)
    assert (values[0, "areaUnderPR"], values[0, "areaUnderROC"]) == (pytest.approx(label.mean()), 0.5)
    assert 0 < values[1, "massVolume"] < 0.5 and values[0, "massVolume"] == 1.0
    rows = lake.ledger.rows("ops.trials", pipeline="payments")
    assert {(row["state"], row["metric"], row["engine"]) for row in rows} == {("SUCCEEDED", "areaUnderPR", "tasks")}
    assert {row["family"] for row in rows} == {"isolation_forest", "gaussian_mixture"}


def test_no_label_is_learned_from_and_none_is_needed(finished, spark, make_context, lake, tmp_path):
    """Without the label the same rows give the same model, chosen by how tightly it closes around the rows."""
    dataset = finished.lake.read(spark, "gold.payments_dataset")
    version = lake.replace(dataset.drop("is_fraud"), "gold.payments_dataset", meta={})
    declared = finished.spec.pipeline.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)
    declared["dataset"] = {"from": "silver.payments", "key": ["id"]}
    inputs = {"gold.payments_dataset": version}
    result = train(make_context(declared, "train", inputs))
    assert result.rows_in == dataset.where("split = 'train'").count()
    rows = lake.ledger.rows("ops.trials", pipeline="payments")
    assert {(row["state"], row["metric"]) for row in rows} == {("SUCCEEDED", "massVolume")}
    means = pd.DataFrame(rows).groupby(["family", "params"])["value"].mean()
    _, manifest = load_model(lake, "payments", 1)
    assert manifest.cv_value == pytest.approx(means.min()) and manifest.metric == "massVolume"
    evaluate(make_context(declared, "evaluate", {**inputs, "models.payments": 1}))
    values = {(row["model_version"], row["metric"]): row["value"] for row in lake.ledger.rows("ops.metrics", pipeline="payments")}
    assert set(values) == {(1, "massVolume"), (0, "massVolume")} and values[1, "massVolume"] < 0.5
    model, manifest = load_model(lake, "payments", 1)
    found = predict(model, manifest, dataset).toPandas()
    assert found["prediction"].dtype == bool
    with_label, told = load_model(finished.lake, "payments", 1)
    if (manifest.family, manifest.params) == (told.family, told.params):
        assert found["probability"].equals(predict(with_label, told, dataset).toPandas()["probability"])
    judged = found[found["is_fraud"].notna()]
    assert roc_auc_score(judged["is_fraud"].astype(bool), judged["probability"]) > 0.9


def test_stranger_rows_than_any_seen_stay_apart(finished, score_input, tmp_path):
    file = tmp_path / "new.csv"
    file.write_text("id,amount,age,shop\n2000,0.1,0.2,a\n2001,60,-50,b\n")
    near, far = score_input(finished.spec, finished.lake, file).sort_values("id").itertuples()
    assert (near.prediction, far.prediction) == (False, True) and near.probability < 0.9 and 0.99 < far.probability < 1
