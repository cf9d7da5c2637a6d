"""train: what it registers, what it records, and what it refuses."""

import dataclasses
import getpass
import json
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from tests.spark.tables import write_table

from tidemill.errors import SpecError, StepError
from tidemill.lake.ops import DeploymentRow
from tidemill.model_registry import Deployments, load_model
from tidemill.model_registry.predict import predict
from tidemill.steps.train.step import train


def spec(**training):
    return {
        "pipeline": "late",
        "sources": {"raw": {"format": "csv", "path": "raw.csv"}},
        "dataset": {"from": "silver.rows", "key": ["id"], "label": "outcome", "positive": "late", "exclude": ["arrived"]},
        "features": {"numeric": {"columns": ["x"]}, "categorical": {"columns": ["carrier"]}},
        "training": {
            "task": "binary",
            "metric": "areaUnderROC",
            "folds": 2,
            "tuner": {"strategy": "grid"},
            "models": {"logistic_regression": {"regParam": [0.01, 10.0], "maxIter": 10}},
            **training,
        },
    }


def examples():
    """120 rows: 80 train in two folds, one label in ten unknown; the positive class is the lesser of the two names."""
    rng = np.random.default_rng(2)
    n = 120
    x = rng.normal(size=n)
    late = np.where(x + 0.5 * rng.normal(size=n) > 0, "late", "punctual").astype(object)
    late[np.arange(n) % 10 == 9] = None
    train = np.arange(n) < 80
    return pd.DataFrame(
        {
            "id": np.arange(n),
            "x": x,
            "carrier": np.where(np.arange(n) % 3 == 0, "AA", "UA"),
            "outcome": late,
            "arrived": x,
            "split": np.where(train, "train", "test"),
            "fold": pd.array(np.where(train, np.arange(n) % 2, pd.NA), dtype="Int32"),
        }
    )


SCHEMA = "id INT, x DOUBLE, carrier STRING, outcome STRING, arrived DOUBLE, split STRING, fold INT"


@pytest.fixture
def context(spark, lake, make_context):
    """Make the context of train over the rows given, or over the usual ones."""

    def make(declared=None, rows=None, run_id="r1"):
        frame = examples() if rows is None else rows
        records = [tuple(None if pd.isna(value) else value for value in row) for row in frame.astype(object).to_numpy().tolist()]
        inputs = {"silver.rows": 4, "silver.weather": 2}
        version = write_table(lake, spark.createDataFrame(records, SCHEMA), "gold.late_dataset", {"inputs": inputs})
        return make_context(declared or spec(), "train", {"gold.late_dataset": version}, run_id)

    return make


@pytest.mark.long("a search of two trials over two folds, by MLlib, compared with a loop by hand")
def test_the_best_parameters_of_all_training_rows_become_a_candidate(spark, lake, context):
    first = context()
    result = train(first)
    rows = examples()
    labelled = rows[(rows["split"] == "train") & rows["outcome"].notna()]
    assert (dict(result.outputs), result.rows_in, result.rows_out) == ({"models.late": 1}, len(labelled), len(labelled))

    trials = lake.ledger.rows("ops.trials", pipeline="late", run_id="r1")
    assert sorted((row["trial"], row["fold"], row["state"]) for row in trials) == [
        (trial, fold, "SUCCEEDED") for trial in (0, 1) for fold in (0, 1)
    ]
    assert {row["params"] for row in trials} == {'{"maxIter": 10, "regParam": 0.01}', '{"maxIter": 10, "regParam": 10.0}'}

    model, manifest = load_model(lake, "late", 1)
    assert (manifest.classes, manifest.positive, manifest.label_type) == (["punctual", "late"], "late", "string")
    assert manifest.feature_columns == {"x": "double", "carrier": "string"}
    assert manifest.dataset_version == first.inputs["gold.late_dataset"]
    assert manifest.dataset_inputs == {"silver.rows": 4, "silver.weather": 2}
    means = {trial: np.mean([row["value"] for row in trials if row["trial"] == trial]) for trial in (0, 1)}
    assert manifest.cv_value == pytest.approx(max(means.values()))

    scored = predict(model, manifest, lake.read(spark, "gold.late_dataset").where("split = 'test'")).toPandas()
    known = scored[scored["outcome"].notna()]
    assert roc_auc_score(known["outcome"] == "late", known["probability"]) > 0.85
    assert set(scored["prediction"]) == {"late", "punctual"}

    deployments = Deployments(lake.ledger, "late")
    assert deployments.states() == {1: "CANDIDATE"}
    evidence = json.loads(deployments.rows()[-1].evidence)
    assert evidence == {
        "metric": "areaUnderROC", "cv_value": manifest.cv_value, "family": manifest.family, "params": manifest.params, "trials": 2,
        "library": manifest.library, "author": getpass.getuser(),
    }  # fmt: skip
    assert manifest.library.split()[0] == "tidemill", "so few slots are fitted by its own steps"
    assert {(row["engine"], row["library"]) for row in trials} == {("tasks", manifest.library)}


