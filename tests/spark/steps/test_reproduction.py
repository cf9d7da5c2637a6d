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
from tidemill.errors import TableNotFound, UsageError
from tidemill.lake import Lake
from tidemill.spec import load_spec
from tidemill.workflow import LazySpark, Runner
from tidemill.workflow.reproduction.origin import find_version, trace_origin
from tidemill.workflow.reproduction.replay import replay

SPEC = """\
pipeline: late
lake: {folder}/lake
sources:
  rows: {{format: csv, path: rows.csv, schema: "id INT, x DOUBLE, place STRING, is_late BOOLEAN", options: {{header: true}}}}
  places: {{format: csv, path: places.csv, schema: "place STRING, height DOUBLE", options: {{header: true}}}}
tables:
  rows: {{sql: "SELECT id, x, place, is_late FROM bronze.rows", key: [id]}}
  places: {{sql: "SELECT place, height FROM bronze.places", key: [place]}}
dataset:
  sql: "SELECT r.*, p.height FROM silver.rows r JOIN silver.places p USING (place)"
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
evaluation: {{gates: ["areaUnderROC >= 0.5"]}}
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
        assert [step.node.name for step in origin.steps] == ["prepare.rows", "prepare.places", "dataset", "train"]
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
    @pytest.mark.long("prepares, builds the dataset and trains again")
    def test_is_equal_on_the_pinned_versions_though_a_table_went_on(self, place, capsys, monkeypatch):
        DeltaTable(place.lake.path("bronze.rows")).update(predicate="id = 3", updates={"x": "99.0"})
        monkeypatch.setattr("tidemill.pipeline.Pipeline._start_spark", lambda _: place.spark.get())
        assert main(["replay", str(place.file), "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert (result["state"], result["differences"], result["causes"]) == ("equal", [], [])
        tables = ("silver.rows", "silver.places", "gold.late_dataset", "splits")
        assert {name: result["compared"][name] for name in tables} == dict.fromkeys(tables, "equal")
        assert result["compared"]["trials"] == {"fits": 6, "greatest_difference": 0.0, "differing": 0}
        predictions = result["compared"]["predictions"]
        assert (predictions["rows"], predictions["differing"]) == (300, 0)
        assert predictions["greatest"] <= 1e-12
        assert result["notes"] == ["bronze.rows has changed since: the run read version 0, the latest is 1"]
        assert not list(Path(place.lake.root, ".scratch").iterdir()), "the scratch lake is gone"
        assert place.lake.version("gold.late_dataset") == 0, "nothing is written to the lake itself"

    @pytest.mark.long("prepares, builds the dataset and trains again")
    def test_names_the_table_whose_rows_were_changed(self, place):
        rewrite_value(place.lake, "bronze.places", "height", -1.0, 3.0)
        result = replay(place.spec, place.lake, place.spark, 1)
        assert result.exit_code == 3
        assert [(cause.kind, cause.name) for cause in result.causes] == [("table", "bronze.places")]
        differing = {difference.what: difference.detail for difference in result.differences}
        south = (examples()["place"] == "south").sum()
        assert differing["silver.places"] == "1 rows changed in height, such as place=south"
        assert differing["gold.late_dataset"].startswith(f"{south} rows changed in height, such as id=")
        assert {"trials", "predictions"} <= set(differing)
        assert "splits" not in differing, "a key's split does not depend on its other columns"
        assert result.compared["silver.rows"] == "equal"

    def test_names_a_version_that_is_gone(self, place):
        for uri in DeltaTable(place.lake.path("bronze.rows")).file_uris():
            Path(uri.removeprefix("file://")).unlink()
        with pytest.raises(TableNotFound, match=r"bronze\.rows version 0 .* is gone"):
            replay(place.spec, place.lake, place.spark, 1)
