"""Model files in the lake: ``<lake>/models/<pipeline>/<version>/spark`` and the manifest, which is written last."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pyspark.ml import PipelineModel

from tidemill.errors import StepError
from tidemill.registry.custom_code import modules
from tidemill.registry.manifest import FILES, Manifest, manifest_file, model_folder, read_manifest, refuse_other_files, written_files
from tidemill.registry.versions import UNFINISHED, is_free
from tidemill.spark_errors import sentence
from tidemill.user_code import contain_exit

if TYPE_CHECKING:
    from tidemill.lake import Lake


def save_model(lake: Lake, model: PipelineModel, manifest: Manifest) -> None:
    """Write the model's files, then its manifest, which makes the version exist; what a killed attempt left there is written over.

    Raises:
        StepError: the folder holds a model already.
    """
    pipeline, version = manifest.pipeline, manifest.version
    folder = model_folder(pipeline, version)
    if not is_free(lake, pipeline, version):
        raise StepError(f"model {version} of {pipeline} is not written: {lake.root}/{folder} holds files already, which stay as they are")
    lake.write_text(f"{folder}/{UNFINISHED}", manifest.run_id)
    model.write().overwrite().save(f"{lake.engine_root}/{folder}/{FILES}")
    whole = dataclasses.replace(manifest, files=written_files(lake, pipeline, version))
    lake.write_text(manifest_file(pipeline, version), whole.to_json())
    lake.delete_file(f"{folder}/{UNFINISHED}")


def load_manifest(lake: Lake, pipeline: str, version: int) -> Manifest:
    """Read the manifest of a version; starts no JVM.

    Raises:
        StepError: there is no such version, or its manifest is damaged or another one's.
    """
    return read_manifest(lake, pipeline, version)


def load_model(lake: Lake, pipeline: str, version: int) -> tuple[PipelineModel, Manifest]:
    """Load a version from its files, which are those that were written with it.

    Raises:
        StepError: there is no such version, it was damaged or changed since, or its files do not load.
    """
    manifest = read_manifest(lake, pipeline, version)
    refuse_other_files(lake, manifest, by_content=True)
    path = f"{lake.engine_root}/{model_folder(pipeline, version)}/{FILES}"
    try:
        with contain_exit("the Python kept with it"), modules(manifest.code):
            return PipelineModel.load(path), manifest
    except Exception as error:
        raise StepError(
            f"model {version} of {pipeline}: its files at {path} do not load ({sentence(error)}); run train again to make a new version"
        ) from error
