"""evaluate: metrics against scikit-learn, the baseline beside them, the gates' verdicts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import functions as F
from sklearn import metrics as sk
from tests.spark.tables import write_table

from tidemill.errors import GateRefused, StepError
from tidemill.model_registry import read_manifest
from tidemill.model_registry.predict import predict
from tidemill.steps.evaluate.step import evaluate
from tidemill.tasks import TASKS

DEFAULT_GATES = ["lower(areaUnderPR - baseline.areaUnderPR) > 0", "upper(areaUnderPR - champion.areaUnderPR) >= 0"]


def _metrics(lake, version, run_id="r1"):
    rows = lake.ledger.rows("ops.metrics", pipeline="late", run_id=run_id, model_version=version, split="test")
    assert all(row["slice"] is None for row in rows)
    return {row["metric"]: row["value"] for row in rows}


def _test_rows(trained, version):
    """Labels and probabilities of the test rows, by another way than the step's."""
    from tidemill.model_registry import load_model

    rows = trained.lake.read(trained.spark, "gold.late_dataset").where("split = 'test' AND is_late IS NOT NULL")
    scored = predict(*load_model(trained.lake, "late", version), rows).collect()
    return [row["is_late"] for row in scored], [row["probability"] for row in scored]


def _predict(trained, version, rows):
    from tidemill.model_registry import load_model

    return predict(*load_model(trained.lake, "late", version), rows).orderBy("id").collect()


@pytest.mark.long("evaluates a model twice")
def test_a_good_candidate_becomes_challenger_and_a_repeat_changes_nothing(trained):
    version = trained.train("good")
    result = evaluate(trained.context("evaluate", version))
    y, p = _test_rows(trained, version)
    assert (dict(result.outputs), result.rows_in) == ({"models.late": 1}, len(y))
    assert len(y) == 18
    found = _metrics(trained.lake, version)
    assert found["areaUnderROC"] == pytest.approx(sk.roc_auc_score(y, p), abs=1e-4)
    assert found["logLoss"] == pytest.approx(sk.log_loss(y, p))
    train = trained.lake.read(trained.spark, "gold.late_dataset").where("split = 'train' AND is_late IS NOT NULL").toPandas()
    constant = [train["is_late"].astype(float).mean()] * len(y)
    baseline = _metrics(trained.lake, 0)
    assert baseline["logLoss"] == pytest.approx(sk.log_loss(y, constant))
    assert baseline["areaUnderROC"] == 0.5
    assert baseline["areaUnderPR"] == pytest.approx(sum(y) / len(y))
    assert trained.states() == {1: "CHALLENGER"}
    evidence = json.loads(trained.deployments.rows()[-1].evidence)
    assert [gate["gate"] for gate in evidence["gates"]] == DEFAULT_GATES
    first, second = evidence["gates"]
    assert (first["passed"], second["passed"], second["value"], second["bound"]) == (True, True, None, None)
    assert 0 < first["value"] == first["lower"] < found["areaUnderPR"] - baseline["areaUnderPR"] < first["upper"]
    assert evidence["metrics"]["areaUnderROC"] == found["areaUnderROC"]
    rows = trained.lake.ledger.rows("ops.gates", pipeline="late", run_id="r1", model_version=version)
    assert [(row["gate"], row["value"], row["bound"], row["passed"]) for row in rows] == [
        (DEFAULT_GATES[0], first["value"], 0.0, True),
        (DEFAULT_GATES[1], None, None, True),
    ]
    assert "model 1 and the constant baseline on 18 test rows" in rows[0]["compared"]

    evaluate(trained.context("evaluate", version))
    assert len(trained.lake.ledger.rows("ops.metrics")) == 2 * len(TASKS.get("binary").metrics)
    assert len(trained.lake.ledger.rows("ops.gates")) == 2
    assert len(trained.deployments.rows()) == 2


