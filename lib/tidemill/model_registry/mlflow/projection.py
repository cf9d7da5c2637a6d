"""MLflow's view of the registry: experiment, runs, versions and the alias ``champion``, created and repaired from the lake."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from tidemill.errors import SetupError
from tidemill.model_registry.deployments import Deployments
from tidemill.model_registry.manifest import Manifest, model_fault, read_manifest
from tidemill.model_registry.mlflow.files import write_mlflow_model
from tidemill.quoting import is_local
from tidemill.runtime.locks import hold_lock

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from tidemill.lake import Lake


ALIAS = "champion"
_EXAMPLES = 5
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def store_uri(lake: Lake) -> str:
    """Return the tracking and registry URI of the lake's embedded MLflow store."""
    return f"sqlite:///{lake.engine_root}/mlflow.db"


def project(lake: Lake, pipeline: str) -> None:
    """Create what MLflow lacks: a run and a registered version per model version, and the alias of the champion.

    Idempotent: existing entries stay, and later changes of the ledger (state, test metrics, champion) are applied.

    Raises:
        SetupError: MLflow is not installed, or the lake is not a local path, so that it has no embedded store.
    """
    if not is_local(lake.root):
        raise SetupError(f"MLflow's embedded store needs a lake at a local path, found {lake.root}; the lake itself holds the model")
    if importlib.util.find_spec("mlflow") is None:
        raise SetupError("MLflow is not installed, so the model is in the lake alone; install it with: pip install 'tidemill[mlflow]'")
    with hold_lock(lake.root, "mlflow"), _client(lake) as client:
        _Projection(lake, pipeline, client).repair()


@contextmanager
def _client(lake: Lake) -> Iterator[MlflowClient]:
    """Yield a client of the lake's store, without telemetry and output."""
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient  # slow, optional, and must see the environment above

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        Path(lake.root).mkdir(parents=True, exist_ok=True)
        with _skip_disk_sync(is_new=not (Path(lake.root) / "mlflow.db").exists()):
            yield MlflowClient(store_uri(lake), store_uri(lake))


@contextmanager
def _skip_disk_sync(*, is_new: bool) -> Iterator[None]:
    """Create a new store without waiting for the disk after each of its many commits; it can be rebuilt from the lake."""
    if not is_new:
        yield
        return
    from sqlalchemy import Engine, event  # comes with MLflow

    def relax(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)


