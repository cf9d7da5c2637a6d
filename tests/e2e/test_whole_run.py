"""One run over a sample of real flights, checked against pandas and scikit-learn on the same rows."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import auc, log_loss, precision_recall_curve, roc_auc_score
from tests.e2e.mlflow_models import compare_predictions
from tests.e2e.place import ROOT, SPEC

pytestmark = pytest.mark.e2e
PREDICTIONS = "gold.flight_delays_predictions"


def test_every_record_is_accounted_for(whole_run, raw_flights):
    place, told = whole_run
    assert (told["state"], told["exit_code"], told["champion"]) == ("SUCCEEDED", 0, 1)
    nodes = {step["node"]: step for step in told["steps"]}
    for name, node in nodes.items():
        if name.startswith("ingest."):
            assert node["rows_in"] == node["rows_out"] + node["rows_quarantined"], name
    assert nodes["ingest.flights"]["rows_in"] == len(raw_flights) == len(place.table("bronze.flights"))
    files = place.table("ops.files").query("source == 'flights'")
    assert len(files) == 12
    assert files["rows"].sum() == len(raw_flights)
    bronze = place.table("bronze.flights")
    assert bronze["distance"].sum() == raw_flights["distance"].sum()
    assert bronze["arr_delay"].sum() == raw_flights["arr_delay"].sum()


def test_the_dataset_keeps_every_flight(whole_run, raw_flights):
    place, _ = whole_run
    dataset = place.table("gold.flight_delays_dataset")
    assert len(dataset) == len(raw_flights)
    assert dataset["is_late"].isna().sum() == raw_flights["arr_delay"].isna().sum()
    assert dataset["is_late"].dropna().astype(int).sum() == (raw_flights["arr_delay"] > 30).sum()
    assert (dataset["split"] == "test").sum() == (raw_flights["month"] >= 11).sum()
    training = dataset[dataset["split"] == "train"]
    blocks = training.groupby("fold")["scheduled_at"].agg(["min", "max"]).sort_values("min")
    assert (blocks["min"].to_numpy()[1:] > blocks["max"].to_numpy()[:-1]).all(), "folds must be blocks of time"
    assert dataset.loc[dataset["split"] == "test", "fold"].isna().all()


def test_metrics_are_those_of_scikit_learn_on_the_same_predictions(whole_run):
    place, told = whole_run
    key = ["flight_id"]
    dataset = place.table("gold.flight_delays_dataset")
    scored = place.table(PREDICTIONS).merge(dataset, on=key, suffixes=("", "_d"), validate="one_to_one")
    test = scored[(scored["split"] == "test") & scored["is_late"].notna()]
    label, probability = test["is_late"].astype(int), test["probability"]
    metrics = place.table("ops.metrics").query("split == 'test' and slice.isna()")
    ours = metrics[metrics["model_version"] == 1].set_index("metric")["value"]
    baseline = metrics[metrics["model_version"] == 0].set_index("metric")["value"]
    precision, recall, _ = precision_recall_curve(label, probability)
    assert ours["areaUnderROC"] == pytest.approx(roc_auc_score(label, probability), abs=1e-3)
    assert ours["areaUnderPR"] == pytest.approx(auc(recall, precision), abs=2e-3)
    assert ours["logLoss"] == pytest.approx(log_loss(label, probability), abs=1e-6)
    assert ours["accuracy"] == pytest.approx((test["prediction"].astype(int) == label).mean(), abs=1e-9)
    train = dataset[(dataset["split"] == "train") & dataset["is_late"].notna()]["is_late"].astype(int)
    assert baseline["areaUnderROC"] == pytest.approx(0.5)
    assert baseline["areaUnderPR"] == pytest.approx(label.mean(), abs=1e-9)
    assert baseline["logLoss"] == pytest.approx(log_loss(label, np.full(len(label), train.mean())), abs=1e-9)
    assert ours["areaUnderPR"] > baseline["areaUnderPR"]
    assert ours["areaUnderROC"] > 0.6
    assert told["champion"] == 1


def test_every_row_is_scored_labelled_or_not(whole_run, raw_flights):
    place, _ = whole_run
    scored = place.table(PREDICTIONS)
    assert len(scored) == len(raw_flights) == scored["flight_id"].nunique()
    assert scored["score_error"].isna().all()
    assert scored["probability"].between(0, 1).all()
    assert set(scored["model_version"]) == {1}


def test_trials_are_rows_for_each_family_and_fold(whole_run):
    place, _ = whole_run
    trials = place.table("ops.trials")
    assert set(trials["family"]) == {"logistic_regression", "random_forest", "gradient_boosted_trees"}
    assert trials.groupby("trial")["fold"].apply(sorted).map(tuple).nunique() == 1
    assert (trials["state"] == "SUCCEEDED").all()
    assert trials["value"].between(0, 1).all()
    assert {type(json.loads(params)) for params in trials["params"]} == {dict}


def test_drift_is_recorded_for_the_features_alone(whole_run):
    place, _ = whole_run
    drift = place.table("ops.drift").set_index("column_name")["value"]
    assert "distance" in drift.index
    assert not {"flight_id", "is_late", "scheduled_at", "split", "fold"} & set(drift.index)
    dataset = place.table("gold.flight_delays_dataset")
    # A first run: the rows that the model has learned from against all others; an empty bin counts as a share of 1e-4.
    is_learned = (dataset["split"] == "train") & dataset["is_late"].notna()
    rows = pd.crosstab(dataset["carrier"], is_learned)
    expected, actual = ((rows[side] / rows[side].sum()).clip(lower=1e-4) for side in (True, False))
    by_hand = ((actual - expected) * np.log(actual / expected)).sum()
    assert drift["carrier"] == pytest.approx(by_hand, abs=2e-3)


@pytest.mark.long("a run over all nodes, and the scoring of 11,000 rows")
def test_a_second_run_has_nothing_to_do_and_a_forced_scoring_changes_nothing(whole_run):
    place, _ = whole_run
    before = place.version(PREDICTIONS)
    told = place.run()
    assert {step["state"] for step in told["steps"]} == {"SKIPPED"}
    assert place.version(PREDICTIONS) == before
    told = place.run("--only", "score", "--force")
    assert [step["state"] for step in told["steps"]] == ["SUCCEEDED"]
    assert place.version(PREDICTIONS) == before, "scoring the same rows again must not commit"


@pytest.mark.parametrize("is_process", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_sql_reads_every_table_from_here_and_from_a_process_of_its_own(whole_run, raw_flights, is_process):
    place, _ = whole_run
    query = f"""
        SELECT d.carrier, avg(p.probability) AS risk, count(*) AS n, (SELECT collect_set(state) FROM ops.steps_now) AS states
        FROM {PREDICTIONS} p JOIN gold.flight_delays_dataset d USING (flight_id) GROUP BY d.carrier
    """
    run = place.tidemill_process if is_process else place.tidemill
    rows = json.loads(run("sql", query, "--format", "json").stdout)
    assert {row["carrier"]: row["n"] for row in rows} == raw_flights["carrier"].value_counts().to_dict()
    assert {state for row in rows for state in row["states"]} <= {"SUCCEEDED", "SKIPPED"}


def test_queries_of_the_page_on_evaluation_find_rows(whole_run):
    place, _ = whole_run
    for query in re.findall(r"^```sql\n(.*?)^```", (ROOT / "docs" / "evaluation.md").read_text(), re.MULTILINE | re.DOTALL):
        rows = json.loads(place.tidemill("sql", query.replace("model_version = 2", "model_version = 1"), "--format", "json").stdout)
        assert rows, query


def test_status_trials_models_and_deployments_need_no_spark(whole_run):
    place, _ = whole_run
    # Whatever asks for Spark ends here: there is no Java where one is looked for first, and no such master for one found elsewhere.
    without_spark = {"JAVA_HOME": "/nonexistent", "PATH": "/nonexistent", "TIDEMILL_MASTER": "nowhere"}
    commands = [[name, str(SPEC), "--json"] for name in ("status", "models", "deployments", "trials")]
    *ended, refused = place.tidemill_commands(*commands, ["sql", "SELECT 1"], **without_spark)
    assert refused.returncode == 2 and "Spark" in refused.stderr, "this environment has to keep Spark from starting"
    assert [each.returncode for each in ended] == [0] * 4
    status, models, deployments, trials = (json.loads(each.stdout) for each in ended)
    assert status["state"] == "SUCCEEDED"
    assert [(row["model_version"], row["state"]) for row in models] == [(0, "BASELINE"), (1, "CHAMPION")]
    assert [row["to_state"] for row in deployments] == ["CANDIDATE", "CHALLENGER", "CHAMPION"]
    assert len(trials) == 3


@pytest.mark.long("loads a model and scores with it")
def test_rows_that_have_just_arrived_are_scored_in_place(whole_run, tmp_path):
    place, _ = whole_run
    dataset = place.table("gold.flight_delays_dataset").head(20)
    arrived = tmp_path / "new.csv"
    dataset.drop(columns=["is_late", "split", "fold"]).to_csv(arrived, index=False)
    rows = json.loads(place.tidemill("score", str(SPEC), "--env", "sample", "--input", str(arrived), "--at", "dataset", "--json").stdout)
    stored = place.table(PREDICTIONS).set_index("flight_id")["probability"]
    assert len(rows) == 20
    for row in rows:
        assert row["probability"] == pytest.approx(stored[row["flight_id"]], abs=1e-9)
        assert row["model_version"] == 1


@pytest.mark.long("loads a model, and explains what it predicts")
def test_new_rows_are_explained(whole_run, tmp_path):
    place, _ = whole_run
    arrived, explained = tmp_path / "new.csv", tmp_path / "explained.json"
    place.table("gold.flight_delays_dataset").head(3).drop(columns=["is_late", "split", "fold"]).to_csv(arrived, index=False)
    place.tidemill(
        "score", str(SPEC), "--env", "sample", "--input", str(arrived), "--at", "dataset", "--explain", "--output", str(explained)
    )
    rows = json.loads(explained.read_text())
    assert len(rows) == 3
    for row in rows:
        struct = row["contributions"]
        total = struct["base"] + sum(struct["columns"].values())
        p = row["probability"]
        assert total == pytest.approx({"log-odds": np.log(p / (1 - p)), "probability": p}[struct["scale"]], abs=1e-6)
        assert {"carrier", "distance", "temp"} < set(struct["columns"])
    assert place.table("ops.contributions")["row_key"].nunique() == 100


@pytest.mark.long("loads a model twice and scores with both")
def test_mlflow_loads_the_champion_which_predicts_what_the_lake_holds(whole_run):
    place, _ = whole_run
    compare_predictions(place, f"sqlite:///{place.lake}/mlflow.db")


def test_a_wrong_spec_ends_with_2_and_writes_nothing(whole_run, tmp_path):
    place, _ = whole_run
    wrong = tmp_path / "pipeline.yml"
    wrong.write_text(SPEC.read_text().replace("label:", "lable:"))
    told = place.tidemill("run", str(wrong), exit_code=2).stderr
    assert "did you mean 'label'" in told
    assert "Traceback" not in told
