"""Model versions: their files in the lake, their manifests, their states.

Names load on first use, so that states need no Spark; predictions are in `tidemill.registry.predict`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidemill.registry.deployments import Deployments
    from tidemill.registry.manifest import Manifest
    from tidemill.registry.mlflow_projection import project
    from tidemill.registry.store import load_manifest, load_model, save_model

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
    "mlflow_projection": ("project",),
    "store": ("load_manifest", "load_model", "save_model"),
}


def __getattr__(name: str) -> Any:
    """Import the module that defines ``name`` when it is first asked for."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"tidemill.registry.{module}"), name)
    raise AttributeError(f"module 'tidemill.registry' has no attribute {name!r}")