@pytest.mark.long("boosts in each fold and over all rows")
def test_boosting_that_stops_early_gets_the_rounds_that_its_folds_found_best(lake, context):
    models = {"xgboost": {"n_estimators": 150, "learning_rate": 0.3, "max_depth": [2, 4], "early_stopping_rounds": 5}}
    result = train(context(spec(models=models)))
    trials = lake.ledger.rows("ops.trials", pipeline="late", run_id="r1")
    model, manifest = load_model(lake, "late", 1)
    chosen = [row for row in trials if json.loads(row["params"])["max_depth"] == manifest.params["max_depth"]]
    rounds = [row["rounds"] for row in sorted(chosen, key=lambda row: row["fold"])]
    assert len(rounds) == 2 and all(1 <= count < 145 for count in rounds)
    assert all(json.loads(row["params"])["early_stopping_rounds"] == 5 for row in trials)
    expected = round(sum(rounds) / 2)
    assert manifest.params == {"n_estimators": expected, "learning_rate": 0.3, "max_depth": manifest.params["max_depth"]}
    assert model.stages[-1].scorer().model.num_boosted_rounds() == expected
    assert any(f"xgboost: {expected} rounds, the mean of {rounds[0]}, {rounds[1]}" in note for note in result.notes)
    with pytest.raises(SpecError, match="fits every round"):
        train(context(spec(models=models, engine="spark")))


