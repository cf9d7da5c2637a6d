"""The files of an MLflow model: a description beside links to the files that the lake holds already."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tidemill.registry.manifest import Manifest
from tidemill.registry.mlflow_model import MANIFEST, SPARK_FILES
from tidemill.registry.mlflow_requirements import WHEELS, requirement_lines
from tidemill.registry.wheel import write_wheel

if TYPE_CHECKING:
    import pandas as pd

_LOADER = "tidemill.registry.mlflow_model"
_PREDICTIONS = {"string": "string", "boolean": "boolean", "double": "double", "float": "float", "int": "integer", "bigint": "long"}


def write_mlflow_model(
    folder: Path, files: Path, manifest: Manifest, *, run_id: str, model_id: str, example: pd.DataFrame | None = None
) -> None:
    """Make ``folder`` an MLflow model of a version's files, loadable as ``spark`` and ``pyfunc``.

    The files themselves are linked, not copied: the lake is where they live. A wheel of tidemill lies beside them, which pip installs
    from and from which it is imported where it is not installed. ``example`` are a few rows of the feature columns.

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
    """Return the signature: the feature columns, and what the lake's table of predictions has of a row."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType, Array, DataType

    def column(name: str, kind: str | None, *, is_required: bool = True) -> Any:
        return ColSpec(DataType[kind] if kind else AnyType(), name, required=is_required)

    # MLflow holds rows to types more narrowly than Spark casts them: no whole number for a DOUBLE, none that is missing for an INT, no
    # category for a STRING. The types that the model was trained on are in its metadata.
    inputs = [column(name, None) for name in manifest.feature_columns]
    several = manifest.task in ("multiclass", "clustering")
    probability = ColSpec(Array(DataType.double), "probability", required=False) if several else None
    outputs = [
        column("prediction", _PREDICTIONS.get(manifest.label_type), is_required=False),
        probability or column("probability", "double", is_required=False),
        column("score_error", "string", is_required=False),
    ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def _link(folder: Path, source: Path) -> None:
    """Fill ``folder`` with hard links to the files of ``source``: MLflow refuses symbolic ones; copy where links cannot be had."""
    for copy in (os.link, shutil.copy2):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            shutil.copytree(source, folder, copy_function=copy)
        except (OSError, shutil.Error):
            if copy is shutil.copy2:
                raise
        else:
            return
