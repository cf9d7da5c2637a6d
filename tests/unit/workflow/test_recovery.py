"""Runs over lakes that lost commits, files, folders or models, with steps that write real tables without Spark."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from tests.tiers import parametrize_product

from tidemill.lake import Lake
from tidemill.model_registry import Deployments, Manifest
from tidemill.model_registry.versions import next_version
from tidemill.spec import load_spec
from tidemill.steps.result import StepContext, StepResult
from tidemill.workflow import LazySpark, Runner
from tidemill.workflow import runner as runner_module

SPEC = """\
pipeline: p
lake: ./lake
sources:
  planes: {format: csv, path: planes.csv, schema: "tail STRING, late INT"}
tables:
  planes: {sql: "SELECT * FROM bronze.planes", key: [tail]}
dataset: {from: silver.planes, key: [tail], label: late}
training: {task: binary}
"""
NODES = {
    "bronze.planes": "ingest.planes",
    "silver.planes": "prepare.planes",
    "silver.planes_quarantine": "prepare.planes",
    "gold.p_dataset": "dataset",
    "gold.p_predictions": "score",
}
TABLES = {"ingest": "bronze.planes", "prepare": "silver.planes", "dataset": "gold.p_dataset", "score": "gold.p_predictions"}


def _step(context: StepContext) -> StepResult:
    """Write three rows where a table is to be written, a model where one is to be trained."""
    lake, step = context.lake, context.node.partition(".")[0]
    deployments = Deployments(lake.ledger, "p")
    if step in TABLES:
        for table in (f"{TABLES[step]}_quarantine", TABLES[step]) if step == "prepare" else (TABLES[step],):
            rows = pa.table({"tail": ["a", "b", "c"], "model_version": pa.array([1, 1, 1], pa.int32())})
            properties = CommitProperties(custom_metadata={"userMetadata": json.dumps(context.meta())})
            write_deltalake(lake.path(table), rows, mode="overwrite", commit_properties=properties)
        return StepResult({TABLES[step]: int(lake.version(TABLES[step]) or 0)}, rows_in=3, rows_out=3)
    if step == "train":
        version = next_version(lake, "p")
        manifest = Manifest("p", version, "binary", "lr", {}, "areaUnderPR", 0.5, [0, 1], "int", 1, {}, context.run_id, 0)
        lake.write_text(f"models/p/{version}/model.json", manifest.to_json())
        deployments.move(version, "CANDIDATE", run_id=context.run_id, reason="trained")
        return StepResult({"models.p": version}, rows_in=3, rows_out=3)
    if step in ("evaluate", "deploy"):
        version = context.inputs["models.p"]
        deployments.move(version, "CHALLENGER" if step == "evaluate" else "CHAMPION", run_id=context.run_id, reason=step)
        return StepResult({"models.p": version})
    return StepResult()


def _stand_in_for_steps(monkeypatch):
    monkeypatch.setattr(runner_module, "STEP_FUNCTIONS", dict.fromkeys(runner_module.STEP_FUNCTIONS, _step))
    monkeypatch.setattr(
        Runner,
        "_context",
        lambda self, node, decision: StepContext(None, self.spec, self.lake, decision.inputs, self.run_id, node.name),  # type: ignore[arg-type]
    )


def _run(folder: Path, **selection: str):
    runner = Runner(load_spec(folder / "p.yml"), LazySpark(lambda: pytest.fail("a JVM was asked for")))
    return runner.run(runner.graph.select(**selection))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a lake that two runs have left behind, the second with nothing to do; and a copy of it."""
    folder = tmp_path_factory.mktemp("whole") / "p"
    folder.mkdir()
    (folder / "planes.csv").write_text("tail,late\nN1,1\n")
    (folder / "p.yml").write_text(SPEC)
    with pytest.MonkeyPatch.context() as monkeypatch:
        _stand_in_for_steps(monkeypatch)
        assert _run(folder).exit_code == 0
        assert [step.state for step in _run(folder).steps] == ["SKIPPED"] * 8
    shutil.copytree(folder, folder.with_name("copy"))
    return folder


@pytest.fixture
def run(monkeypatch, whole):
    """Run the pipeline, or a part of it, in the folder as it was at first, and return the outcome."""
    shutil.rmtree(whole)
    shutil.copytree(whole.with_name("copy"), whole)
    _stand_in_for_steps(monkeypatch)
    return lambda **selection: _run(whole, **selection)


@pytest.fixture
def lake(run, whole):
    return Lake(str(whole / "lake"))


def _last_entry(lake, table: str) -> Path:
    return sorted((Path(lake.path(table)) / "_delta_log").glob("*.json"))[-1]