@pytest.mark.long("trains on two layouts of folds")
def test_expanding_folds_learn_from_the_past_alone_and_rows_of_a_gap_from_none(lake, context, monkeypatch):
    rows = examples()
    rows["fold"] = pd.array(np.where(rows["id"] < 80, rows["id"] // 20, pd.NA), dtype="Int32")
    rows.loc[rows["id"].between(36, 39), "fold"] = pd.NA
    rows.loc[rows["id"] < 8, "split"] = "gap"
    rows.loc[rows["id"] < 8, "fold"] = pd.NA
    declared = spec(models={"logistic_regression": {"regParam": 0.1, "maxIter": 3}})
    declared["dataset"] |= {"event_time": "arrived", "split": {"by": "time", "folds_by": "expanding", "gap": 0.5}}
    seen = []
    module = sys.modules["tidemill.training.folds"]
    fit = module.feature_pipeline

    def watched(plan, encodings, memo):
        made = fit(plan, encodings, memo)

        class Watched:
            def fit(self, frame):
                counts = frame.groupBy("fold").count().collect()
                seen.append({row["fold"]: row["count"] for row in counts})
                return made.fit(frame)

        return Watched()

    monkeypatch.setattr(module, "feature_pipeline", watched)
    result = train(context(declared, rows))
    trials = lake.ledger.rows("ops.trials", pipeline="late")
    assert sorted(row["fold"] for row in trials) == [1, 2, 3]
    # One label in ten is unknown, and the first eight rows and four more are not in a fold.
    assert sorted(seen, key=len) == [{0: 10}, {0: 10, 1: 15}, {0: 10, 1: 15, 2: 18}]
    assert result.rows_in == 80 - 8 - 8


@pytest.mark.long("trains twice")
def test_a_killed_train_leaves_no_version_and_a_repeat_makes_one(lake, context, monkeypatch):
    declared = spec(models={"logistic_regression": {"regParam": 0.1, "maxIter": 2}})
    first = context(declared)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Deployments, "move", killed)
        with pytest.raises(KeyboardInterrupt):
            train(first)
    deployments = Deployments(lake.ledger, "late")
    assert deployments.states() == {}
    assert dict(train(first).outputs) == {"models.late": 1}
    # Killed after its last commit, before anybody heard of it: the same run has made its version already.
    assert dict(train(first).outputs) == {"models.late": 1}
    assert len(deployments.rows()) == 1
    assert len(lake.ledger.rows("ops.trials")) == 2


@pytest.mark.one_of("kill")
@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_with_what_it_had_finished(lake, context, monkeypatch):
    first = context()

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tidemill.steps.train.job.refit", killed)
        with pytest.raises(KeyboardInterrupt):
            train(first)
    done = lake.ledger.rows("ops.trials", run_id="r1")
    assert len(done) == 4

    def again(run_id, **training):
        result = train(make(run_id, **training))
        rows = lake.ledger.rows("ops.trials", run_id=run_id)
        made = next(note for note in result.notes if "were needed" in note).partition(": ")[2]
        return made, {(row["params"], row["fold"]): row["value"] for row in rows}

    def make(run_id, **training):
        return dataclasses.replace(context(spec(**training), run_id=run_id), inputs=first.inputs)

    values = {(row["params"], row["fold"]): row["value"] for row in done}
    # One parameter set more: it alone is fitted.
    models = {"logistic_regression": {"regParam": [0.01, 1.0, 10.0], "maxIter": 10}}
    made, found = again("r2", models=models)
    assert made == "2 of features and 2 of models were made"
    assert {key: found[key] for key in values} == values and len(found) == 6
    # That run came to a model, and is over: the next one asks for itself, and another metric is another search.
    monkeypatch.setattr(Deployments, "rows", lambda self: [DeploymentRow(run_id=name, to_state="CANDIDATE") for name in ("r1", "r2")])
    monkeypatch.setattr(Deployments, "states", lambda self: {1: "CANDIDATE"})
    assert again("r3")[0] == "2 of features and 2 of models were made"  # two penalties on one path


def test_what_cannot_be_learned_from_is_said_in_one_sentence(context):
    rows = examples()
    with pytest.raises(StepError, match=r"hold 0 different values of outcome \(none\), expected exactly 2"):
        train(context(rows=rows.assign(outcome=None)))
    with pytest.raises(StepError, match=r"hold 1 different values of outcome \('late'\)"):
        train(context(rows=rows.assign(outcome="late")))
    few = rows[rows["fold"].fillna(9) == 0]
    with pytest.raises(StepError, match=r"found 40 labelled training rows in 1 fold\(s\), expected rows in at least 2 folds"):
        train(context(rows=few.assign(outcome=few["outcome"].fillna("late"))))
    lopsided = rows.assign(outcome=np.where(rows["fold"].fillna(0) == 0, rows["outcome"], "late"))
    with pytest.raises(StepError, match="without fold 0, no training row has outcome = punctual"):
        train(context(rows=lopsided))
    with pytest.raises(SpecError, match=r"pipeline.yml: training.models.logistic_regression.regparam: .*did you mean 'regParam'\?"):
        train(context(spec(models={"logistic_regression": {"regparam": 0.1}})))
