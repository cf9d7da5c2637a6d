"""The files of an MLflow model: a description, and links to the lake's model files."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import tidemill
from tidemill.model_registry.manifest import Manifest
from tidemill.model_registry.mlflow.model import MANIFEST, SPARK_FILES
from tidemill.version import VERSION

if TYPE_CHECKING:
    import pandas as pd


WHEELS = "wheels"
# Needed to load and score every model; tidemill's wheel requires more, by version ranges.
_ALWAYS = ("mlflow", "pyspark", "scikit-learn", "skops", "numpy", "scipy", "pandas", "pyarrow")
_LIBRARIES: Mapping[str, tuple[str, ...]] = {"xgboost": ("xgboost", "xgboost-cpu"), "lightgbm": ("lightgbm",)}
_STEMMERS = ("snowballstemmer", "PyStemmer")


def requirement_lines(manifest: Manifest) -> list[str]:
    """Return the lines of ``requirements.txt``: every package at the installed version.

    pip resolves a relative wheel folder from the file's location. MLflow, which parses the lines when it loads a model, does not know the
    option: for MLflow the comment continues on the next line, for pip it does not.
    """
    names = dict.fromkeys((*_ALWAYS, *_stage_distributions(manifest), *_code_distributions(manifest.code)))
    pinned = [f"{name}=={installed}" for name in names if (installed := _installed_version(name)) is not None]
    return ["# tidemill is in the wheel beside this file: \\", f"--find-links {WHEELS}", f"tidemill=={VERSION}", *pinned]


def _stage_distributions(manifest: Manifest) -> Iterator[str]:
    """Yield the distributions of the libraries that fitted the model, and those that its text features need."""
    for name, distributions in _LIBRARIES.items():
        if name in re.split(r"[\s,]+", manifest.library or ""):
            yield from distributions
    if '"stem' in json.dumps(manifest.features, default=str):
        yield from _STEMMERS


def _code_distributions(code: Mapping[str, str]) -> Iterator[str]:
    """Yield the distributions that the user's code imports."""
    known = packages_distributions()
    for text in code.values():
        for statement in ast.walk(ast.parse(text)):
            names = [alias.name for alias in statement.names] if isinstance(statement, ast.Import) else []
            if isinstance(statement, ast.ImportFrom) and not statement.level and statement.module:
                names = [statement.module]
            for module in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"tidemill"}:
                yield from known.get(module, ())


def _installed_version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


WHEEL = f"tidemill-{VERSION}-py3-none-any.whl"
_INFO = f"tidemill-{VERSION}.dist-info"
_CREATED = (1980, 1, 1, 0, 0, 0)  # fixed, so that the same files give the same wheel


def write_wheel(folder: Path) -> Path:
    """Write the running tidemill as a wheel into ``folder`` and return its path.

    Source: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WHEEL
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _files():
            archive.writestr(zipfile.ZipInfo(name, _CREATED), content, zipfile.ZIP_DEFLATED)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(content)}")
        record.append(f"{_INFO}/RECORD,,")
        archive.writestr(zipfile.ZipInfo(f"{_INFO}/RECORD", _CREATED), "\n".join(record) + "\n")
    return path


def _files() -> Iterator[tuple[str, bytes]]:
    """Yield the files of the wheel by their names in it."""
    package = Path(tidemill.__file__).parent
    for file in sorted(package.rglob("*")):
        if file.suffix == ".py" or file.name == "py.typed":
            yield f"tidemill/{file.relative_to(package).as_posix()}", file.read_bytes()
    yield f"{_INFO}/METADATA", _metadata().encode()
    yield f"{_INFO}/WHEEL", b"Wheel-Version: 1.0\nGenerator: tidemill\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    yield f"{_INFO}/entry_points.txt", b"[console_scripts]\ntidemill = tidemill.cli:main\n"


def _metadata() -> str:
    """Return the wheel's METADATA, with the requirements of the installed tidemill."""
    lines = ["Metadata-Version: 2.1", "Name: tidemill", f"Version: {VERSION}"]
    try:
        installed = metadata("tidemill")
    except PackageNotFoundError:  # tidemill runs from its sources
        return "\n".join(lines) + "\n"
    for key in ("Requires-Python", "Provides-Extra", "Requires-Dist"):
        lines += [f"{key}: {value}" for value in installed.get_all(key) or []]
    return "\n".join(lines) + "\n"


