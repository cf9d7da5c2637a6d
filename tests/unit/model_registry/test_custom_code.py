"""Code beside a spec: the modules that it is made of are found, kept, and run again where nothing lies beside."""

from __future__ import annotations

import sys

import pytest

from tidemill.errors import UsageError
from tidemill.model_registry.store import importable_modules
from tidemill.runtime.user_code import load_object, read_own_imports

FILES = {
    "functions.py": "import json, pack.deep\nfrom helpers import N\n\n\ndef answer():\n    return N + pack.deep.M + json.loads('1')\n",
    "helpers.py": "from other import BASE\n\nN = BASE + 1\n",
    "other.py": "BASE = 40\n",
    "pack/__init__.py": "from .deep import M\n",
    "pack/deep.py": "import os.path\n\nM = 100\n",
    "unused.py": "raise ValueError('nobody asked for this')\n",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pack").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_a_file_imports_from_beside_it_is_kept_and_runs_elsewhere(folder, monkeypatch):
    assert load_object(folder, "functions.answer")() == 142
    code = read_own_imports(folder, folder / "functions.py")
    assert set(code) == {"helpers", "other", "pack", "pack.deep"}
    assert list(code).index("other") < list(code).index("helpers")
    for file in folder.rglob("*.py"):
        file.unlink()
    stranger = object()
    monkeypatch.setitem(sys.modules, "helpers", stranger)
    with importable_modules({**code, "_kept_functions": FILES["functions.py"]}):
        assert sys.modules["_kept_functions"].answer() == 142
    assert sys.modules["helpers"] is stranger
    assert not {"_kept_functions", "other", "pack", "pack.deep"} & set(sys.modules)


def test_a_module_beside_the_spec_that_is_no_python_is_named(folder):
    (folder / "other.py").write_text("BASE = \n")
    with pytest.raises(UsageError, match=r"other\.py:1: not valid Python"):
        read_own_imports(folder, folder / "functions.py")
