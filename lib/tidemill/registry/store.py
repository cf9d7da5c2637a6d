"""Model files in the lake: ``<lake>/models/<pipeline>/<version>/spark`` and the manifest, which is written last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.ml import PipelineModel

from tidemill.errors import StepError
from tidemill.registry.custom_code import modules
from tidemill.registry.manifest import Manifest, manifest_file, model_folder
from tidemill.spark_errors import sentence

if TYPE_CHECKING:
    from tidemill.lake import Lake


def save_model(lake: Lake, model: PipelineModel, manifest: Manifest) -> None:
    """Write the model's files, then its manifest: a version without a manifest does not exist, and is written over."""
    folder = model_folder(manifest.pipeline, manifest.version)
    model.write().overwrite().save(f"{lake.root}/{folder}/spark")
    lake.write_text(manifest_file(manifest.pipeline, manifest.version), manifest.to_json())


def load_manifest(lake: Lake, pipeline: str, version: int) -> Manifest:
    """Read the manifest of a version; starts no JVM.

    Raises:
        StepError: there is no such version.
    """
    relative = manifest_file(pipeline, version)
    try:
        text = lake.read_text(relative)
    except OSError as error:
        raise StepError(f"model {version} of {pipeline}: {lake.root}/{relative} cannot be read; run train to make a model") from error
    return Manifest.from_json(text)


def load_model(lake: Lake, pipeline: str, version: int) -> tuple[PipelineModel, Manifest]:
    """Load a version from its files.

    Raises:
        StepError: there is no such version, or its files do not load.
    """
    manifest = load_manifest(lake, pipeline, version)
    path = f"{lake.root}/{model_folder(pipeline, version)}/spark"
    try:
        with modules(manifest.code):
            return PipelineModel.load(path), manifest
    except Exception as error:
        raise StepError(
            f"model {version} of {pipeline}: its files at {path} do not load ({sentence(error)}); run train again to make a new version"
        ) from error
