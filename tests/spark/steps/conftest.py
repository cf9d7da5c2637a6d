"""What tests of steps begin with: a source to ingest; a small trained pipeline with a model that ranks well and one that ranks wrongly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.spark.tables import write_table

from tidemill.lake import Lake
from tidemill.model_registry import Deployments, Manifest, read_manifest, save_model
from tidemill.model_registry.sample import take_sample, to_parquet
from tidemill.model_registry.versions import next_version
from tidemill.spec import load_spec
from tidemill.steps.ingest.step import ingest
from tidemill.steps.result import StepContext, StepResult
from tidemill.workflow import LazySpark, Runner

SPEC = {
    "pipeline": "late",
    "sources": {"raw": {"format": "csv", "path": "raw.csv", "options": {"header": True, "nullValue": "NA"}}},
    "dataset": {"from": "silver.rows", "key": ["id"], "label": "is_late", "event_time": "seen_at"},
    "training": {"task": "binary"},
}


def examples() -> pd.DataFrame:
    """Rows 0–39 train, 40–59 test; one label in ten is unknown; a greater x means late more often."""
    rng = np.random.default_rng(4)
    n = 60
    x = rng.normal(size=n)
    label = np.where(np.arange(n) % 10 == 9, None, x + 0.7 * rng.normal(size=n) > 0)
    return pd.DataFrame(
        {
            "id": np.arange(n),
            "x": x,
            "carrier": np.where(np.arange(n) % 3 == 0, "AA", "UA"),
            "is_late": [None if value is None else bool(value) for value in label],
            "split": np.where(np.arange(n) < 40, "train", "test"),
            "fold": np.where(np.arange(n) < 40, np.arange(n) % 3, None),
        }
    )


@pytest.fixture(scope="session")
def whole_pipeline(spark) -> Callable[[Path, str, pd.DataFrame], SimpleNamespace]:
    """Run all steps in a folder: of the spec's text, which names it as ``{folder}``, over the rows of ``rows.csv`` there."""

    def run(folder: Path, text: str, rows: pd.DataFrame) -> SimpleNamespace:
        rows.to_csv(folder / "rows.csv", index=False)
        file = folder / "pipeline.yml"
        file.write_text(text.format(folder=folder))
        spec = load_spec(file)
        runner = Runner(spec, LazySpark(lambda: spark))
        outcome = runner.run(runner.graph.select())
        return SimpleNamespace(outcome=outcome, lake=Lake(f"{folder}/lake"), spec=spec, file=file)

    return run


@pytest.fixture(scope="session")
def score_input(spark) -> Callable[..., pd.DataFrame]:
    """Score an input (a file or a table) as the command does; returns the answers."""
    from tidemill.steps.score.entry import find_entry
    from tidemill.steps.score.rows import score_input_rows

    def score(spec: Any, lake: Lake, given: object, **where: str) -> pd.DataFrame:
        with score_input_rows(spark, spec, lake, find_entry(spec, lake, str(given), **where)) as scored:
            rows = [row.asDict() for row in scored.frame.collect()]
            return pd.DataFrame(rows, columns=scored.frame.columns, dtype=object)

    return score


@pytest.fixture(scope="session")
def fitted(spark):
    """The two models: `good` fitted on the labels, `bad` on their opposite."""
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.feature import RFormula

    rows = examples()
    rows = rows[(rows["split"] == "train") & rows["is_late"].notna()]
    models = {}
    for name, sign in (("good", 1.0), ("bad", -1.0)):
        frame = pd.DataFrame({"x": rows["x"], "carrier": rows["carrier"], "label": (rows["is_late"].astype(float) - 0.5) * sign + 0.5})
        formula = RFormula(formula="label ~ x + carrier", handleInvalid="keep")
        models[name] = Pipeline(stages=[formula, LogisticRegression(regParam=0.01)]).fit(spark.createDataFrame(frame))
    return models


def manifest(name: str, version: int, dataset_version: int) -> Manifest:
    """Return the manifest of one of the two models."""
    return Manifest(
        pipeline="late",
        version=version,
        task="binary",
        family=f"logistic_regression_{name}",
        params={"regParam": 0.01},
        metric="areaUnderPR",
        cv_value=0.8,
        classes=[False, True],
        label_type="boolean",
        positive=True,
        feature_columns={"x": "double", "carrier": "string"},
        run_id="r0",
        dataset_version=dataset_version,
    )