class _Projection:
    """One pass over a pipeline's versions, comparing MLflow with the lake."""

    def __init__(self, lake: Lake, pipeline: str, client: MlflowClient) -> None:
        self.lake, self.pipeline, self.client = lake, pipeline, client
        self.deployments = Deployments(lake.ledger, pipeline)

    def repair(self) -> None:
        """Update MLflow from the lake."""
        experiment = self._experiment()
        versions = self._registered_versions()
        for version, state in sorted(self.deployments.states().items()):
            manifest = self._manifest(version)
            if manifest is not None:
                if version not in versions:
                    versions[version] = self._register(experiment, manifest)
                self._update_version(versions[version], manifest, state)
        self._point_alias(versions)

    def _experiment(self) -> str:
        experiment = self.client.get_experiment_by_name(self.pipeline)
        location = (Path(self.lake.root) / "mlflow" / self.pipeline).as_uri()
        return str(experiment.experiment_id if experiment else self.client.create_experiment(self.pipeline, artifact_location=location))

    def _registered_versions(self) -> dict[int, Any]:
        """Return MLflow's versions by tidemill's version number."""
        if not self.client.search_registered_models(filter_string=f"name = '{self.pipeline}'"):
            self.client.create_registered_model(self.pipeline)
        versions: dict[int, Any] = {}
        token = None
        while True:
            page = self.client.search_model_versions(f"name = '{self.pipeline}'", page_token=token)
            versions |= {int(entry.tags["model_version"]): entry for entry in page if "model_version" in entry.tags}
            token = page.token
            if not token:
                return versions

    def _manifest(self, version: int) -> Manifest | None:
        """Return the manifest of a version, None if it is missing or damaged: such a version stays as it is in MLflow."""
        return None if model_fault(self.lake, self.pipeline, version) else read_manifest(self.lake, self.pipeline, version)

    def _files(self, version: int) -> Path:
        return Path(self.lake.root) / "models" / self.pipeline / str(version)

    def _register(self, experiment: str, manifest: Manifest) -> Any:
        """Create run, logged model and registered version; the version comes last, so that an interrupted attempt is repeated."""
        from mlflow.entities import LoggedModelOutput, Metric, Param

        tags = {
            "run_id": manifest.run_id,
            "model_version": str(manifest.version),
            "dataset_version": str(manifest.dataset_version),
            "dataset_inputs": json.dumps(dict(sorted(manifest.dataset_inputs.items()))),
            "family": manifest.family,
        }
        for torn in self.client.search_runs([experiment], f"tags.model_version = '{manifest.version}'"):
            self.client.delete_run(torn.info.run_id)
        name = f"{self.pipeline}-{manifest.version}"
        run_id = self.client.create_run(experiment, tags=tags, run_name=name).info.run_id
        params = [Param(key, str(value)) for key, value in {"family": manifest.family, **manifest.params}.items()]
        value = manifest.cv_value
        metrics = [] if value is None or not math.isfinite(value) else [Metric(f"cv_{manifest.metric}", value, 0, 0)]
        self.client.log_batch(run_id, metrics=metrics, params=params)
        logged = self.client.create_logged_model(experiment, name="model", source_run_id=run_id, tags=tags)
        folder = Path(unquote(urlparse(logged.artifact_location).path))
        files = self._files(manifest.version)
        write_mlflow_model(folder, files, manifest, run_id=run_id, model_id=logged.model_id, example=self._input_example(manifest))
        self.client.finalize_logged_model(logged.model_id, "READY")
        self.client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
        self.client.set_terminated(run_id)
        return self.client.create_model_version(self.pipeline, logged.artifact_location, run_id, tags=tags, model_id=logged.model_id)

    def _input_example(self, manifest: Manifest) -> pd.DataFrame | None:
        """Return the feature columns of a few rows of the dataset that the model was trained with; None where it is gone."""
        table = f"gold.{self.pipeline}_dataset"
        names = list(manifest.feature_columns)
        try:
            rows = DeltaTable(self.lake.path(table), version=manifest.dataset_version).to_pyarrow_dataset().head(_EXAMPLES, columns=names)
        except (DeltaError, TableNotFoundError, pa.ArrowException, OSError):  # vacuumed, or of a kind that only Spark reads
            return None
        return rows.to_pandas().map(lambda cell: float(cell) if isinstance(cell, Decimal) else cell)

    def _update_version(self, entry: Any, manifest: Manifest, state: str) -> None:
        """Set what the ledger says now: the state as a tag, the latest test metrics on the run."""
        if entry.tags.get("state") != state:
            self.client.set_model_version_tag(self.pipeline, entry.version, "state", state)
            self.client.set_tag(entry.run_id, "state", state)
        known = self.client.get_run(entry.run_id).data.metrics
        metrics, seq = self._test_metrics(manifest.version)
        for name, value in metrics.items():
            if known.get(name) != value:
                # Of several values MLflow shows that of the greatest step, and of two at one step that of the later clock.
                self.client.log_metric(entry.run_id, name, value, step=seq)

    def _test_metrics(self, version: int) -> tuple[Mapping[str, float], int]:
        """Return the metrics that the gates judged, from the latest evidence, and the ``seq`` of its row."""
        latest: Mapping[str, float] = {}
        seq = 0
        for row in self.deployments.rows():
            metrics = json.loads(row.evidence).get("metrics") if row.model_version == version and row.evidence else None
            if metrics:
                latest, seq = metrics, int(row.seq or 0)
        return {f"test_{name}": value for name, value in latest.items() if value is not None}, seq

    def _point_alias(self, versions: Mapping[int, Any]) -> None:
        champion = self.deployments.champion()
        present = self.client.get_registered_model(self.pipeline).aliases.get(ALIAS)
        target = None if champion is None or champion not in versions else str(versions[champion].version)
        if target is not None and str(present) != target:
            self.client.set_registered_model_alias(self.pipeline, ALIAS, target)
        elif target is None and present is not None:
            self.client.delete_registered_model_alias(self.pipeline, ALIAS)
