"""What import-linter's contracts do not see: circles among modules, wherever in the tree these lie."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def test_modules_import_each_other_in_no_circle():
    graph = grimp.build_graph("tidemill", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"circle of imports: {' → '.join(reversed(error.args[1]))}")
