"""The files of an MLflow model: a description beside links to the files that the lake holds already."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

import yaml

_DATA = "sparkml"


def write_mlflow_model(folder: Path, spark_files: Path, *, run_id: str, model_id: str) -> None:
    """Make ``folder`` an MLflow model of the Spark ML files at ``spark_files``, loadable as ``spark`` and ``pyfunc``.

    The files themselves are linked, not copied: the lake is where they live.

    Source: https://mlflow.org/docs/latest/ml/model/ (the MLmodel format).
    """
    from mlflow.models import Model  # takes seconds to import, and is optional

    folder.mkdir(parents=True, exist_ok=True)
    _link(folder / _DATA, spark_files)
    python, pyspark = platform.python_version(), version("pyspark")
    requirements = [f"mlflow=={version('mlflow')}", f"pyspark=={pyspark}"]
    conda = {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": [f"python={python}", "pip", {"pip": requirements}]}
    virtual = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    (folder / "conda.yaml").write_text(yaml.safe_dump(conda, sort_keys=False), encoding="utf-8")
    (folder / "python_env.yaml").write_text(yaml.safe_dump(virtual, sort_keys=False), encoding="utf-8")
    model = Model(run_id=run_id, model_id=model_id)
    model.add_flavor("spark", pyspark_version=pyspark, model_data=_DATA, code=None, model_class="pyspark.ml.pipeline.PipelineModel")
    environment = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
    model.add_flavor("python_function", loader_module="mlflow.spark", data=_DATA, python_version=python, env=environment)
    model.save(str(folder / "MLmodel"))


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
