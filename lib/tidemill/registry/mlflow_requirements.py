"""What has to be installed where a model is to be loaded by MLflow."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import TYPE_CHECKING

from tidemill.version import VERSION

if TYPE_CHECKING:
    from tidemill.registry.manifest import Manifest

WHEELS = "wheels"
# What every model is loaded and scored with; tidemill's wheel asks for more, in ranges.
_ALWAYS = ("mlflow", "pyspark", "scikit-learn", "skops", "numpy", "scipy", "pandas", "pyarrow")
_LIBRARIES: Mapping[str, tuple[str, ...]] = {"xgboost": ("xgboost", "xgboost-cpu"), "lightgbm": ("lightgbm",)}
_STEMMERS = ("snowballstemmer", "PyStemmer")


def requirement_lines(manifest: Manifest) -> list[str]:
    """Return the lines of ``requirements.txt``: everything at the version that is installed here.

    pip takes a relative folder of wheels from beside the file. MLflow, which checks the lines when it loads a model, knows no such
    option: for it the comment goes on over the end of its line, for pip it does not.
    """
    wanted = dict.fromkeys((*_ALWAYS, *_of_stages(manifest), *_of_code(manifest.code)))
    pinned = [f"{name}=={found}" for name in wanted if (found := _installed(name)) is not None]
    return ["# tidemill is in the wheel beside this file: \\", f"--find-links {WHEELS}", f"tidemill=={VERSION}", *pinned]


def _of_stages(manifest: Manifest) -> Iterator[str]:
    """Yield the distributions of the libraries that the model was fitted by, and that its texts need."""
    for name, distributions in _LIBRARIES.items():
        if name in re.split(r"[\s,]+", manifest.library or ""):
            yield from distributions
    if '"stem' in json.dumps(manifest.features, default=str):
        yield from _STEMMERS


def _of_code(code: Mapping[str, str]) -> Iterator[str]:
    """Yield the distributions that the user's own code imports from."""
    known = packages_distributions()
    for text in code.values():
        for statement in ast.walk(ast.parse(text)):
            names = [alias.name for alias in statement.names] if isinstance(statement, ast.Import) else []
            if isinstance(statement, ast.ImportFrom) and not statement.level and statement.module:
                names = [statement.module]
            for module in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"tidemill"}:
                yield from known.get(module, ())


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
