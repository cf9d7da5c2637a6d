"""MLflow's models: a logged model and a registered version per model version, and the aliases ``champion`` and ``challenger``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from tidemill.errors import SetupError
from tidemill.model_registry.manifest import Manifest, model_folder
from tidemill.model_registry.mlflow.files import write_mlflow_model
from tidemill.model_registry.mlflow.runs import version_tags
from tidemill.quoting import is_local

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

    from tidemill.lake import Lake
    from tidemill.lake.ops import DeploymentRow
    from tidemill.model_registry.mlflow.target import MlflowTarget


ALIASES = {"champion": "CHAMPION", "challenger": "CHALLENGER"}
VERSION = "model_version"
MODEL_CARD = "model_card.md"
_EXAMPLES = 5
_LONGEST_DESCRIPTION = 4900
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


def refuse_other_lake(kind: str, name: str, target: MlflowTarget, tags: Mapping[str, Any], lake: Lake) -> None:
    """Refuse an experiment or model of a server that shows another lake: their versions would be taken for each other.

    Raises:
        SetupError: its tag ``lake`` is another lake.
    """
    other = tags.get("lake")
    if not target.is_embedded and other not in (None, lake.root):
        raise SetupError(
            f"the {kind} {name} of {target.place} shows the lake {other}; give this one another name with "
            f"`registry: {{uri: …, {kind}: …}}`, or, if the lake was moved, set the {kind}'s tag `lake` to {lake.root}"
        )


class VersionProjection:
    """Writes model versions into one experiment and one registered model; all calls may be repeated."""

    def __init__(self, lake: Lake, target: MlflowTarget, client: MlflowClient, experiment: str) -> None:
        """Take the client and the id of the experiment; the logged models that are there are listed once."""
        self._lake, self._target, self._client, self._experiment = lake, target, client, experiment
        self._logged = {model.tags[VERSION]: model for model in self._logged_models() if VERSION in model.tags}

    def find_or_log(self, manifest: Manifest, find_run: Callable[[str], str]) -> str:
        """Return the id of the logged model of a version, whose files are written if they are missing.

        Args:
            manifest: the version.
            find_run: gives MLflow's run for the id of a run of the pipeline.
        """
        from mlflow.entities import LoggedModelOutput

        model = self._logged.get(str(manifest.version))
        if model is not None and self._is_whole(model):
            return str(model.model_id)
        if model is None:
            run_id = find_run(manifest.run_id)
            tags = _texts(version_tags(manifest))
            model = self._client.create_logged_model(self._experiment, name="model", source_run_id=run_id, tags=tags)
            self._logged[str(manifest.version)] = model
            self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
        self._write_files(model, manifest)
        self._client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)

    def register(
        self,
        manifests: Mapping[int, Manifest],
        models: Mapping[int, str],
        states: Mapping[int, str],
        changes: Sequence[DeploymentRow],
        description: str,
    ) -> str | None:
        """Create the registered versions that are missing, set tags, descriptions and aliases; return MLflow's number of the champion."""
        registered = self._registered_model(description)
        entries = self._registered_versions(manifests)
        for version, manifest in manifests.items():
            entry = entries.get(version)
            if entry is None or entry.model_id not in (None, "", models[version]):
                entry = self._register(manifest, models[version])
                entries[version] = entry
            self._update(entry, manifest, states[version], [row for row in changes if row.model_version == version])
        return self._point_aliases(dict(registered.aliases), entries, states)

    def _logged_models(self) -> Iterator[LoggedModel]:
        token = None
        while True:
            page = self._client.search_logged_models([self._experiment], page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _is_whole(self, model: LoggedModel) -> bool:
        """Return True where the model was written to its end; the files of an embedded store are looked for."""
        is_ready = str(model.status).rpartition(".")[2] == "READY"
        return is_ready and (not self._target.is_embedded or (_local_folder(model) / "MLmodel").is_file())

    def _write_files(self, model: LoggedModel, manifest: Manifest) -> None:
        """Write the files of an MLflow model: links into the lake for an embedded store, else they are uploaded."""
        example = self._input_example(manifest)

        def write(folder: Path, files: Path) -> None:
            write_mlflow_model(folder, files, manifest, run_id=str(model.source_run_id), model_id=str(model.model_id), example=example)

        with self._model_files(manifest) as files:
            if self._target.is_embedded:
                write(_local_folder(model), files)
                return
            with tempfile.TemporaryDirectory(prefix="tidemill-") as temporary:
                write(Path(temporary) / "model", files)
                self._client.log_model_artifacts(model.model_id, str(Path(temporary) / "model"))

    @contextmanager
    def _model_files(self, manifest: Manifest) -> Iterator[Path]:
        """Give the folder of the version's files; a copy for the length of the block where the lake is not local."""
        folder = model_folder(manifest.pipeline, manifest.version)
        if is_local(self._lake.root):
            yield Path(self._lake.root) / folder
            return
        from pyarrow import fs

        temporary = tempfile.mkdtemp(prefix="tidemill-")
        try:
            filesystem, base = fs.FileSystem.from_uri(f"{self._lake.root}/{folder}")
            fs.copy_files(base, temporary, source_filesystem=filesystem, destination_filesystem=fs.LocalFileSystem())
            yield Path(temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _input_example(self, manifest: Manifest) -> pd.DataFrame | None:
        """Return the feature columns of a few rows of the dataset that the model was trained with; None where it is gone."""
        table = f"gold.{manifest.pipeline}_dataset"
        names = list(manifest.feature_columns)
        try:
            rows = DeltaTable(self._lake.path(table), version=manifest.dataset_version).to_pyarrow_dataset().head(_EXAMPLES, columns=names)
        except (DeltaError, TableNotFoundError, pa.ArrowException, OSError):  # vacuumed, or of a kind that only Spark reads
            return None
        return rows.to_pandas().map(lambda cell: float(cell) if isinstance(cell, Decimal) else cell)

    def _registered_model(self, description: str) -> RegisteredModel:
        """Return the registered model, which is created if need be."""
        from mlflow.exceptions import MlflowException

        name, tags = self._target.model, {} if self._target.is_embedded else {"lake": self._lake.root}
        try:
            registered = self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise
            return self._client.create_registered_model(name, tags=tags, description=description or None)
        refuse_other_lake("model", name, self._target, registered.tags or {}, self._lake)
        if description and (registered.description or "") != description:
            self._client.update_registered_model(name, description)
        return registered

    def _registered_versions(self, manifests: Iterable[int]) -> dict[int, ModelVersion]:
        """Return MLflow's versions by tidemill's version number, the latest of each."""
        entries: dict[int, ModelVersion] = {}
        token = None
        while list(manifests):
            page = self._client.search_model_versions(f"name = '{self._target.model}'", page_token=token)
            for found in sorted(page, key=lambda entry: int(entry.version)):
                # Unity Catalog lists versions without their tags.
                is_whole = not self._target.registry_uri.startswith("databricks-uc")
                entry = found if is_whole else self._client.get_model_version(self._target.model, found.version)
                if VERSION in entry.tags and (int(entry.tags[VERSION]) not in entries or _is_later(entry, entries)):
                    entries[int(entry.tags[VERSION])] = entry
            token = page.token
            if not token:
                break
        return entries

    def _register(self, manifest: Manifest, model_id: str) -> ModelVersion:
        model = self._logged[str(manifest.version)]
        source = model.artifact_location if self._target.is_embedded else f"models:/{model_id}"
        tags = _texts(version_tags(manifest))
        return self._client.create_model_version(self._target.model, source, model.source_run_id, tags=tags, model_id=model_id)

    def _update(self, entry: ModelVersion, manifest: Manifest, state: str, changes: Sequence[DeploymentRow]) -> None:
        """Set the tags and the description of a version where they differ."""
        tables = {f"table.{name}": version for name, version in sorted(manifest.dataset_inputs.items())}
        tables[f"table.gold.{manifest.pipeline}_dataset"] = manifest.dataset_version
        for name, value in _texts({**version_tags(manifest), **tables, "state": state}).items():
            if entry.tags.get(name) != value:
                self._client.set_model_version_tag(self._target.model, entry.version, name, value)
        text = self._describe(manifest, changes)
        if (entry.description or "") != text:
            self._client.update_model_version(self._target.model, entry.version, text)

    def _describe(self, manifest: Manifest, changes: Sequence[DeploymentRow]) -> str:
        """Return the description of a version in Markdown: its model card, or what the ledger says where it has none."""
        try:
            card = self._lake.read_text(f"{model_folder(manifest.pipeline, manifest.version)}/{MODEL_CARD}")
        except (OSError, UnicodeDecodeError):
            card = ""
        if card.strip():
            end = "\n\n… (the whole card lies with the model in the lake)"
            return card if len(card) <= _LONGEST_DESCRIPTION else card[: _LONGEST_DESCRIPTION - len(end)] + end
        lines = [
            f"Model {manifest.version} of the pipeline **{manifest.pipeline}**: {manifest.family}, trained by run `{manifest.run_id}`."
        ]
        lines += [f"- {row.to_state}, by {row.actor}: {row.reason}" for row in changes]
        return "\n".join([lines[0], "", *lines[1:]])[:_LONGEST_DESCRIPTION]

    def _point_aliases(self, present: Mapping[str, Any], entries: Mapping[int, ModelVersion], states: Mapping[int, str]) -> str | None:
        """Let each alias name the latest version in its state, and remove it where there is none; return where ``champion`` points."""
        targets: dict[str, str | None] = {}
        for alias, state in ALIASES.items():
            versions = [version for version, entry_state in states.items() if entry_state == state and version in entries]
            target = str(entries[max(versions)].version) if versions else None
            targets[alias] = target
            if target is not None and str(present.get(alias)) != target:
                self._client.set_registered_model_alias(self._target.model, alias, target)
            elif target is None and alias in present:
                self._client.delete_registered_model_alias(self._target.model, alias)
        return targets["champion"]


def _is_later(entry: ModelVersion, entries: Mapping[int, ModelVersion]) -> bool:
    return int(entry.version) > int(entries[int(entry.tags[VERSION])].version)


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def _local_folder(model: LoggedModel) -> Path:
    return Path(unquote(urlparse(str(model.artifact_location)).path))
