"""monitor: drift rows, levels, and the rule that fails."""

import math
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import functions as F
from tests.spark.tables import write_table

from tidemill.errors import DriftRefused
from tidemill.lake.ops import StepRow
from tidemill.steps.monitor.step import monitor


def _drift(lake, run_id="r1"):
    return {row["column_name"]: row for row in lake.ledger.rows("ops.drift", pipeline="late", run_id=run_id)}


def test_drift_of_the_features_is_recorded_and_refuses_nothing_by_default(trained):
    version = trained.train("good", "CHALLENGER", "CHAMPION")
    learned = "split = 'train' AND is_late IS NOT NULL"
    trained.spec["scoring"] = {"sql": f"SELECT id + 1000 AS id, x, 'AA' AS carrier FROM gold.late_dataset WHERE {learned}"}
    result = monitor(trained.context("monitor", version))
    found = _drift(trained.lake)
    assert set(found) == {"x", "carrier"}
    assert found["x"]["value"] == 0
    assert found["x"]["level"] == "ok"
    # Ids 0–39 that 3 divides and that have a label are 12 of the 36 training rows; all 36 scored rows say AA.
    p, empty = 12 / 36, 1e-4
    expected = (1 - p) * math.log(1 / p) + (empty - (1 - p)) * math.log(empty / (1 - p))
    row = found["carrier"]
    assert row["value"] == pytest.approx(expected)
    assert (row["level"], row["method"], row["model_version"], row["rows_reference"], row["rows_scored"]) == ("alert", "psi", 1, 36, 36)
    assert result.rows_in == 36
    assert result.notes == (
        f"drift at the alert level (0.25): carrier ({expected:.3f})",
        "drift is of the scored rows that the model was not trained on",
    )

    monitor(trained.context("monitor", version))
    assert len(trained.lake.ledger.rows("ops.drift")) == 2


@pytest.mark.long("three steps of monitor over a trained lake")
def test_drift_is_of_the_rows_that_were_scored_since_the_last_monitor(trained):
    """Ids 0–59 are there from the start: 40–59 are the test, 9, 19, 29 and 39 are of the split train without a label."""
    version = trained.train("good", "CHALLENGER", "CHAMPION")
    lake, first = trained.lake, trained.lake.read(trained.spark, "gold.late_dataset")

    def measured(run_id, **versions):
        context = trained.context("monitor", version, run_id, **versions)
        result = monitor(context)
        inputs = {"gold.late_dataset": context.inputs["gold.late_dataset"], "models.late": version}
        lake.ledger.append([StepRow(pipeline="late", run_id=run_id, node="monitor", state="SUCCEEDED", inputs=inputs)])
        row = _drift(lake, run_id)["x"]
        return row["rows_scored"], row["level"], next(note for note in result.notes if note.startswith("drift is of"))

    not_trained = "drift is of the scored rows that the model was not trained on"
    assert measured("r1")[::2] == (24, not_trained)
    new = first.where("id < 10").selectExpr("id + 60 AS id", "x + 100 AS x", "carrier", "is_late", "'train' AS split", "fold", "seen_at")
    one_changed = "IF(id IN (3, 45), x + 100, x) AS x"  # the model was trained on 3, but not on 45
    known = first.selectExpr("id", one_changed, "carrier", "is_late", "split", "fold", "seen_at")
    second = write_table(lake, known.unionByName(new), "gold.late_dataset")
    since = "drift is of the rows that were scored since the monitor of run"
    assert measured("r2", **{"gold.late_dataset": second}) == (11, "alert", f"{since} r1")
    # Asked again, and after rows came that are all known, the answer stays: nothing else is new.
    assert measured("r3", **{"gold.late_dataset": second}) == (11, "alert", f"{since} r1")
    third = lake.replace(lake.read(trained.spark, "gold.late_dataset").repartition(3), "gold.late_dataset", meta={})
    assert measured("r4", **{"gold.late_dataset": third}) == (11, "alert", f"{since} r1")


def test_drift_is_against_the_rows_that_the_model_was_trained_on_as_long_as_they_are_there(trained):
    version = trained.train("good", "CHALLENGER", "CHAMPION")
    learned = "split = 'train' AND is_late IS NOT NULL"
    trained.spec["scoring"] = {"sql": f"SELECT id + 1000 AS id, x, carrier FROM gold.late_dataset WHERE {learned}"}
    shifted = trained.lake.read(trained.spark, "gold.late_dataset").withColumn("x", F.col("x") + 100)
    now = write_table(trained.lake, shifted, "gold.late_dataset")
    context = trained.context("monitor", version, **{"gold.late_dataset": now})
    assert monitor(context).notes and _drift(trained.lake)["x"]["level"] == "alert"
    for file in DeltaTable(trained.lake.path("gold.late_dataset"), version=trained.dataset_version).file_uris():
        Path(file).unlink()
    result = monitor(context)
    assert _drift(trained.lake)["x"]["level"] == "ok", "shifted rows against themselves"
    assert f"as it is now; version {trained.dataset_version}, which model 1 was trained on, cannot be read" in result.notes[-1]


def test_on_alert_fail_names_the_columns_after_the_rows_are_written(trained):
    version = trained.train("good", "CHALLENGER", "CHAMPION")
    trained.spec["monitoring"] = {"drift": {"warn": 0.1, "alert": 0.25, "on_alert": "fail"}}
    trained.spec["scoring"] = {"sql": "SELECT id + 1000 AS id, x + 100 AS x, carrier FROM gold.late_dataset"}
    with pytest.raises(DriftRefused, match=r"drift of x \(\d.*0\.25"):
        monitor(trained.context("monitor", version))
    assert _drift(trained.lake)["x"]["level"] == "alert"
    assert _drift(trained.lake)["carrier"]["level"] == "ok"