def _damage(entry: Path, how: str) -> None:
    content = entry.read_bytes()
    entry.unlink() if how == "removed" else entry.write_bytes(b"" if how == "emptied" else content[: len(content) // 2])


def _ran(outcome) -> list[str]:
    return [step.node for step in outcome.steps if step.state == "SUCCEEDED"]


@parametrize_product(("table", "how"), NODES, ["emptied", "cut", "removed"])
def test_lost_commit_is_made_again_by_its_step_and_what_reads_it_follows(run, lake, table, how):
    _damage(_last_entry(lake, table), how)
    outcome = run()
    assert outcome.exit_code == 0
    node = NODES[table]
    assert _ran(outcome)[0] == node
    assert DeltaTable(lake.path(table)).to_pyarrow_table().num_rows == 3
    row = lake.ledger.rows("ops.steps", node=node)[-1]
    assert (row["outputs"][table], row["output_rows"][table]) == (lake.version(table), 3)
    assert lake.version(table) > 0, "version 0 meant the lost rows"
    assert _ran(run()) == []


def test_damage_is_told_where_the_run_repairs_it(run, lake):
    entry = _last_entry(lake, "silver.planes")
    # A second commit, so that there is a whole version before the lost one.
    Path(lake.root).parent.joinpath("planes.csv").write_text("tail,late\nN1,1\nN2,0\n")
    run()
    entry = _last_entry(lake, "silver.planes")
    entry.write_bytes(b"")
    [prepare] = [step for step in run().steps if step.node == "prepare.planes"]
    assert f"silver.planes was damaged: {entry} is empty" in prepare.notes[0]


def test_a_run_of_a_later_step_alone_names_the_damage_and_who_repairs_it(run, lake):
    write_deltalake(lake.path("silver.planes"), pa.table({"tail": ["z"], "model_version": pa.array([1], pa.int32())}), mode="append")
    _last_entry(lake, "silver.planes").write_bytes(b"")
    Path(lake.root).parent.joinpath("p.yml").write_text(SPEC.replace("task: binary", "task: binary, folds: 4"))
    [dataset] = run(only="dataset").steps
    assert dataset.exit_code == 1
    assert "dataset reads silver.planes: silver.planes is damaged: " in str(dataset.error)
    assert "is empty" in str(dataset.error)
    assert "run prepare.planes first" in str(dataset.error)


@pytest.mark.parametrize("layer", ["bronze/planes", "silver/planes", "gold/p_dataset", "gold/p_predictions"])
def test_deleted_table_is_made_again_under_a_version_of_its_own(run, lake, layer):
    shutil.rmtree(Path(lake.root) / layer)
    assert run().exit_code == 0
    assert lake.version(layer.replace("/", ".")) == 1
    assert _ran(run()) == []


@parametrize_product(("table", "how"), ["deployments", "steps", "runs"], ["gone", "emptied", "cut", "removed"])
def test_lost_ops_table_costs_no_champion_and_no_model(run, lake, table, how):
    home = Path(lake.root) / "ops" / table
    before = (Path(lake.root) / "models" / "p" / "1" / "model.json").read_bytes()
    if how == "gone":
        shutil.rmtree(home)
    else:
        _damage(_last_entry(lake, f"ops.{table}"), how)
    outcome = run()
    assert outcome.exit_code == 0
    assert outcome.champion is not None
    assert (Path(lake.root) / "models" / "p" / "1" / "model.json").read_bytes() == before
    assert Deployments(lake.ledger, "p").states()[outcome.champion] == "CHAMPION"
    if table == "deployments":
        assert (outcome.champion, _ran(outcome)) == (1, [])
    assert _ran(run()) == []


def test_lost_ledger_leaves_model_and_states_and_the_next_model_has_the_next_number(run, lake):
    before = (Path(lake.root) / "models" / "p" / "1" / "model.json").read_bytes()
    shutil.rmtree(Path(lake.root) / "ops")
    assert run().champion == 2
    assert (Path(lake.root) / "models" / "p" / "1" / "model.json").read_bytes() == before
    assert Deployments(lake.ledger, "p").states() == {1: "RETIRED", 2: "CHAMPION"}


@pytest.mark.parametrize("how", ["models gone", "version gone", "cut", "another's"])
def test_lost_champion_is_retired_by_name_and_another_is_trained(run, lake, how):
    models = Path(lake.root) / "models"
    file = models / "p" / "1" / "model.json"
    if how.endswith("gone"):
        shutil.rmtree(models if how == "models gone" else models / "p" / "1")
    else:
        file.write_text(file.read_text()[:50] if how == "cut" else file.read_text().replace('"version": 1', '"version": 9'))
    outcome = run()
    assert (outcome.exit_code, outcome.champion) == (0, 2)
    assert _ran(outcome) == ["train", "evaluate", "deploy", "score", "monitor"]
    assert f"{file}" in outcome.steps[0].notes[0]
    assert Deployments(lake.ledger, "p").states() == {1: "RETIRED", 2: "CHAMPION"}
    assert _ran(run()) == []


def test_run_without_training_leaves_the_champion_and_names_what_is_wrong(run, lake):
    (Path(lake.root) / "models" / "p" / "1" / "model.json").write_text("{}")
    run(only="score")
    assert Deployments(lake.ledger, "p").champion() == 1
