"""Model files in the lake: ``<lake>/models/<pipeline>/<version>/spark`` and the manifest, which is written last."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING

from pyspark import SparkContext
from pyspark.ml import PipelineModel
from pyspark.sql.utils import is_remote

from tidemill.errors import StepError
from tidemill.model_registry.manifest import (
    EVIDENCE,
    FILES,
    SAMPLE,
    Manifest,
    describe_content,
    list_model_files,
    manifest_file,
    model_folder,
    read_manifest,
    refuse_other_files,
)
from tidemill.model_registry.versions import UNFINISHED, is_free
from tidemill.quoting import is_local
from tidemill.runtime.caching import ResultCache
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.runtime.user_code import contain_exit

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tidemill.lake import Lake


_LOADING = RLock()  # sys.modules belongs to the whole process
_LOADED = ResultCache(capacity=2)  # a candidate and the champion: evaluate, deploy and score of one run load the same files


@contextmanager
def importable_modules(code: Mapping[str, str]) -> Iterator[None]:
    """Make the modules of ``code`` (name to source) importable inside the `with` block; each may import those before it.

    They are removed afterwards: two models may have different sources of one module. Spark then pickles their functions by value for its
    Python workers, which cannot import them.
    """
    if not code:
        yield
        return
    with _LOADING:
        before = {name: sys.modules[name] for name in code if name in sys.modules}
        try:
            new_modules = {name: _new_module(name, code) for name in code}
            sys.modules.update(new_modules)
            for name, module in new_modules.items():
                package, _, own = name.rpartition(".")
                if package in new_modules:
                    setattr(new_modules[package], own, module)
            for name, text in code.items():
                exec(compile(text, f"<{name}, kept with the model>", "exec"), new_modules[name].__dict__)
            yield
        finally:
            for name in code:
                sys.modules.pop(name, None)
            sys.modules.update(before)


def _new_module(name: str, code: Mapping[str, str]) -> ModuleType:
    module = ModuleType(name)
    is_package = any(other.startswith(f"{name}.") for other in code)
    module.__package__ = name if is_package else name.rpartition(".")[0]
    if is_package:
        module.__path__ = []
    return module


def save_model(
    lake: Lake, model: PipelineModel, manifest: Manifest, sample: bytes | None = None, evidence: Mapping[str, str] | None = None
) -> None:
    """Write the model's files, its sample and its evidence, then its manifest, which creates the version.

    Files of a killed attempt are overwritten. ``evidence`` are the files of that folder, name to text.

    Raises:
        StepError: the folder contains a model already.
    """
    pipeline, version = manifest.pipeline, manifest.version
    folder = model_folder(pipeline, version)
    if not is_free(lake, pipeline, version):
        raise StepError(f"model {version} of {pipeline} is not written: {lake.root}/{folder} holds files already, which stay as they are")
    lake.write_text(f"{folder}/{UNFINISHED}", manifest.run_id)
    model.write().overwrite().save(f"{lake.engine_root}/{folder}/{FILES}")
    for name, text in (evidence or {}).items():
        lake.write_text(f"{folder}/{EVIDENCE}/{name}", text)
    if sample is not None:
        lake.write_bytes(f"{folder}/{SAMPLE}", sample)
    whole = dataclasses.replace(
        manifest,
        files=list_model_files(lake, pipeline, version),
        sample=None if sample is None else describe_content(sample),
        evidence={name: describe_content(text.encode()) for name, text in (evidence or {}).items()},
    )
    lake.write_text(manifest_file(pipeline, version), whole.to_json())
    lake.delete_file(f"{folder}/{UNFINISHED}")


def load_model(lake: Lake, pipeline: str, version: int, *, session: SparkSession | None = None) -> tuple[PipelineModel, Manifest]:
    """Load a version from its files.

    The files are compared with the manifest each time; a model that this process has loaded before comes from a cache, unless a
    ``session`` is given: then it is loaded anew in that one.

    Raises:
        StepError: there is no such version, its files were damaged or changed, or they do not load.
    """
    manifest = read_manifest(lake, pipeline, version)
    refuse_other_files(lake, manifest, by_content=True)
    path = f"{lake.engine_root}/{model_folder(pipeline, version)}/{FILES}"
    try:
        with _LOADING, contain_exit("the Python kept with it"), importable_modules(manifest.code):
            if session is not None:
                return PipelineModel.read().session(session).load(path), manifest
            return _LOADED.get(_loaded_key(lake, manifest), lambda: PipelineModel.load(path)), manifest
    except Exception as error:
        raise StepError(
            f"model {version} of {pipeline}: its files at {path} do not load ({format_spark_error(error)}); "
            "run train again to make a new version"
        ) from error


def _loaded_key(lake: Lake, manifest: Manifest) -> str:
    """Return the cache key of a loaded model; empty, which disables caching, if it is not known."""
    if not manifest.files or is_remote():
        return ""
    place = f"{lake.root}/{model_folder(manifest.pipeline, manifest.version)}/{FILES}"
    if is_local(place):
        place = str(Path(place).resolve())
    return json.dumps([SparkContext.getOrCreate().applicationId, place, dict(manifest.files), dict(manifest.code)])