@pytest.mark.long("evaluates two models, and by slices")
def test_a_bad_candidate_is_rejected_by_name_of_every_gate_beside_the_reigning_champion(trained):
    champion = trained.train("good", "CHALLENGER", "CHAMPION")
    candidate = trained.train("bad")
    trained.spec["evaluation"] = {"gates": ["areaUnderROC >= 0.99", "areaUnderPR >= champion.areaUnderPR - 0.005", "logLoss < 100"]}
    with pytest.raises(GateRefused) as caught:
        evaluate(trained.context("evaluate", candidate))
    assert "model 2 of late was refused by 2 of 3 gates" in str(caught.value)
    assert "areaUnderROC >= 0.99: refused" in str(caught.value)
    assert "champion.areaUnderPR - 0.005: refused" in str(caught.value)
    assert trained.states() == {1: "CHAMPION", 2: "REJECTED"}
    gates = trained.lake.ledger.rows("ops.gates", model_version=candidate)
    assert [row["passed"] for row in gates] == [False, False, True]
    assert gates[1]["value"] == _metrics(trained.lake, candidate)["areaUnderPR"]
    assert gates[1]["bound"] == pytest.approx(_metrics(trained.lake, champion)["areaUnderPR"] - 0.005)
    assert "model 2 and champion 1 on 18 test rows" in gates[1]["compared"]
    y, p = _test_rows(trained, champion)
    assert _metrics(trained.lake, champion)["areaUnderROC"] == pytest.approx(sk.roc_auc_score(y, p), abs=1e-4)
    assert _metrics(trained.lake, candidate)["areaUnderROC"] < 0.5

    # Softer gates, the same candidate: it may come back.
    trained.spec["evaluation"] = {"gates": ["logLoss < 100"]}
    evaluate(trained.context("evaluate", candidate, run_id="r2"))
    assert trained.states() == {1: "CHAMPION", 2: "CHALLENGER"}


def test_a_gate_on_the_champion_says_so_where_there_is_none(trained):
    trained.spec["evaluation"] = {"gates": ["areaUnderPR >= champion.areaUnderPR"]}
    result = evaluate(trained.context("evaluate", trained.train("good")))
    assert "no champion" in result.notes[0]


def test_a_champion_that_is_evaluated_again_is_held_against_the_one_before_it(trained):
    trained.train("bad", "CHALLENGER", "CHAMPION")
    champion = trained.train("good", "CHALLENGER", "CHAMPION")
    trained.spec["evaluation"] = {"gates": ["areaUnderPR > champion.areaUnderPR"]}
    result = evaluate(trained.context("evaluate", champion))
    assert result.notes == ("model 2 is CHAMPION already and stays so",)
    assert trained.states() == {1: "RETIRED", 2: "CHAMPION"}


