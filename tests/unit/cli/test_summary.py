"""What a run ends with on the screen: what this run did, nothing old without its run's name, and the fault last."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from tidemill.cli.summary import print_summary
from tidemill.lake import Lake
from tidemill.lake.ops import DeploymentRow, MetricRow, TrialRow
from tidemill.spec import load_spec
from tidemill.workflow.outcome import Outcome, RunOutcome

SPEC = """\
pipeline: tiny
lake: {lake}
sources:
  planes: {{format: csv, path: planes.csv}}
dataset: {{from: bronze.planes, key: [tail], label: late}}
training: {{task: binary}}
"""
STEPS = ("ingest.planes", "dataset", "train", "evaluate", "deploy", "score", "monitor")


@pytest.fixture
def place(tmp_path: Path):
    """A lake in which the run `old` has trained version 1 and scored five planes."""
    file = tmp_path / "pipeline.yml"
    file.write_text(SPEC.format(lake=tmp_path / "lake"))
    lake = Lake(str(tmp_path / "lake"))
    train(lake, "old", 1)
    for before, after in ((None, "CANDIDATE"), ("CANDIDATE", "CHALLENGER"), ("CHALLENGER", "CHAMPION")):
        lake.ledger.append([DeploymentRow(pipeline="tiny", model_version=1, from_state=before, to_state=after)])
    rows = {"tail": [f"N{i}" for i in range(5)], "prediction": [True] * 5, "probability": [0.123456789012345] * 5, "run_id": ["old"] * 5}
    write_deltalake(lake.path("gold.tiny_predictions"), pa.table(rows))
    return load_spec(file), lake, file


def train(lake: Lake, run_id: str, version: int) -> None:
    params = json.dumps({"regParam": 0.1})
    trial = {"trial": 1, "fold": 0, "family": "logistic_regression", "params": params, "metric": "areaUnderPR", "state": "SUCCEEDED"}
    lake.ledger.append([TrialRow(pipeline="tiny", run_id=run_id, **trial, value=0.75, seconds=1.0)])
    test = {"pipeline": "tiny", "run_id": run_id, "split": "test", "metric": "areaUnderPR"}
    lake.ledger.append([MetricRow(**test, model_version=0, value=0.25), MetricRow(**test, model_version=version, value=0.625)])


def shown(place, capsys, run_id: str, **states: str) -> list[str]:
    spec, lake, file = place
    steps = tuple(
        Outcome(step, states[step.partition(".")[0]], error="the \x1b[2J fault" if states[step.partition(".")[0]] == "FAILED" else None)
        for step in STEPS
        if step.partition(".")[0] in states
    )
    failed = any(state == "FAILED" for state in states.values())
    print_summary(spec, lake, RunOutcome(run_id, "FAILED" if failed else "SUCCEEDED", steps, 1), file)
    return capsys.readouterr().out.splitlines()


DONE = dict.fromkeys(("ingest", "dataset", "train", "evaluate", "deploy", "score", "monitor"), "SUCCEEDED")


def test_a_run_shows_what_it_made(place, capsys):
    text = "\n".join(shown(place, capsys, "old", **DONE))
    assert "run old SUCCEEDED" in text and "from run" not in text
    assert "Families" in text and "0.7500" in text
    assert "CHAMPION of tiny: version 1, on the test set" in text and "0.6250" in text
    assert "0.123456789012345" in text and "5 of 5 rows" in text
    assert "tidemill trials" in text


def test_what_is_up_to_date_says_which_run_it_is_from(place, capsys):
    lines = shown(place, capsys, "new", **{**dict.fromkeys(DONE, "SKIPPED"), "monitor": "SUCCEEDED"})
    titles = [line for line in lines if "Families" in line or "CHAMPION" in line or "predictions, " in line]
    assert len(titles) == 3 and all(line.endswith("(from run old)") for line in titles)


def test_a_failed_run_shows_nothing_old_and_the_fault_last(place, capsys):
    states = {"ingest": "SUCCEEDED", "dataset": "SUCCEEDED", "train": "FAILED"} | dict.fromkeys(("evaluate", "deploy", "score"), "BLOCKED")
    lines = [line for line in shown(place, capsys, "new", **states) if line]
    assert lines[0] == "run new FAILED"
    assert lines[1:] == ["  train: the \\x1b[2J fault", f"  Fix it, then rerun: tidemill run {place[2]}   (goes on at train)"]


def test_a_run_that_failed_late_shows_what_it_made_before_the_fault(place, capsys):
    train(place[1], "new", 2)
    lines = shown(place, capsys, "new", **{**DONE, "score": "FAILED", "monitor": "BLOCKED"})
    text = "\n".join(lines)
    assert "version 2, on the test set" in text and "from run" not in text and "rows" not in text
    assert [line for line in lines if line][-2].startswith("  score: ")
    assert text.index("Families") < text.index("run new FAILED")


def test_a_part_of_the_pipeline_shows_that_part(place, capsys):
    text = "\n".join(shown(place, capsys, "old", score="SUCCEEDED"))
    assert "5 of 5 rows" in text and "tidemill sql" in text
    assert "Families" not in text and "CHAMPION" not in text and "tidemill trials" not in text
    assert "Families" not in "\n".join(shown(place, capsys, "old", ingest="SUCCEEDED"))
