"""`features: auto` through the steps: chosen, stored, pasted with the same result, and unseen values counted where it scores."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from tidemill.cli.app import main
from tidemill.model_registry import Deployments, load_model
from tidemill.steps.score.step import score
from tidemill.steps.train.step import train

ROWS = 500


def _spec(root, features):
    return {
        "pipeline": "late",
        "lake": root,
        "sources": {"raw": {"format": "csv", "path": "raw.csv"}},
        "tables": {name: {"sql": "SELECT * FROM bronze.raw", "key": ["id"]} for name in ("rows", "later")},
        "dataset": {"from": "silver.rows", "key": ["id"], "label": "late"},
        "features": features,
        "training": {
            "task": "binary", "folds": 2, "metric": "areaUnderROC", "tuner": {"strategy": "grid"},
            "models": {"logistic_regression": {"maxIter": 10, "regParam": 0.001}},
        },
        "scoring": {"from": "silver.later"},
    }  # fmt: skip


def _data():
    rng = np.random.default_rng(8)
    effect = rng.normal(0, 2.5, 130)
    tail = rng.integers(0, 130, ROWS)
    x = rng.normal(size=ROWS)
    data = pd.DataFrame({"id": np.arange(ROWS), "x": x, "tail": [f"N{n}" for n in tail], "origin": rng.choice(["EWR", "JFK"], ROWS)})
    data["order_id"] = rng.permutation(ROWS) + 7
    data["is_new"] = rng.random(ROWS) < 0.5
    data["late"] = rng.random(ROWS) < 1 / (1 + np.exp(-x - effect[tail]))
    data["split"] = np.where(data["id"] % 5 == 0, "test", "train")
    return data


@pytest.fixture
def context(spark, lake, make_context):
    data = _data()
    frame = spark.createDataFrame(data).selectExpr(
        "id", "IF(id % 11 = 2, NULL, x) AS x", "tail", "origin", "CAST(order_id AS INT) AS order_id", "is_new", "late", "split",
        "CASE WHEN split = 'train' THEN CAST(id % 2 AS INT) END AS fold",
    )  # fmt: skip
    version = lake.replace(frame, "gold.late_dataset", meta={})
    later = frame.selectExpr(
        "id", "x", "IF(id < 30, IF(id < 20, 'N999', 'N998'), tail) AS tail", "IF(id < 3, 'LGA', origin) AS origin", "is_new"
    )
    later_version = lake.replace(later.where("id % 5 != 0 OR id < 30"), "silver.later", meta={})

    def make(node, features, run_id, **inputs):
        pinned = {"gold.late_dataset": version, "silver.later": later_version, **inputs}
        return make_context(_spec(lake.root, features), node, pinned, run_id)

    return make


@pytest.mark.long("trains twice, with automatic features and with the block that was stored")
def test_auto_is_stored_pasted_and_scored(context, lake, tmp_path, capsys):
    result = train(context("train", "auto", "r1"))
    model, manifest = load_model(lake, "late", 1)
    assert list(manifest.slots) == ["x", "is_new", "x.missing", "tail.target", "origin=EWR", "origin=JFK", "origin=(other)"]
    rows = sorted(lake.ledger.rows("ops.features", run_id="r1"), key=lambda row: row["position"])
    assert {row["column_name"]: (row["feature_group"], row["chosen"]) for row in rows} == {
        "x": ("numeric", "numbers, and whether they are missing"),
        "tail": ("categorical", "categories, the label's mean of each value"),
        "origin": ("categorical", "categories, a slot a value"),
        "order_id": (None, "left out"),
        "is_new": ("boolean", "truths, 0 and 1"),
    }
    assert json.loads(rows[0]["figures"])["rows"] == 400
    assert [row["column_name"] for row in manifest.chosen] == [row["column_name"] for row in rows]
    assert any(note.startswith("features: tail as categories, the label's mean of each value: about 1") for note in result.notes)
    importances = {row["slot"]: row["column_name"] for row in lake.ledger.rows("ops.importances", run_id="r1")}
    assert importances["tail.target"] == "tail"

    (tmp_path / "pipeline.yml").write_text(json.dumps(_spec(lake.root, "auto")))
    assert main(["features", str(tmp_path / "pipeline.yml"), "--json"]) == 0
    assert [row["column_name"] for row in json.loads(capsys.readouterr().out)] == [row["column_name"] for row in rows]
    assert main(["features", str(tmp_path / "pipeline.yml")]) == 0
    printed = capsys.readouterr().out
    assert "# order_id: left out; it is an id: about" in printed
    train(context("train", yaml.safe_load(printed)["features"], "r2"))
    pasted, second = load_model(lake, "late", 2)
    assert second.slots == manifest.slots
    assert second.cv_value == pytest.approx(manifest.cv_value, rel=1e-9)
    np.testing.assert_allclose(pasted.stages[-1].coefficients, model.stages[-1].coefficients, rtol=1e-6)
    assert main(["features", str(tmp_path / "pipeline.yml"), "--run", "r2"]) == 2
    assert "run r2 has chosen no features" in capsys.readouterr().err

    deployments = Deployments(lake.ledger, "late")
    for state in ("CHALLENGER", "CHAMPION"):
        deployments.move(1, state, run_id="r1", reason="test")
    scored = score(context("score", "auto", "r3", **{"models.late": 1}))
    data = _data()
    known = set(data.loc[data["split"] == "train", "tail"])
    later = data[(data["id"] % 5 != 0) | (data["id"] < 30)]
    tails = later["tail"].where(later["id"] >= 30, np.where(later["id"] < 20, "N999", "N998"))
    unseen = tails[~tails.isin(known)].value_counts()
    stored = {row["column_name"]: row for row in lake.ledger.rows("ops.unseen", run_id="r3")}
    assert {name: (row["rows_scored"], row["rows_unseen"], row["model_version"]) for name, row in stored.items()} == {
        "tail": (len(later), int(unseen.sum()), 1), "origin": (len(later), 3, 1),
    }  # fmt: skip
    told = json.loads(stored["tail"]["most_frequent"])
    assert {each["value"]: each["rows"] for each in told}.items() <= unseen.to_dict().items()
    assert told[0] == {"value": "N999", "rows": 20}
    assert f"tail: in {unseen.sum()} of {len(later)} rows the value was not in the training rows, such as N999 (20), N998 (10)" in " ".join(
        scored.notes
    )
    assert scored.rows_out == len(later)
