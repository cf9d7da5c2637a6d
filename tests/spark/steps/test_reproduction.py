"""A model made again from bronze on: equal on what its run read, different where someone has rewritten that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from tidemill.cli import main
from tidemill.errors import GateRefused, StepError, TableNotFound, UsageError
from tidemill.lake import Lake
from tidemill.lake.ops import GateRow, ImportanceRow, MetricRow
from tidemill.model_registry import Deployments
from tidemill.model_registry.evaluations import digest_evidence
from tidemill.model_registry.versions import restore_states, saved_versions
from tidemill.spec import load_spec
from tidemill.workflow import LazySpark, Runner
from tidemill.workflow.outcome import list_models
from tidemill.workflow.reproduction import copying
from tidemill.workflow.reproduction.copying import copy_version
from tidemill.workflow.reproduction.origin import find_version, trace_origin
from tidemill.workflow.reproduction.replay import replay
from tidemill.workflow.reproduction.verification import SampleScores, score_samples

SPEC = """\
pipeline: late
lake: {folder}/lake
sources:
  rows: {{format: csv, path: rows.csv, schema: "id INT, x DOUBLE, place STRING, is_late BOOLEAN", options: {{header: true}}}}
  places: {{format: csv, path: places.csv, schema: "place STRING, height DOUBLE", options: {{header: true}}}}
tables:
  rows: {{sql: "SELECT id, x, place, is_late FROM bronze.rows", key: [id]}}
dataset:
  sql: "SELECT r.*, p.height FROM silver.rows r JOIN bronze.places p USING (place)"
  key: [id]
  label: is_late
  split: {{by: hash, test: 0.25}}
features:
  numeric: {{columns: [x, height], scale: standard}}
training:
  task: binary
  folds: 2
  tuner: {{strategy: random, trials: 3, seed: 7}}
  models: {{logistic_regression: {{}}}}
evaluation: {{gates: ["areaUnderROC >= 0.5"], bootstrap: 0, importance: {{rows: 0, contributions: 0}}}}
"""
PLACES = {"north": 1.0, "south": -1.0, "west": 0.5, "east": 0.0}


def examples() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    x, places = rng.normal(size=300), rng.choice(list(PLACES), size=300)
    heights = np.array([PLACES[place] for place in places])
    is_late = x + heights + rng.normal(size=300) > 0
    return pd.DataFrame({"id": np.arange(300), "x": x.round(6), "place": places, "is_late": is_late})


@pytest.fixture(scope="session")
def finished(spark, tmp_path_factory) -> SimpleNamespace:
    """One run up to deploy, never changed."""
    folder = tmp_path_factory.mktemp("reproduction")
    examples().to_csv(folder / "rows.csv", index=False)
    pd.DataFrame({"place": list(PLACES), "height": list(PLACES.values())}).to_csv(folder / "places.csv", index=False)
    file = folder / "pipeline.yml"
    file.write_text(SPEC.format(folder=folder))
    spec = load_spec(file)
    runner = Runner(spec, LazySpark(lambda: spark))
    outcome = runner.run(runner.graph.select(end="deploy"))
    assert outcome.exit_code == 0, outcome
    return SimpleNamespace(outcome=outcome, lake=Lake(f"{folder}/lake"), spec=spec, file=file)


@pytest.fixture
def place(finished, spark, tmp_path: Path) -> SimpleNamespace:
    """A copy of the finished run's folder, with the times of its files."""
    folder = tmp_path / "copy"
    shutil.copytree(finished.file.parent, folder)
    file = folder / "pipeline.yml"
    file.write_text(SPEC.format(folder=folder))
    lake = Lake(f"{folder}/lake")
    return SimpleNamespace(file=file, spec=load_spec(file), lake=lake, spark=LazySpark(lambda: spark))


def rewrite_value(lake: Lake, table: str, column: str, old: object, new: object) -> None:
    """Change a value in the data file of a table, past Delta, as someone with an editor of Parquet files would."""
    path = next(Path(uri.removeprefix("file://")) for uri in DeltaTable(lake.path(table)).file_uris())
    rows = pq.read_table(path, partitioning=None)
    changed = pc.if_else(pc.equal(rows[column], pa.scalar(old)), pa.scalar(new), rows[column])
    pq.write_table(rows.set_column(rows.schema.get_field_index(column), column, changed), path)


