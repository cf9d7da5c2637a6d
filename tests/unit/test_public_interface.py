"""The Python interface: what `tidemill` exports, and what works without Spark."""

from __future__ import annotations

import inspect
import subprocess
import sys
from datetime import UTC, datetime

import pytest

import tidemill as tm
from tidemill.lake.ops import RunRow, TrialRow

SPEC = """\
pipeline: tiny
lake: {folder}/lake
sources:
  planes: {{format: csv, path: {folder}/planes.csv, schema: "tail STRING, seats INT, late BOOLEAN"}}
dataset: {{from: bronze.planes, key: [tail], label: late}}
training: {{task: binary, folds: 2}}
"""
NODES = ("ingest.planes", "dataset", "train", "evaluate", "deploy", "score", "monitor")
METHODS = {
    "run", "check", "explain", "status", "trials", "models", "champion", "deployments", "score", "sql", "quarantine", "features",
    "approve", "promote", "rollback", "champions", "card",
}  # fmt: skip


@pytest.fixture
def pipeline(tmp_path):
    (tmp_path / "pipeline.yml").write_text(SPEC.format(folder=tmp_path))
    (tmp_path / "planes.csv").write_text("tail,seats,late\nN1,10,true\nN2,20,false\n")
    return tm.load(tmp_path)


class TestExports:
    def test_names_are_those_that_are_documented(self):
        assert set(tm.__all__) == {
            "__version__", "load", "Pipeline", "CheckResult", "RunOutcome", "RunStatus", "TidemillError", "SpecError", "UsageError",
            "SetupError", "TableNotFound", "SourceError", "StepError", "LakeError", "RefusedError", "ExpectationRefused", "GateRefused",
            "ApprovalRequired", "ChangedMeanwhile",
        }  # fmt: skip
        assert all(getattr(tm, name) is not None for name in tm.__all__)

    def test_pipeline_has_the_documented_methods_with_docstrings_and_types(self):
        for name in METHODS:
            method = getattr(tm.Pipeline, name)
            assert inspect.getdoc(method), name
            assert inspect.signature(method).return_annotation is not inspect.Signature.empty, name

    def test_import_needs_neither_spark_nor_pandas(self):
        code = "import sys, tidemill as tm; tm.load; print(sorted({'pyspark', 'pandas', 'sklearn', 'mlflow'} & set(sys.modules)))"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


class TestLoad:
    def test_takes_a_folder_and_values(self, pipeline, tmp_path):
        assert pipeline.name == "tiny"
        assert pipeline.spec.pipeline.training.folds == 2
        changed = tm.load(tmp_path / "pipeline.yml", set={"training.folds": 4, "dataset.key": ["tail", "seats"]})
        assert changed.spec.pipeline.training.folds == 4
        assert changed.spec.pipeline.dataset.key == ["tail", "seats"]

    def test_names_every_fault(self, tmp_path):
        (tmp_path / "pipeline.yml").write_text(SPEC.format(folder=tmp_path).replace("label:", "lable:").replace("folds: 2", "folds: two"))
        with pytest.raises(tm.SpecError) as raised:
            tm.load(tmp_path)
        assert len(raised.value.faults) == 2
        assert all(fault.line for fault in raised.value.faults)


class TestWithoutSpark:
    def test_check_lists_nodes_and_refuses_columns_that_do_not_exist(self, pipeline, tmp_path):
        assert pipeline.check().nodes == NODES
        with pytest.raises(tm.SpecError, match="late_at"):
            tm.load(tmp_path, set={"dataset.label": "late_at"}).check()

    def test_explain_says_what_a_first_run_would_do(self, pipeline):
        frame = pipeline.explain()
        assert tuple(frame["node"]) == NODES
        assert set(frame["would"]) == {"run"}
        assert frame.loc[1, "why"] == "ingest.planes would run"

    def test_an_empty_lake_has_no_run_no_trials_and_no_champion(self, pipeline):
        with pytest.raises(tm.UsageError, match="no run"):
            pipeline.status()
        assert pipeline.champion() is None
        assert pipeline.trials().empty
        assert pipeline.models(as_="rows") == []
        assert pipeline.deployments(as_="rows") == []
        assert pipeline.quarantine().empty
        with pytest.raises(tm.UsageError, match="has chosen no features"):
            pipeline.features()
        with pytest.raises(tm.UsageError, match=r"ingest\.plains: no such source or table; did you mean 'ingest\.planes'\?"):
            pipeline.quarantine("ingest.plains")

    def test_ledger_rows_become_frames(self, pipeline):
        now = datetime(2013, 1, 1, tzinfo=UTC)
        ledger = pipeline.lake.ledger
        run = {"pipeline": "tiny", "run_id": "r1", "started_at": now}
        ledger.append([RunRow(**run, state="RUNNING")])
        ledger.append([RunRow(**run, state="SUCCEEDED", ended_at=now)])
        trial = {"pipeline": "tiny", "run_id": "r1", "family": "logistic_regression", "params": "{}", "metric": "areaUnderPR"}
        ledger.append(
            [
                TrialRow(**trial, trial=number, fold=fold, value=value, seconds=1.0, state="SUCCEEDED", engine="spark")
                for number, values in enumerate([(0.2, 0.4), (0.5, 0.7)])
                for fold, value in enumerate(values)
            ]
        )
        assert pipeline.status().state == "SUCCEEDED"
        trials = pipeline.trials()
        assert list(trials["trial"]) == [1, 0]
        assert list(trials["value"]) == pytest.approx([0.6, 0.3])

    def test_sql_refuses_writing_before_spark_starts(self, pipeline):
        with pytest.raises(tm.UsageError, match="only reads"):
            pipeline.sql("DROP TABLE gold.tiny_predictions")
