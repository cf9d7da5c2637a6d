"""The flights example: a month that comes later, a gate that says no, step by step by spark-submit, and every flight of the year."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from tests.e2e.place import SPEC, Place

pytestmark = [pytest.mark.e2e, pytest.mark.one_of("example"), pytest.mark.usefixtures("spark")]
PREDICTIONS = "gold.flight_delays_predictions"
STEPS = ["ingest", "prepare", "dataset", "train", "evaluate", "deploy", "score", "monitor"]


def test_a_month_that_arrives_later_is_the_only_file_read(sample_data, tmp_path):
    place = Place(tmp_path / "data", tmp_path / "lake")
    shutil.copytree(sample_data, place.data)
    december = place.data / "flights" / "2013-12.csv.gz"
    later = shutil.move(december, tmp_path / december.name)
    first = place.run("--only", "ingest.flights")["steps"][0]
    shutil.move(later, december)
    second = place.run("--only", "ingest.flights")["steps"][0]
    rows = len(pd.read_csv(december))
    assert (second["state"], second["rows_in"]) == ("SUCCEEDED", rows)
    bronze = place.table("bronze.flights")
    assert len(bronze) == first["rows_in"] + rows
    batches = bronze.groupby("_batch_id")["_source_file"].nunique()
    assert sorted(batches) == [1, 11]


def test_a_gate_that_says_no_ends_with_3_and_scores_nothing(whole_run, sample_data, tmp_path):
    place, _ = whole_run
    other = Place(sample_data, tmp_path / "lake")
    shutil.copytree(place.lake, other.lake)
    told = other.run("--set", "evaluation.gates=[areaUnderPR >= 0.99]", exit_code=3)
    states = {step["node"]: step["state"] for step in told["steps"]}
    assert states["evaluate"] == "FAILED"
    assert "areaUnderPR >= 0.99" in next(step["error"] for step in told["steps"] if step["node"] == "evaluate")

    # The same gates over slices: carriers with few flights on these days are named, not gated.
    gates = "[min(slices.carrier.areaUnderROC) >= 0.99, 'max(slices[carrier, origin].brier) < 1']"
    sets = ("--set", f"evaluation.gates={gates}", "--set", "evaluation.slices=[carrier, [carrier, origin]]")
    told = other.run(*sets, exit_code=3)
    least, greatest = other.table("ops.gates").sort_values("seq").to_dict("records")[-2:]
    scored = other.table(PREDICTIONS).merge(other.table("gold.flight_delays_dataset")[["flight_id", "split", "is_late"]], on="flight_id")
    test = scored.query("split == 'test' and is_late == is_late").astype({"is_late": bool})
    counts = test["carrier"].value_counts()
    areas = {name: roc_auc_score(rows["is_late"], rows["probability"]) for name, rows in test.groupby("carrier") if len(rows) >= 100}
    assert least["value"] == pytest.approx(min(areas.values()))
    assert f"at carrier={min(areas, key=areas.get)}, of {len(areas)} slices" in least["compared"]
    few = counts[counts < 100]
    assert len(few) and all(f"carrier={name} ({rows} rows, fewer than 100)" in least["compared"] for name, rows in few.items())
    errors = (test["probability"] - test["is_late"]) ** 2
    by_pair = errors.groupby([test["carrier"], test["origin"]]).agg(["mean", "size"]).query("size >= 100")
    assert (greatest["passed"], greatest["value"]) == (True, pytest.approx(by_pair["mean"].max()))


def test_every_step_by_spark_submit_gives_what_one_run_gives(whole_run, sample_data, tmp_path):
    whole, _ = whole_run
    place = Place(sample_data, tmp_path / "lake")
    for step in STEPS:
        # Two steps in processes of their own, which read what others wrote and write what others read.
        run_step = place.submit if step in ("prepare", "train") else place.run_step
        run_step(step, "--spec", str(SPEC), "--env", "sample", "--run-id", "nightly")
    states = place.table("ops.steps").sort_values("seq").groupby("node")["state"].last()
    assert set(states) == {"SUCCEEDED"}
    assert set(place.table("ops.steps")["run_id"]) == {"nightly"}
    for name, columns in {
        "bronze.flights": ["year", "month", "day", "flight", "arr_delay", "distance"],
        "gold.flight_delays_dataset": ["flight_id", "is_late", "split", "fold"],
    }.items():
        ours, theirs = (lake.table(name)[columns].sort_values(columns).reset_index(drop=True) for lake in (place, whole))
        pd.testing.assert_frame_equal(ours, theirs)
    ours, theirs = (lake.table(PREDICTIONS).set_index("flight_id")["probability"].sort_index() for lake in (place, whole))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    told = json.loads(place.tidemill("explain", str(SPEC), "--env", "sample", "--json").stdout)
    assert {node["would"] for node in told} == {"skip"}, "after the last step there is nothing left to do"


def test_every_flight_of_the_year_from_raw_files_to_predictions(demo_data, tmp_path):
    place = Place(demo_data, tmp_path / "lake")
    told = json.loads(place.tidemill_process("run", str(SPEC), "--json").stdout)
    assert (told["state"], told["champion"]) == ("SUCCEEDED", 1)
    flights = place.table("bronze.flights")
    assert len(flights) == 336_776
    scored = place.table(PREDICTIONS)
    assert len(scored) == scored["flight_id"].nunique() == len(flights)
    assert scored["score_error"].isna().all() and scored["probability"].between(0, 1).all()
    metrics = place.table("ops.metrics").query("split == 'test' and model_version == 1 and slice.isna()").set_index("metric")["value"]
    # By hand, with MLlib alone: areaUnderROC 0.694, areaUnderPR 0.329.
    assert metrics["areaUnderROC"] > 0.68 and metrics["areaUnderPR"] > 0.31
