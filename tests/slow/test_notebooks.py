"""The notebooks run from top to bottom on a lake that a run has made."""

from __future__ import annotations

import nbclient
import nbformat
import pytest
from tests.e2e.place import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.one_of("example")]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(path, whole_run, monkeypatch):
    place, _ = whole_run
    for name, value in place.environ().items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    assert any(cell.get("outputs") for cell in notebook.cells)
