"""What a model looks at: permutation importance in ops.importances."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from tests.spark.tables import write_table

from tidemill.evaluation.importance import Permutations
from tidemill.lake.ops import ContributionRow, ImportanceRow
from tidemill.model_registry import load_model
from tidemill.model_registry.predict import predict
from tidemill.steps.evaluate.importance import explain_candidate
from tidemill.steps.evaluate.step import evaluate

ROWS = 120
EVALUATION = {"gates": ["logLoss < 100"], "importance": {"rows": 100, "repeats": 2, "contributions": 4}, "bootstrap": 40}


def _rows() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    x = rng.normal(size=ROWS)
    return pd.DataFrame(
        {
            "id": np.arange(ROWS),
            "x": x,
            "carrier": rng.choice(["AA", "UA"], ROWS),
            "is_late": x + 0.7 * rng.normal(size=ROWS) > 0,
            "split": "test",
            "fold": 0,
        }
    )


def _write(trained, partitions):
    """Write more test rows, spread over so many partitions."""
    train = trained.lake.read(trained.spark, "gold.late_dataset").where("split = 'train'").drop("seen_at")
    frame = train.unionByName(
        trained.spark.createDataFrame(_rows()).selectExpr(*[f"CAST({name} AS {kind}) {name}" for name, kind in train.dtypes])
    )
    frame = frame.selectExpr("*", "timestamp '2013-01-01' AS seen_at").repartition(partitions)
    trained.dataset_version = write_table(trained.lake, frame, "gold.late_dataset")


def _permutation_rows(trained, run_id):
    rows = trained.lake.ledger.read(ImportanceRow, pipeline="late", run_id=run_id, kind="permutation")
    return {row.column_name: row for row in rows}


def _expect(trained, version, column):
    """The mean loss of areaUnderROC over the same permutations, by pandas and scikit-learn."""
    test = trained.lake.read(trained.spark, "gold.late_dataset").where("split = 'test'")
    order = "xxhash64('importance', CAST(id AS STRING), 31)"
    sample = test.selectExpr("*", f"{order} AS place").orderBy("place").limit(100).drop("place").toPandas()
    model, manifest = load_model(trained.lake, "late", version)

    def score(rows):
        scored = predict(model, manifest, trained.spark.createDataFrame(rows[["id", "x", "carrier", "is_late"]])).toPandas()
        return roc_auc_score(scored["is_late"], scored["probability"])

    plan = Permutations(("x", "carrier"), 2, len(sample))
    losses = []
    for block in plan.blocks(column):
        permuted = sample.copy()
        permuted[column] = sample[column].to_numpy()[plan.places(block)]
        losses.append(score(sample) - score(permuted))
    return np.mean(losses)


def _check_contributions(trained, version):
    """Each of four test rows has a row per column, and one of the mean prediction; they add up to its probability."""
    rows = trained.lake.ledger.read(ContributionRow, pipeline="late", run_id="r1")
    assert {(row.model_version, row.scale, row.kind, row.class_index) for row in rows} == {(version, "probability", "sampled", None)}
    keys = {json.loads(row.row_key)["id"] for row in rows}
    assert (len(keys), len(rows)) == (4, 4 * 3)
    test = trained.lake.read(trained.spark, "gold.late_dataset").where("split = 'test'")
    scored = predict(*load_model(trained.lake, "late", version), test).toPandas().set_index("id")
    for key in keys:
        cells = {row.column_name: row for row in rows if json.loads(row.row_key) == {"id": key}}
        assert set(cells) == {None, "x", "carrier"}
        assert sum(row.contribution for row in cells.values()) == pytest.approx(scored.loc[key, "probability"])
        assert cells["carrier"].column_value == scored.loc[key, "carrier"]
        assert float(cells["x"].column_value) == scored.loc[key, "x"]


@pytest.mark.long("evaluates a model twice")
def test_each_raw_column_has_an_importance_that_does_not_depend_on_partitions(trained):
    trained.spec["training"] = {"task": "binary", "metric": "areaUnderROC"}
    trained.spec["evaluation"] = EVALUATION
    version = trained.train("good")
    _write(trained, 1)
    evaluate(trained.context("evaluate", version, run_id="r1"))
    first = _permutation_rows(trained, "r1")
    assert set(first) == {"x", "carrier"}
    assert (first["x"].rank, first["carrier"].rank, first["x"].slot) == (1, 2, None)
    assert first["x"].importance == pytest.approx(_expect(trained, version, "x"))
    assert first["carrier"].importance == pytest.approx(_expect(trained, version, "carrier"))
    assert 0 < first["x"].lower < first["x"].importance < first["x"].upper
    assert first["carrier"].lower < 0.02
    _check_contributions(trained, version)

    _write(trained, 3)
    context = trained.context("evaluate", version, run_id="r2")
    dataset = trained.lake.read(trained.spark, "gold.late_dataset", trained.dataset_version)
    explain_candidate(context, *load_model(trained.lake, "late", version), dataset)
    explain_candidate(context, *load_model(trained.lake, "late", version), dataset)
    second = _permutation_rows(trained, "r2")
    assert [(row.importance, row.lower, row.upper) for row in second.values()] == [
        (row.importance, row.lower, row.upper) for row in first.values()
    ]
    assert len(trained.lake.ledger.read(ImportanceRow, pipeline="late", run_id="r2")) == 2


def test_few_test_rows_have_neither_importance_nor_contributions(trained):
    trained.spec["evaluation"] = {"gates": ["logLoss < 100"]}
    evaluate(trained.context("evaluate", trained.train("good")))
    assert _permutation_rows(trained, "r1") == {}
    assert trained.lake.ledger.read(ContributionRow, pipeline="late") == []