_LOADER = "tidemill.model_registry.mlflow.model"
_PREDICTIONS = {"string": "string", "boolean": "boolean", "double": "double", "float": "float", "int": "integer", "bigint": "long"}


def write_mlflow_model(
    folder: Path, files: Path, manifest: Manifest, *, run_id: str, model_id: str, example: pd.DataFrame | None = None
) -> None:
    """Make ``folder`` an MLflow model of a version's files, loadable as ``spark`` and ``pyfunc``.

    The files are linked, not copied, from the lake. A wheel of tidemill is added, for pip to install, or to import from if tidemill is not
    installed. ``example`` has a few rows of the feature columns.

    Source: https://mlflow.org/docs/latest/ml/model/ (the MLmodel format).
    """
    from mlflow.models import Model  # takes seconds to import, and is optional
    from mlflow.models.utils import _save_example

    folder.mkdir(parents=True, exist_ok=True)
    _link(folder / SPARK_FILES, files / "spark")
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    wheel = write_wheel(folder / WHEELS)
    _write_environment(folder, manifest)
    model = Model(
        run_id=run_id, model_id=model_id, signature=_signature(manifest), metadata={"feature_columns": dict(manifest.feature_columns)}
    )
    code = f"{WHEELS}/{wheel.name}"
    pyspark, python = version("pyspark"), platform.python_version()
    model.add_flavor("spark", pyspark_version=pyspark, model_data=SPARK_FILES, code=code, model_class="pyspark.ml.pipeline.PipelineModel")
    environment = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
    model.add_flavor("python_function", loader_module=_LOADER, code=code, python_version=python, env=environment)
    if example is not None and len(example):
        _save_example(model, example, str(folder))
    model.save(str(folder / "MLmodel"))


def _write_environment(folder: Path, manifest: Manifest) -> None:
    python, build = platform.python_version(), ["-r requirements.txt"]
    conda = {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": [f"python={python}", "pip", {"pip": build}]}
    virtual = {"python": python, "build_dependencies": ["pip"], "dependencies": build}
    (folder / "requirements.txt").write_text("\n".join(requirement_lines(manifest)) + "\n", encoding="utf-8")
    (folder / "conda.yaml").write_text(yaml.safe_dump(conda, sort_keys=False), encoding="utf-8")
    (folder / "python_env.yaml").write_text(yaml.safe_dump(virtual, sort_keys=False), encoding="utf-8")


def _signature(manifest: Manifest) -> Any:
    """Return the signature: the feature columns, and the columns of the lake's predictions."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType, Array, DataType

    def column(name: str, kind: str | None, *, is_required: bool = True) -> Any:
        return ColSpec(DataType[kind] if kind else AnyType(), name, required=is_required)

    # MLflow enforces types more strictly than Spark casts: no whole number for a DOUBLE, no missing value for an INT, no category for a
    # STRING. The types of the training are in the model's metadata.
    inputs = [column(name, None) for name in manifest.feature_columns]
    several = manifest.kind.has_many_classes or manifest.kind.finds_clusters
    probability = ColSpec(Array(DataType.double), "probability", required=False) if several else None
    outputs = [
        column("prediction", _PREDICTIONS.get(manifest.label_type), is_required=False),
        probability or column("probability", "double", is_required=False),
        column("score_error", "string", is_required=False),
    ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def _link(folder: Path, source: Path) -> None:
    """Fill ``folder`` with hard links to the files of ``source``: MLflow refuses symbolic ones; copy if hard links are not possible."""
    for copy in (os.link, shutil.copy2):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            shutil.copytree(source, folder, copy_function=copy)
        except (OSError, shutil.Error):
            if copy is shutil.copy2:
                raise
        else:
            return
