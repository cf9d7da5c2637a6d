"""What a node has written, and whether it is still there."""

from __future__ import annotations

from collections.abc import Mapping

from tidemill.lake import Lake
from tidemill.registry.manifest import is_saved


def lost_outputs(lake: Lake, outputs: Mapping[str, int]) -> list[str]:
    """Return the tables and models that no longer have the version they were written at, such as ``silver.flights at version 3``.

    A table's version is there where the table has come that far; a model's where its manifest is, which is written last.
    """
    return [f"{name} at version {version}" for name, version in outputs.items() if not _is_there(lake, name, version)]


def _is_there(lake: Lake, name: str, version: int) -> bool:
    layer, _, noun = name.partition(".")
    if layer == "models":
        return is_saved(lake, noun, version)
    latest = lake.version(name)
    return latest is not None and latest >= version