@pytest.fixture(scope="session")
def template(spark, fitted, tmp_path_factory) -> Lake:
    """A lake with the dataset and both models (1 good, 2 bad), made once and copied for each test."""
    lake = Lake(str(tmp_path_factory.mktemp("template") / "lake"))
    rows = [
        (int(row.id), float(row.x), row.carrier, row.is_late, row.split, None if row.fold is None else int(row.fold))
        for row in examples().itertuples()
    ]
    frame = spark.createDataFrame(rows, "id bigint, x double, carrier string, is_late boolean, split string, fold int")
    frame = frame.selectExpr("*", "timestamp '2013-01-01' + make_dt_interval(0, id) AS seen_at")
    version = write_table(lake, frame, "gold.late_dataset")
    for number, name in enumerate(("good", "bad"), start=1):
        sample = to_parquet(take_sample(fitted[name], manifest(name, number, version), frame, ["id"], "is_late"))
        save_model(lake, fitted[name], manifest(name, number, version), sample)
    return lake


@dataclass
class Trained:
    """A lake with the dataset and saved model versions, and the contexts of the steps behind training."""

    spark: Any
    lake: Any
    template: Any
    make_context: Any
    spec: dict = field(default_factory=lambda: dict(SPEC))
    dataset_version: int = 0

    def __post_init__(self) -> None:
        """Copy the dataset."""
        shutil.copytree(self.template.path("gold.late_dataset"), self.lake.path("gold.late_dataset"))
        self.dataset_version = self.lake.version("gold.late_dataset")

    @property
    def deployments(self) -> Deployments:
        """The pipeline's deployments."""
        return Deployments(self.lake.ledger, "late")

    def train(self, name: str = "good", *states: str) -> int:
        """Save a model as the next version and move it from CANDIDATE on through ``states``."""
        version, original = next_version(self.lake, "late"), 1 if name == "good" else 2
        folder = Path(self.lake.root) / "models" / "late" / str(version)
        folder.mkdir(parents=True)
        # The same folder for all tests, so that a model is loaded once.
        (folder / "spark").symlink_to(Path(self.template.root) / "models" / "late" / str(original) / "spark")
        shutil.copy(Path(self.template.root) / "models" / "late" / str(original) / "sample.parquet", folder)
        first = read_manifest(self.template, "late", original)
        whole = replace(manifest(name, version, self.dataset_version), files=first.files, sample=first.sample)
        self.lake.write_text(f"models/late/{version}/model.json", whole.to_json())
        for state in ("CANDIDATE", *states):
            self.deployments.move(version, state, run_id="r0", reason="test")
        return version

    def context(self, node: str, version: int, run_id: str = "r1", **inputs: int) -> Any:
        """Return the context of a step for a model version."""
        pinned = {"models.late": version, "gold.late_dataset": self.dataset_version, **inputs}
        return self.make_context(self.spec, node, pinned, run_id)

    def states(self) -> dict[int, str]:
        """Return the state of each version."""
        return self.deployments.states()


@pytest.fixture
def trained(spark, lake, template, make_context) -> Trained:
    """A lake that holds the dataset; models are saved by ``trained.train``."""
    return Trained(spark, lake, template, make_context)


class KilledError(Exception):
    """Stands for a process that dies here."""


@pytest.fixture
def killed(monkeypatch) -> Callable[[type, str], AbstractContextManager[None]]:
    """The process dies inside the block, where it calls the method of this name."""

    @contextmanager
    def _killed(owner: type, name: str) -> Iterator[None]:
        def die(*args: object, **kwargs: object) -> None:
            raise KilledError

        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(owner, name, die)
            yield

    return _killed


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """The folder of the source's files."""
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.fixture
def declared(raw: Path) -> dict[str, object]:
    """The source ``x`` where a test says nothing else; a file of tests may have its own."""
    return {"format": "csv", "path": str(raw), "schema": "id INT, name STRING", "options": {"header": True}, "load": "incremental"}


@pytest.fixture
def ingest_context(make_context, declared, lake, tmp_path: Path) -> Callable[..., StepContext]:
    """Make the context of ``ingest.x`` in a run of its own, and write its spec to ``pipeline.yml``; a source with a URL has no files."""

    def _ingest_context(run_id: str = "r1", replay: str | None = None, **source: object) -> StepContext:
        spec = {
            "pipeline": "p",
            "lake": lake.root,
            "sources": {"x": ({"load": declared["load"]} if "url" in source else declared) | source},
            "dataset": {"from": "bronze.x", "key": ["id"], "label": "label"},
            "training": {"task": "binary"},
        }
        (tmp_path / "pipeline.yml").write_text(json.dumps(spec))
        return replace(make_context(spec, "ingest.x", run_id=run_id), replay=replay)

    return _ingest_context


@pytest.fixture
def load(ingest_context) -> Callable[..., StepResult]:
    """Ingest the source ``x`` in a run of its own."""
    return lambda *args, **source: ingest(ingest_context(*args, **source))


@pytest.fixture(autouse=True)
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs end without MLflow, which has tests of its own."""
    monkeypatch.setattr("tidemill.workflow.mlflow_projection.is_projected", lambda *_: True)
