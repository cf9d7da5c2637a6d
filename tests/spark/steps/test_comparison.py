"""Two versions side by side: what the ledger holds of them, and both on the same test rows."""

from __future__ import annotations

import dataclasses
import json

import pytest
from sklearn.metrics import roc_auc_score
from tests.spark.steps.conftest import examples

from tidemill.errors import UsageError
from tidemill.lake.ops import ImportanceRow, MetricRow, StepRow
from tidemill.model_registry import read_manifest
from tidemill.model_registry.manifest import describe_content
from tidemill.workflow.reproduction.comparison import Change, compare_versions, find_side
from tidemill.workflow.reproduction.paired import add_common_rows


@pytest.fixture
def pair(trained):
    """Model 1, which ranks well, and model 2, fitted on the opposite of the labels with another parameter, in a later run."""
    trained.train("good", "CHALLENGER", "CHAMPION")
    trained.train("bad")
    second = dataclasses.replace(
        read_manifest(trained.lake, "late", 2), run_id="r1", params={"regParam": 0.1}, features={"numeric": {"columns": ["x"]}}
    )
    trained.lake.write_text("models/late/2/model.json", second.to_json())
    for version, value, importance in ((1, 0.9, 0.3), (2, 0.2, -0.1)):
        run = {"pipeline": "late", "run_id": f"r{version - 1}"}
        rows = {"silver.rows": 10 * version}
        trained.lake.ledger.append([
            StepRow(**run, node="dataset", state="SUCCEEDED", outputs={"gold.late_dataset": 0}),
            StepRow(**run, node="prepare.rows", state="SUCCEEDED", outputs={"silver.rows": version}, output_rows=rows),
            StepRow(**run, node="train", state="SUCCEEDED", inputs={"gold.late_dataset": 0}, outputs={"models.late": version}),
        ])  # fmt: skip
        metric = {**run, "model_version": version, "split": "test", "metric": "areaUnderPR"}
        trained.lake.ledger.append([MetricRow(**metric, value=value), MetricRow(**metric, slice="carrier=AA", value=value / 2)])
        trained.lake.ledger.append(
            [ImportanceRow(**run, model_version=version, kind="permutation", column_name="x", importance=importance)]
        )
    return trained


def test_what_the_ledger_holds_needs_no_spark(pair):
    spec = pair.context("evaluate", 1).spec
    found = compare_versions(spec, pair.lake, 1, 2)
    assert (found.a.state, found.b.state, found.a.run_id, found.b.run_id) == ("CHAMPION", "CANDIDATE", "r0", "r1")
    assert found.params == (
        Change("family", "logistic_regression_good", "logistic_regression_bad"),
        Change("regParam", 0.01, 0.1),
    )
    assert Change("features.numeric.columns", None, ["x"]) in found.spec
    assert found.notes[0].startswith("the spec of model 1 and of model 2 is not kept")
    [metric], [part], [importance] = found.metrics, found.slices, found.importances
    assert (metric.a, metric.b, metric.difference, metric.lower) == (0.9, 0.2, pytest.approx(-0.7), None)
    assert (part.slice, part.a, part.b) == ("carrier=AA", 0.45, 0.1)
    assert importance == Change("x (permutation)", 0.3, -0.1)
    assert json.loads(json.dumps(found.to_json(), default=str))["predictions"] is None


def test_kept_specs_are_compared_key_by_key(pair):
    kept = {"training": {"folds": 3, "models": {"xgboost": {}}}, "description": "x"}
    for version, folds in ((1, 3), (2, 5)):
        spec = {**kept, "training": {**kept["training"], "folds": folds}}
        files = {
            "spec.json": {"spec": spec},
            "code.json": {"tables.rows.sql": {"sha256": f"{folds}"}},
            "environment.json": {"packages": {}},
        }
        contents = {name: json.dumps(content).encode() for name, content in files.items()}
        for name, content in contents.items():
            pair.lake.write_bytes(f"models/late/{version}/evidence/{name}", content)
        known = {name: describe_content(content) for name, content in contents.items()}
        manifest = dataclasses.replace(read_manifest(pair.lake, "late", version), evidence=known)
        pair.lake.write_text(f"models/late/{version}/model.json", manifest.to_json())
    found = compare_versions(pair.context("evaluate", 1).spec, pair.lake, 1, 2)
    assert found.spec == (Change("training.folds", 3, 5),)
    assert found.notes == ("code differs: tables.rows.sql",)


def test_a_side_is_a_version_a_run_or_the_champion(pair):
    spec = pair.context("evaluate", 1).spec
    assert [find_side(spec, pair.lake, name) for name in ("2", "r1", "champion", "r0")] == [2, 2, 1, 1]
    with pytest.raises(UsageError, match="no model version 9"):
        find_side(spec, pair.lake, "9")


@pytest.mark.long("measures two models with bootstrap intervals")
def test_both_are_measured_on_the_same_test_rows(pair, spark, fitted):
    spec = pair.context("evaluate", 1).spec
    found = add_common_rows(compare_versions(spec, pair.lake, 1, 2), spec, pair.lake, spark)
    rows = examples()
    rows = rows[rows["split"] == "test"]
    scores = [
        row["probability"][1]
        for row in fitted["good"].transform(spark.createDataFrame(rows[["id", "x", "carrier"]])).orderBy("id").collect()
    ]
    is_known = rows["is_late"].notna().to_numpy()
    area = roc_auc_score(rows["is_late"][is_known].astype(bool), [score for score, known in zip(scores, is_known, strict=True) if known])
    metrics = {each.metric: each for each in found.metrics}
    roc = metrics["areaUnderROC"]
    assert found.rows == is_known.sum() == 18
    # The second model is fitted on the opposite labels, so that its probabilities are the complements.
    assert (roc.a, roc.b, roc.difference) == (pytest.approx(area), pytest.approx(1 - area), pytest.approx(1 - 2 * area))
    assert roc.lower <= roc.difference <= roc.upper < 0, "worse beyond chance"
    assert (found.predictions.rows, found.predictions.changed_side, found.predictions.differing) == (20, 20, 20)
    assert found.predictions.greatest == pytest.approx(max(abs(2 * score - 1) for score in scores), abs=1e-6)
    assert len(found.predictions.sample) == 5
