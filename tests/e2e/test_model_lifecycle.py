"""The life of model versions on real flights, from the command line and in SQL: evidence, approval, rollback, a refused version."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
from contextlib import chdir
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pyarrow.parquet as pq
import pytest
from tests.e2e.place import ROOT, SPEC, Place

pytestmark = pytest.mark.e2e
PAGE = ROOT / "docs" / "model-lifecycle.md"
# One family with one trial, and a gate that such a model passes, so that a training takes seconds.
QUICK = ("--set", "training.models={logistic_regression: {}}", "--set", "training.tuner.trials=1", "--set", "evaluation.bootstrap=0")
PASSED = ("--set", "evaluation.gates=[areaUnderROC >= 0.5]")
REFUSED = ("--set", "evaluation.gates=[areaUnderROC >= 0.999]")


@pytest.fixture(scope="module")
def place(whole_run, tmp_path_factory) -> Place:
    """A copy of the trained lake."""
    trained, _ = whole_run
    lake = tmp_path_factory.mktemp("life") / "lake"
    shutil.copytree(trained.lake, lake)
    return Place(trained.data, lake)


def _read_sections() -> str:
    """Return the page's sections from approval on, without replay and what follows."""
    text = PAGE.read_text(encoding="utf-8")
    return text[text.index("## Approval") : text.index("## Replay")]


def _examples() -> list[tuple[list[str], int]]:
    """Return the commands of the page's sections on approval and rollback, with their exit codes."""
    section = _read_sections()
    lines = [line for block in re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
    exits = [re.search(r"# exit (\d)$", line) for line in lines]
    return [(shlex.split(line, comments=True)[1:], int(found[1]) if found else 0) for line, found in zip(lines, exits, strict=True)]


def _run_python_example(place: Place) -> None:
    """Run the page's example of the Python interface."""
    [example] = re.findall(r"^```python\n(.*?)^```", _read_sections(), re.MULTILINE | re.DOTALL)
    with patch.dict(os.environ, place.environ()), chdir(ROOT):
        exec(compile(example, str(PAGE), "exec"), {})


def _sql(place: Place, query: str) -> list[dict]:
    return json.loads(place.tidemill("sql", query, "--format", "json").stdout)


@pytest.mark.slow
@pytest.mark.one_of("example")
def test_evidence_and_card_of_a_trained_version(place):
    folder = Path(place.lake) / "models" / "flight_delays" / "1"
    manifest = json.loads((folder / "model.json").read_text())
    assert set(manifest["evidence"]) == {"spec.json", "code.json", "environment.json", "data.json", "trials.json", "signature.json"}
    for name, described in {
        **{f"evidence/{name}": text for name, text in manifest["evidence"].items()},
        "sample.parquet": manifest["sample"],
    }.items():
        content = (folder / name).read_bytes()
        assert described == f"{len(content)} {hashlib.sha256(content).hexdigest()}", name
    evidence = {path.stem: json.loads(path.read_text()) for path in (folder / "evidence").glob("*.json")}
    assert evidence["spec"]["spec"]["pipeline"] == "flight_delays"
    assert "SELECT" in evidence["code"]["dataset.sql"]["text"]
    assert evidence["environment"]["packages"]["pyspark"] == evidence["environment"]["spark"]
    dataset = place.table("gold.flight_delays_dataset")
    rows = dataset.groupby(["split", "fold"], dropna=False).size().to_dict()
    assert {(part["split"], part["fold"]): part["rows"] for part in evidence["data"]["splits"]} == {
        (split, None if pd.isna(fold) else int(fold)): count for (split, fold), count in rows.items()
    }
    assert evidence["data"]["inputs"]["bronze.flights"] <= place.version("bronze.flights")
    assert len(evidence["trials"]) == len(place.table("ops.trials"))
    sample = pq.read_table(folder / "sample.parquet")
    stored = place.table("gold.flight_delays_predictions").set_index("flight_id")["probability"]
    assert sample.num_rows == 100
    for row in sample.to_pylist():
        assert row["probability"] == pytest.approx(stored[row["key"]["flight_id"]], abs=1e-9)
    card = json.loads((folder / "model_card.json").read_text())
    assert (card["state"], card["training"]["author"], len(card["history"])) == ("CHAMPION", manifest["author"], 3)
    metrics = place.table("ops.metrics").query("model_version == 1 and split == 'test' and slice.isna()").set_index("metric")["value"]
    assert {row["metric"]: row["value"] for row in card["evaluation"]["metrics"]} == pytest.approx(metrics.dropna().to_dict())
    printed = place.tidemill("models", str(SPEC), "--version", "1", "--card").stdout
    assert printed == (folder / "model_card.md").read_text()
    assert all(title in printed for title in ("## Data", "## Evaluation", "### Gates", "## Limits", "## Decisions", "tidemill rollback"))


@pytest.mark.slow
@pytest.mark.one_of("example")
def test_the_whole_life_as_the_page_tells_it(place):
    for words, exit_code in _examples():
        settings = (*QUICK, *PASSED) if words[0] == "run" else ()
        place.tidemill(*words, *(("--env", "sample") if words[0] != "sql" else ()), *settings, exit_code=exit_code)
    rows = _sql(place, "SELECT model_version, to_state, actor, reason FROM ops.deployments ORDER BY seq")
    changes = [(row["model_version"], row["to_state"]) for row in rows]
    assert changes == [
        *((1, state) for state in ("CANDIDATE", "CHALLENGER", "CHAMPION")),
        (2, "CANDIDATE"), (2, "CHALLENGER"), (2, "CHAMPION"), (1, "RETIRED"),
        (1, "CHAMPION"), (2, "RETIRED"),
    ]  # fmt: skip
    assert (rows[5]["actor"], rows[5]["reason"]) == ("ada", "checked by hand")
    _run_python_example(place)
    versions = _sql(place, "SELECT DISTINCT model_version FROM gold.flight_delays_predictions_latest")
    assert versions == [{"model_version": 1}]
    assert set(place.table("gold.flight_delays_predictions")["model_version"]) == {1, 2}
    refused = place.run("--set", "training.tuner.seed=9", *QUICK, *REFUSED, exit_code=3)
    assert (refused["champion"], refused["exit_code"]) == (1, 3)
    gate = _sql(place, "SELECT gate, value, bound, passed FROM ops.gates WHERE model_version = 3")
    assert [(row["gate"], row["bound"], row["passed"]) for row in gate] == [("areaUnderROC >= 0.999", 0.999, False)]
    reigns = _sql(place, "SELECT model_version, valid_from, valid_to FROM ops.champion_at ORDER BY valid_from")
    assert [row["model_version"] for row in reigns] == [1, 2, 1]
    assert [row["valid_to"] for row in reigns] == [reigns[1]["valid_from"], reigns[2]["valid_from"], None]
    card = json.loads((Path(place.lake) / "models/flight_delays/2/model_card.json").read_text())
    assert (card["state"], [row["to_state"] for row in card["history"]][-1]) == ("RETIRED", "RETIRED")
