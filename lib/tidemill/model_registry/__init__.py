"""Model versions: their files in the lake, their manifests, their states.

Enters: a fitted PipelineModel and its manifest. Leaves: saved versions, their states, predictions (`tidemill.model_registry.predict`) and
    the projection into MLflow. Names load on first use, so that states need no Spark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidemill.runtime.lazy_exports import export_lazily

if TYPE_CHECKING:
    from tidemill.model_registry.deployments import Deployments
    from tidemill.model_registry.manifest import Manifest, read_manifest
    from tidemill.model_registry.mlflow.projection import is_projected, lacks_mlflow, project
    from tidemill.model_registry.store import load_model, save_model


__all__ = [
    "Deployments",
    "Manifest",
    "is_projected",
    "lacks_mlflow",
    "load_model",
    "project",
    "read_manifest",
    "save_model",
]

__getattr__ = export_lazily(
    __name__,
    {
        "deployments": ("Deployments",),
        "manifest": ("Manifest", "read_manifest"),
        "mlflow.projection": ("is_projected", "lacks_mlflow", "project"),
        "store": ("load_model", "save_model"),
    },
)
