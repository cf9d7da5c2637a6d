"""Imports that no other check sees: circles among modules, and names of the library that scripts outside of it import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted(path for folder in ("benchmarks", "conf", "jobs") for path in (ROOT / folder).glob("**/*.py"))


def test_modules_import_each_other_in_no_circle():
    graph = grimp.build_graph("tidemill", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"circle of imports: {' → '.join(reversed(error.args[1]))}")


def imported_names(path: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of each import from the library, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tidemill":
            yield from ((str(node.module), alias.name) for alias in node.names)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_import_names_that_exist(path):
    missing = []
    for module, name in imported_names(path):
        home = import_module(module)
        is_module = hasattr(home, "__path__") and find_spec(f"{module}.{name}") is not None
        if not (hasattr(home, name) or is_module):
            missing.append(f"{module}.{name}")
    assert missing == []
