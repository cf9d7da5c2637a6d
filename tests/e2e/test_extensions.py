"""One extension of each kind from outside the repository: a pipeline runs with all of them, by dotted path and by entry point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable

from tidemill.cli.app import main
from tidemill.spec import load_spec
from tidemill.workflow import build_graph
from tidemill.workflow.fingerprint import fingerprint_definition

pytestmark = pytest.mark.e2e

CODE = Path(__file__).with_name("own_extensions.py")
NAMES = {
    "sources": ("measurements", "Measurements"),
    "expectations": ("not_negative", "NotNegative"),
    "feature_groups": ("squares", "SquareGroup"),
    "families": ("ridge", "RIDGE"),
    "metrics": ("cost", "Cost"),
    "tasks": ("rare_event", "RareEvent"),
    "engines": ("all_on_cluster", "AllOnCluster"),
    "drift": ("total_variation", "total_variation"),
}
ROWS = 600


def write_spec(folder: Path, name: Callable[[str], str]) -> Path:
    """Write a spec that names an extension of each kind by ``name(kind)``."""
    cost = name("metrics")
    spec = {
        "pipeline": "own",
        "lake": str(folder / "lake"),
        "sources": {"m": {"format": name("sources"), "options": {"rows": ROWS}}},
        "tables": {
            "m": {
                "sql": "SELECT * FROM bronze.m",
                "key": ["id"],
                "expectations": {"sign": {name("expectations"): "x", "on_violation": "drop"}},
            }
        },
        "dataset": {"from": "silver.m", "key": ["id"], "label": "y", "split": {"by": "hash", "test": 0.3}},
        "features": {"numeric": {"columns": ["x"]}, name("feature_groups"): {"columns": ["x"], "offset": 1.0}},
        "training": {
            "task": name("tasks"),
            "metric": cost,
            "engine": name("engines"),
            "folds": 2,
            "models": {name("families"): {}},
            "tuner": {"trials": 2},
        },
        "evaluation": {"gates": [f"{cost} < baseline.{cost}", "logLoss < 0.6"]},
        "monitoring": {"drift": {"method": name("drift"), "warn": 0.2, "alert": 0.4}},
    }
    file = folder / "pipeline.yml"
    file.write_text(json.dumps(spec))
    return file


def read(folder: Path, table: str) -> pd.DataFrame:
    return DeltaTable(str(folder / "lake" / table.replace(".", "/"))).to_pandas()


def check_lake(folder: Path, name: Callable[[str], str]) -> None:
    """Compare what each extension wrote with the rows as pandas computes them."""
    numbers = pd.Series(range(ROWS))
    assert len(read(folder, "bronze.m")) == ROWS
    [expectation] = read(folder, "ops.expectations").query("expectation == 'sign'").to_dict("records")
    assert (expectation["rows_checked"], expectation["rows_failed"]) == (ROWS, int((numbers % 50 == 49).sum()))
    trials = read(folder, "ops.trials")
    assert {(row.metric, row.family, row.engine, row.state) for row in trials.itertuples()} == {
        (name("metrics"), name("families"), "spark", "SUCCEEDED")
    }
    assert (trials["value"] < 2).all() and len(trials) == 4
    assert sorted(read(folder, "ops.importances")["slot"].dropna()) == ["x", "x.square"]

    dataset, predictions = read(folder, "gold.own_dataset"), read(folder, "gold.own_predictions")
    test = dataset[dataset["split"] == "test"].merge(predictions[["id", "prediction"]], on="id")
    cost = (5 * (test["y"] & ~test["prediction"]) + (~test["y"] & test["prediction"])).mean()
    metrics = read(folder, "ops.metrics").set_index(["model_version", "metric"])["value"]
    assert metrics[1, name("metrics")] == pytest.approx(cost, rel=1e-12)
    assert metrics[1, name("metrics")] < metrics[0, name("metrics")]
    states = read(folder, "ops.deployments").sort_values("seq")["to_state"].tolist()
    assert states == ["CANDIDATE", "CHALLENGER", "CHAMPION"]
    assert set(read(folder, "ops.drift")["method"]) == {name("drift")}


@pytest.mark.long("runs a whole pipeline")
def test_by_dotted_path(spark, tmp_path: Path) -> None:
    shutil.copy(CODE, tmp_path / "functions.py")

    def name(kind: str) -> str:
        return f"functions.{NAMES[kind][1]}"

    file = write_spec(tmp_path, name)
    assert main(["check", str(file)]) == 0
    assert main(["run", str(file)]) == 0
    check_lake(tmp_path, name)
    assert main(["trials", str(file)]) == 0


def test_code_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    """Each node depends on the code of its own extensions, and on nothing else of the file."""
    for _, attribute in NAMES.values():
        (tmp_path / f"{attribute.lower()}.py").write_text(CODE.read_text())
    file = write_spec(tmp_path, lambda kind: f"{NAMES[kind][1].lower()}.{NAMES[kind][1]}")
    nodes = build_graph(load_spec(file)).nodes

    def definitions() -> dict[str, str]:
        spec = load_spec(file)
        return {node.name: fingerprint_definition(spec, node) for node in nodes}

    depends = {
        "sources": {"ingest.m"},
        "expectations": {"prepare.m"},
        "feature_groups": {"train"},
        "families": {"train"},
        "metrics": {"train", "evaluate"},
        "tasks": {"train", "evaluate"},
        "engines": {"train"},
        "drift": {"monitor"},
    }
    for kind, expected in depends.items():
        before = definitions()
        with (tmp_path / f"{NAMES[kind][1].lower()}.py").open("a") as code:
            code.write("# another line\n")
        assert {name for name, text in definitions().items() if text != before[name]} == expected, kind


@pytest.mark.slow("starts processes of its own")
@pytest.mark.one_of("extensions")
def test_by_entry_point(tmp_path: Path) -> None:
    site, project = tmp_path / "site", tmp_path / "project"
    (site / "own_package").mkdir(parents=True)
    project.mkdir()
    shutil.copy(CODE, site / "own_package" / "__init__.py")
    metadata = site / "own_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: own-package\nVersion: 1.0\n")
    points = [f"[tidemill.{kind}]\n{point} = own_package:{attribute}\n" for kind, (point, attribute) in NAMES.items()]
    (metadata / "entry_points.txt").write_text("\n".join(points))

    def name(kind: str) -> str:
        return NAMES[kind][0]

    file = write_spec(project, name)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])}
    for words in (["check"], ["run"]):
        command = [sys.executable, "-m", "tidemill", *words, str(file)]
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=500)
        assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    check_lake(project, name)
