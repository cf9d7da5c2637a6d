"""Runs whose steps are stand-ins: a small spec of two sources; MLflow, which has tests of its own, is left out of them."""

from __future__ import annotations

from pathlib import Path

import pytest

SPEC = """\
pipeline: {name}
lake: {lake}
sources:
  planes: {{format: csv, path: {folder}/planes.csv, schema: "tail STRING, late INT"}}
  spare: {{format: csv, path: {folder}/spare.csv, schema: "a INT"}}
tables:
  planes: {{sql: "SELECT * FROM bronze.planes", key: [tail]}}
dataset: {{from: silver.planes, key: [tail], label: late}}
training: {{task: binary}}
"""


@pytest.fixture
def write_spec(tmp_path):
    (tmp_path / "planes.csv").write_text("tail,late\nN1,1\n")
    (tmp_path / "spare.csv").write_text("a\n1\n")

    def write(name: str = "p", **changes: str) -> Path:
        text = SPEC.format(name=name, lake=tmp_path / "lake", folder=tmp_path)
        for old, new in changes.values():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / f"{name}.yml"
        path.write_text(text)
        return path

    return write


@pytest.fixture(autouse=True)
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs and decisions end without MLflow."""
    for module in ("runner", "lifecycle"):
        monkeypatch.setattr(f"tidemill.workflow.{module}.show_in_mlflow", lambda *_, **__: None)
