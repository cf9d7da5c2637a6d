"""Runs whose steps are played: MLflow, which has tests of its own, is left out of them."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs end without MLflow."""
    monkeypatch.setattr("tidemill.workflow.runner.show_in_mlflow", lambda *_, **__: None)
