"""Model versions: their files in the lake, their manifests, their states.

Names load on first use, so that states need no Spark; predictions are in `tidemill.model_registry.predict`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidemill.model_registry.deployments import Deployments
    from tidemill.model_registry.manifest import Manifest
    from tidemill.model_registry.mlflow.projection import project
    from tidemill.model_registry.store import load_manifest, load_model, save_model


__all__ = [
    "Deployments",
    "Manifest",
    "load_manifest",
    "load_model",
    "project",
    "save_model",
]

_HOMES = {
    "deployments": ("Deployments",),
    "manifest": ("Manifest",),
    "mlflow.projection": ("project",),
    "store": ("load_manifest", "load_model", "save_model"),
}


def __getattr__(name: str) -> Any:
    """Import the module that defines ``name`` when it is first asked for."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"tidemill.model_registry.{module}"), name)
    raise AttributeError(f"module 'tidemill.model_registry' has no attribute {name!r}")