@pytest.mark.long("measures two models on all rows and on fresh ones")
def test_gates_on_the_champion_compare_on_rows_that_it_was_not_trained_on(trained):
    now, dataset = trained.dataset_version, trained.lake.read(trained.spark, "gold.late_dataset")
    earlier = dataset.withColumn("split", F.when(F.col("id") < 48, "train").otherwise(F.col("split")))
    trained.dataset_version = write_table(trained.lake, earlier, "gold.late_dataset")
    trained.train("good", "CHALLENGER", "CHAMPION")
    dataset = trained.lake.read(trained.spark, "gold.late_dataset", now)
    trained.dataset_version = write_table(trained.lake, dataset, "gold.late_dataset")
    candidate = trained.train("bad")
    gates = ["areaUnderROC - champion.areaUnderROC >= 0.5", "areaUnderROC >= 0.5", "logLoss - baseline.logLoss < 0 * champion.logLoss"]
    gates.append("min(slices.carrier.areaUnderROC) >= 0")
    trained.spec["evaluation"] = {"gates": gates, "slices": ["carrier"], "min_slice_rows": 7}
    with pytest.raises(GateRefused, match="model 2 and champion 1 on 10 test rows that the champion was not trained on"):
        evaluate(trained.context("evaluate", candidate))
    fresh = dataset.where("id >= 48 AND is_late IS NOT NULL").orderBy("id")
    y = [row["is_late"] for row in fresh.collect()]
    p = {version: [row["probability"] for row in _predict(trained, version, fresh)] for version in (1, 2)}
    rows = trained.lake.ledger.rows("ops.gates")
    assert rows[0]["value"] == pytest.approx(sk.roc_auc_score(y, p[2]) - sk.roc_auc_score(y, p[1]))
    all_y, all_p = _test_rows(trained, candidate)
    assert rows[1]["value"] == pytest.approx(sk.roc_auc_score(all_y, all_p))
    train = trained.lake.read(trained.spark, "gold.late_dataset").where("split = 'train' AND is_late IS NOT NULL").toPandas()
    constant = [train["is_late"].astype(float).mean()] * len(y)
    assert rows[2]["value"] == pytest.approx(sk.log_loss(y, p[2]) - sk.log_loss(y, constant))
    scored = _predict(trained, candidate, dataset.where("split = 'test' AND is_late IS NOT NULL"))
    united = [row for row in scored if row["carrier"] == "UA"]
    assert len(scored) - len(united) == 6
    assert rows[3]["value"] == pytest.approx(sk.roc_auc_score([row["is_late"] for row in united], [row["probability"] for row in united]))
    assert "at carrier=UA, of 1 slice" in rows[3]["compared"]
    assert "not gated: carrier=AA (6 rows, fewer than 7)" in rows[3]["compared"]
    champion = json.loads(trained.deployments.rows()[-1].evidence)["champion"]
    assert (champion["version"], champion["rows"]) == (1, 10)
    assert champion["candidate_metrics"]["areaUnderROC"] == pytest.approx(sk.roc_auc_score(y, p[2]))


@pytest.mark.long("scores the test rows three times, and evaluates a model twice")
def test_costs_are_measured_and_a_candidate_must_reproduce_its_stored_sample(trained):
    version = trained.train("good")
    trained.spec["evaluation"] = {"gates": ["score_ms_per_1k_rows > 0", "model_mb <= 0.001", "areaUnderROC > 0"]}
    with pytest.raises(GateRefused, match=r"refused by 1 of 3 gates: model_mb <= 0\.001: refused"):
        evaluate(trained.context("evaluate", version))
    files = (Path(trained.lake.root) / "models" / "late" / str(version) / "spark").rglob("*")
    [time, size, _] = trained.lake.ledger.rows("ops.gates")
    assert size["value"] == sum(file.stat().st_size for file in files if file.is_file() and file.name[0] != ".") / 1e6
    assert 0 < time["value"] < 1e6

    # The stored predictions of another model: the candidate's files are not what was trained.
    sample = Path(trained.template.root) / "models" / "late" / "2" / "sample.parquet"
    folder = Path(trained.lake.root) / "models" / "late" / str(version)
    shutil.copy(sample, folder / "sample.parquet")
    whole = replace(read_manifest(trained.lake, "late", version), sample=read_manifest(trained.template, "late", 2).sample)
    trained.lake.write_text(f"models/late/{version}/model.json", whole.to_json())
    trained.spec["evaluation"] = {"gates": ["areaUnderROC > 0"]}
    with pytest.raises(GateRefused, match="stored sample: refused, loaded from its files the model does not predict what it did"):
        evaluate(trained.context("evaluate", version, run_id="r2"))
    assert trained.states() == {1: "REJECTED"}
    assert [row["passed"] for row in trained.lake.ledger.rows("ops.gates", run_id="r2")] == [True, False]


def test_an_empty_test_set_is_named(trained):
    version = trained.train("good")
    frame = trained.lake.read(trained.spark, "gold.late_dataset").where("split = 'train' OR is_late IS NULL")
    trained.dataset_version = write_table(trained.lake, frame, "gold.late_dataset")
    with pytest.raises(StepError, match="no test row has a is_late"):
        evaluate(trained.context("evaluate", version))
