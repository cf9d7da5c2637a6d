"""train with an ensemble: what it registers where it is better, what it records, and what it leaves where it is not."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.ml import PipelineModel
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

from tidemill.model_registry import Deployments, load_model
from tidemill.model_registry.predict import predict
from tidemill.steps.train.step import train
from tidemill.workflow.outcome import build_leaderboard, sort_key

LINES, BANDS = [f"x{place}" for place in range(8)], ["a", "b"]
SCHEMA = f"id INT, seen_at INT, {', '.join(f'{name} DOUBLE' for name in (*LINES, *BANDS))}, late INT, split STRING, fold INT"
LINEAR = {"regParam": 0.001, "aggregationDepth": 2}  # which only MLlib has


def spec(models, dataset=(), **training):
    return {
        "pipeline": "late",
        "sources": {"raw": {"format": "csv", "path": "raw.csv"}},
        "dataset": {"from": "silver.rows", "key": ["id"], "label": "late", "exclude": ["seen_at"], **dict(dataset)},
        "features": {"numeric": {"columns": [*LINES, *BANDS]}},
        "training": {"task": "binary", "metric": "logLoss", "tuner": {"strategy": "grid"}, "models": models, **training},
    }


def examples(line=0.8, band=1.6, shift=0.0, n=1500, folds=2):
    """Two rows in three to learn from: many columns count as straight lines do, and two by how far they are from 0, which no line sees."""
    rng = np.random.default_rng(8)
    lines, bands = rng.normal(size=(n, len(LINES))), rng.normal(size=(n, len(BANDS)))
    margin = shift + line * lines.sum(axis=1) + band * np.where(np.abs(bands) < 0.67, 1, -1).sum(axis=1)
    is_train = np.arange(n) < n * 2 // 3
    return pd.DataFrame(
        {
            **{"id": np.arange(n), "seen_at": np.arange(n)},
            **dict(zip([*LINES, *BANDS], np.hstack([lines, bands]).T, strict=True)),
            "late": (rng.random(n) < 1 / (1 + np.exp(-margin))).astype(int),
            "split": np.where(is_train, "train", "test"),
            "fold": pd.array(np.where(is_train, np.arange(n) % folds, pd.NA), dtype="Int32"),
        }
    )


@pytest.fixture
def trained(spark, lake, make_context):
    """Train over rows; return the result, and the test rows."""

    def train_on(declared, rows):
        records = [tuple(None if pd.isna(value) else value for value in row) for row in rows.astype(object).to_numpy().tolist()]
        version = lake.replace(spark.createDataFrame(records, SCHEMA), "gold.late_dataset", meta={})
        result = train(make_context(declared, "train", {"gold.late_dataset": version}, "r1"))
        return result, lake.read(spark, "gold.late_dataset").where("split = 'test'")

    return train_on


@pytest.mark.long("trains two families and their blend")
def test_a_blend_of_what_each_family_sees_beats_both_on_rows_held_out(lake, trained):
    models = {"logistic_regression": LINEAR, "hist_gradient_boosting": {"max_iter": [5, 25], "max_leaf_nodes": 6}}
    result, held_out = trained(spec(models, ensemble="blend"), examples())
    model, manifest = load_model(lake, "late", 1)
    members = manifest.params["members"]
    assert manifest.family == "blend" and set(members) == set(models)
    assert members["hist_gradient_boosting"]["params"]["max_iter"] == 25
    assert sum(one["weight"] for one in members.values()) == pytest.approx(1.0, abs=1e-5)
    assert [part.split()[0] for part in manifest.library.split(", ")].count("pyspark") == 1 and "scikit-learn" in manifest.library
    assert manifest.slots == [*LINES, *BANDS] and lake.ledger.rows("ops.importances") == []
    assert any("the candidate is the blend of" in note for note in result.notes)

    board = sorted(build_leaderboard(lake.ledger, "late"), key=sort_key)
    assert (board[0]["family"], board[0]["trial"], board[0]["folds"], len(board)) == ("blend", 3, 2, 4)
    assert board[0]["params"] == manifest.params and board[0]["value"] == pytest.approx(manifest.cv_value)
    assert json.loads(Deployments(lake.ledger, "late").rows()[-1].evidence)["family"] == "blend"

    aside = PipelineModel(model.stages[:-1]).transform(held_out).toPandas()
    scored = predict(model, manifest, held_out).toPandas()
    both = np.stack([np.stack(aside.sort_values("id")[f"_tidemill_member_{place}"])[:, 1] for place in (0, 1)])
    scored = scored.sort_values("id")
    # The places are those of the members, the best of them first.
    assert np.allclose(scored["probability"], [one["weight"] for one in members.values()] @ both, atol=1e-5)
    alone = [brier_score_loss(scored["late"], p) for p in both]
    assert brier_score_loss(scored["late"], scored["probability"]) < min(alone) - 0.002
    assert not list(lake_scratch(lake)), "the predictions are gone"


def lake_scratch(lake):
    return Path(lake.root, ".scratch").glob("held-*")


@pytest.mark.slow
def test_a_stack_keeps_balance_calibration_and_threshold(lake, trained):
    models = {"logistic_regression": {"regParam": 0.001}, "hist_gradient_boosting": {"max_iter": 25, "max_leaf_nodes": 6}}
    declared = spec(models, ensemble="stack", balance="weights", calibrate="sigmoid", threshold={"maximise": "f1"})
    _, held_out = trained(declared, examples(shift=-3.5))
    model, manifest = load_model(lake, "late", 1)
    assert manifest.family == "stack"
    scored = predict(model, manifest, held_out).toPandas()
    assert scored["score_error"].isna().all()
    # Probabilities are those of the classes as they are, and the threshold is the best of them, about.
    assert scored["probability"].mean() == pytest.approx(scored["late"].mean(), abs=0.03)
    assert 0.02 < scored["late"].mean() < 0.25
    assert roc_auc_score(scored["late"], scored["probability"]) > 0.88
    best = max(f1_score(scored["late"], scored["probability"] >= cut) for cut in np.linspace(0.05, 0.95, 91))
    assert f1_score(scored["late"], scored["prediction"]) > best - 0.05
    assert {row["params"] for row in lake.ledger.rows("ops.trials", family="stack")} == {json.dumps(manifest.params, sort_keys=True)}


@pytest.mark.long("trains two families and their stack")
def test_where_it_is_no_better_the_best_trial_is_the_candidate(lake, trained):
    rows = examples(band=0.0, n=240, folds=3)
    dataset = {"event_time": "seen_at", "split": {"by": "time", "folds_by": "expanding"}}
    models = {"logistic_regression": {"regParam": 0.01}, "random_forest": {"numTrees": 2, "maxDepth": 8}}
    result, _ = trained(spec(models, dataset, ensemble="stack"), rows)
    found = lake.ledger.rows("ops.trials", pipeline="late")
    assert {(row["family"], row["fold"], row["state"]) for row in found if row["trial"] == 2} == {
        ("stack", fold, "SUCCEEDED") for fold in (1, 2)
    }
    assert load_model(lake, "late", 1)[1].family == "logistic_regression"
    note = next(note for note in result.notes if note.startswith("ensemble:"))
    assert "the stack is no better (logLoss" in note and note.endswith("the candidate is logistic_regression, trial 0")