class TestOrigin:
    def test_names_the_steps_and_the_tables_that_they_read(self, finished):
        origin = trace_origin(finished.spec, finished.lake, 1)
        assert [step.node.name for step in origin.steps] == ["prepare.rows", "dataset", "train"]
        assert origin.pinned == {"bronze.rows": 0, "bronze.places": 0}
        assert origin.run_id == finished.outcome.run_id

    def test_a_version_is_named_by_number_or_run_and_is_the_champion_by_default(self, finished):
        spec, lake = finished.spec, finished.lake
        assert (
            find_version(spec, lake) == find_version(spec, lake, version=1) == find_version(spec, lake, run_id=finished.outcome.run_id) == 1
        )
        with pytest.raises(UsageError, match=r"no model version 5 in .*; there are 1"):
            find_version(spec, lake, version=5)
        with pytest.raises(UsageError, match="no run r0"):
            find_version(spec, lake, run_id="r0")


class TestReplay:
    @pytest.mark.slow
    @pytest.mark.one_of("reproduction")
    def test_is_equal_on_the_pinned_versions_though_a_table_went_on(self, place, capsys, monkeypatch):
        DeltaTable(place.lake.path("bronze.rows")).update(predicate="id = 3", updates={"x": "99.0"})
        changed = place.file.read_text().replace("folds: 2", "folds: 3").replace("SELECT id, x,", "SELECT id, 2 * x AS x,")
        place.file.write_text(changed)
        monkeypatch.setattr("tidemill.pipeline.Pipeline._start_spark", lambda _: place.spark.get())
        assert main(["replay", str(place.file), "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert (result["state"], result["differences"], result["causes"]) == ("equal", [], [])
        tables = ("silver.rows", "gold.late_dataset", "splits")
        assert {name: result["compared"][name] for name in tables} == dict.fromkeys(tables, "equal")
        assert result["compared"]["trials"] == {"fits": 6, "greatest_difference": 0.0, "differing": 0}
        predictions = result["compared"]["predictions"]
        assert (predictions["rows"], predictions["differing"]) == (300, 0)
        assert predictions["greatest"] <= 1e-12
        spec, table = result["notes"]
        assert spec.startswith("the spec has changed since, and is used as it was: ")
        assert {"tables.rows.sql", "training.folds"} <= set(spec.partition(": ")[2].split(", "))
        assert table == "bronze.rows has changed since: the run read version 0, the latest is 1"
        assert not list(Path(place.lake.root, ".scratch").iterdir()), "the scratch lake is gone"
        assert place.lake.version("gold.late_dataset") == 0, "nothing is written to the lake itself"

    @pytest.mark.slow
    @pytest.mark.one_of("reproduction")
    def test_names_the_table_whose_rows_were_changed(self, place):
        rewrite_value(place.lake, "bronze.places", "height", -1.0, 3.0)
        result = replay(place.spec, place.lake, place.spark, 1)
        assert result.exit_code == 3
        assert [(cause.kind, cause.name) for cause in result.causes] == [("table", "bronze.places")]
        differing = {difference.what: difference.detail for difference in result.differences}
        south = (examples()["place"] == "south").sum()
        assert differing["gold.late_dataset"].startswith(f"{south} rows changed in height, such as id=")
        assert {"trials", "predictions"} <= set(differing)
        assert "splits" not in differing, "a key's split does not depend on its other columns"
        assert result.compared["silver.rows"] == "equal"

    def test_names_a_version_that_is_gone(self, place):
        for uri in DeltaTable(place.lake.path("bronze.rows")).file_uris():
            Path(uri.removeprefix("file://")).unlink()
        with pytest.raises(TableNotFound, match=r"bronze\.rows version 0 .* is gone"):
            replay(place.spec, place.lake, place.spark, 1)


@pytest.fixture
def target(place, tmp_path: Path) -> SimpleNamespace:
    """Another environment of the copied folder, whose lake is empty, and a way to score samples in this process."""
    folder = place.file.parent / "env"
    folder.mkdir()
    (folder / "production.yml").write_text(f"lake: {tmp_path}/production\n")
    spec = load_spec(place.file, env="production")

    def score(samples):
        return score_samples(place.spark.get(), samples)

    return SimpleNamespace(spec=spec, lake=Lake(spec.pipeline.lake), score=score)


def rows_of(lake: Lake, row_class, version: int) -> list[dict[str, object]]:
    """The rows of an ops table about a version, but for their numbers."""
    rows = [row.cells() for row in lake.ledger.read(row_class, model_version=version)]
    return [{name: cell for name, cell in row.items() if name not in ("seq", "model_version")} for row in rows]


class TestCopy:
    def test_brings_model_and_evidence_once(self, place, target):
        copied = copy_version(place.lake, 1, target.spec, place.spark, actor="ann", score_samples=target.score)
        assert (copied.is_new, copied.target_version, copied.state, copied.sample_rows) == (True, 1, "CHALLENGER", 100)
        source, new = (Path(lake.root, "models/late/1") for lake in (place.lake, target.lake))
        files = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and not path.name.startswith(".")}
        for path in files - {Path("model.json"), Path("states.json"), Path("evidence/evaluation.json")}:
            assert (new / path).read_bytes() == (source / path).read_bytes(), path
        for row_class in (MetricRow, GateRow, ImportanceRow):
            assert rows_of(target.lake, row_class, 1) == rows_of(place.lake, row_class, 1) != [], row_class
        changes = [(row.to_state, row.actor) for row in Deployments(target.lake.ledger, "late").rows()]
        assert changes == [("CANDIDATE", "ann"), ("CHALLENGER", "ann")]
        evidence = json.loads(Deployments(target.lake.ledger, "late").rows()[0].evidence)
        assert evidence["copied_from"]["version"] == 1
        assert [change["to_state"] for change in evidence["history"]] == ["CANDIDATE", "CHALLENGER", "CHAMPION"]

        assert digest_evidence(target.lake, "late", 1), "an approval can bind to the evidence that the copy brings"

        with pytest.raises(StepError, match=r"was copied into .*; replay it in the lake it comes from"):
            replay(target.spec, target.lake, place.spark, 1)

        before = {
            path: path.stat().st_mtime_ns for path in Path(target.lake.root).rglob("*") if ".locks" not in path.parts and path.is_file()
        }
        again = copy_version(place.lake, 1, target.spec, place.spark, actor="bob", score_samples=target.score)
        assert (again.is_new, again.target_version, again.state) == (False, 1, "CHALLENGER")
        after = {
            path: path.stat().st_mtime_ns for path in Path(target.lake.root).rglob("*") if ".locks" not in path.parts and path.is_file()
        }
        assert after == before, "a second copy writes nothing"

    @pytest.mark.parametrize("last", ["_copy_files", "_compare_samples", "_copy_rows"])
    def test_a_killed_copy_is_not_visible_and_the_next_one_goes_on(self, place, target, monkeypatch, last):
        """The process dies right after one of the phases."""
        whole = getattr(copying, last)

        def die(*arguments):
            whole(*arguments)
            raise KeyboardInterrupt

        def score(samples):
            return [SampleScores(100, None) for _ in samples]

        with monkeypatch.context() as patched:
            patched.setattr(copying, last, die)
            with pytest.raises(KeyboardInterrupt):
                copy_version(place.lake, 1, target.spec, place.spark, actor="ann", score_samples=score)
        assert Deployments(target.lake.ledger, "late").states() == {}
        assert list_models(target.lake.ledger, "late") == []
        restore_states(target.lake, "late")  # as the start of every run does
        assert Deployments(target.lake.ledger, "late").states() == {}
        copied = copy_version(place.lake, 1, target.spec, place.spark, actor="ann", score_samples=score)
        assert (copied.target_version, copied.state) == (1, "CHALLENGER")
        assert rows_of(target.lake, MetricRow, 1) == rows_of(place.lake, MetricRow, 1)

    def test_another_prediction_on_either_side_leaves_nothing(self, place, target):
        def score(samples):
            return [SampleScores(100, None), SampleScores(100, "probability of the row id 3 was 0.2 and is 0.7 now")]

        with pytest.raises(StepError, match=r"model 1 of late in .*production does not predict .* id 3"):
            copy_version(place.lake, 1, target.spec, place.spark, actor="ann", score_samples=score)
        assert saved_versions(target.lake, "late") == []
        assert Deployments(target.lake.ledger, "late").states() == {}

    def test_one_lake_is_not_copied_to_itself(self, place):
        with pytest.raises(UsageError, match="has the same lake"):
            copy_version(place.lake, 1, place.spec, place.spark, actor="ann")

    @pytest.mark.slow
    @pytest.mark.one_of("reproduction")
    def test_the_gates_of_the_target_decide(self, place, target):
        """The target has a dataset of its own; its gates are those of the overlay, and the copy becomes champion at once."""
        runner = Runner(target.spec, place.spark)
        assert runner.run(runner.graph.select(end="dataset")).exit_code == 0
        copied = copy_version(place.lake, 1, target.spec, place.spark, actor="ann", gates=True)
        assert (copied.state, Deployments(target.lake.ledger, "late").champion()) == ("CHAMPION", 1)
        strict = load_spec(
            place.file, env="production", set_values={"lake": f"{target.lake.root}-2", "evaluation.gates": '["areaUnderROC >= 0.9999"]'}
        )
        runner = Runner(strict, place.spark)
        assert runner.run(runner.graph.select(end="dataset")).exit_code == 0
        with pytest.raises(GateRefused, match=r"areaUnderROC >= 0\.9999"):
            copy_version(place.lake, 1, strict, place.spark, actor="ann", gates=True, score_samples=target.score)
        assert Deployments(Lake(strict.pipeline.lake).ledger, "late").states() == {1: "REJECTED"}
