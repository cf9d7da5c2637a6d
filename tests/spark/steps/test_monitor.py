"""monitor: drift rows, levels, and the rule that fails."""

import math
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import functions as F

from tidemill.errors import DriftRefused
from tidemill.steps.monitor import monitor


def _drift(lake, run_id="r1"):
    return {row["column_name"]: row for row in lake.ledger.rows("ops.drift", pipeline="late", run_id=run_id)}


def test_drift_of_the_features_is_recorded_and_refuses_nothing_by_default(trained):
    version = trained.train("good", "CHALLENGER", "CHAMPION")
    trained.spec["scoring"] = {"sql": "SELECT id, x, 'AA' AS carrier FROM gold.late_dataset WHERE split = 'train'"}
    result = monitor(trained.context("monitor", version))
    found = _drift(trained.lake)
    assert set(found) == {"x", "carrier"}
    assert found["x"]["value"] == 0
    assert found["x"]["level"] == "ok"
    # Ids 0–39 that 3 divides are 14 of the 40 training rows; all 40 scored rows say AA.
    p, empty = 14 / 40, 1e-4
    expected = (1 - p) * math.log(1 / p) + (empty - (1 - p)) * math.log(empty / (1 - p))
    row = found["carrier"]
    assert row["value"] == pytest.approx(expected)
    assert (row["level"], row["method"], row["model_version"], row["rows_reference"], row["rows_scored"]) == ("alert", "psi", 1, 40, 40)
    assert result.rows_in == 40
    assert result.notes == (f"drift at the alert level (0.25): carrier ({expected:.3f})",)

    monitor(trained.context("monitor", version))
    assert len(trained.lake.ledger.rows("ops.drift")) == 2


def test_drift_is_against_the_rows_that_the_model_was_trained_on_as_long_as_they_are_there(trained):
    version = trained.train("good", "CHALLENGER", "CHAMPION")
    shifted = trained.lake.read(trained.spark, "gold.late_dataset").withColumn("x", F.col("x") + 100)
    now = trained.lake.replace(shifted, "gold.late_dataset", meta={})
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
    trained.spec["scoring"] = {"sql": "SELECT id, x + 100 AS x, carrier FROM gold.late_dataset"}
    with pytest.raises(DriftRefused, match=r"drift of x \(\d.*0\.25"):
        monitor(trained.context("monitor", version))
    assert _drift(trained.lake)["x"]["level"] == "alert"
    assert _drift(trained.lake)["carrier"]["level"] == "ok"
