"""MLflow's view of a pipeline: experiment, runs, versions and aliases, created and repaired from the lake."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlparse

from tidemill.errors import SetupError
from tidemill.model_registry.deployments import Deployments
from tidemill.model_registry.manifest import Manifest, model_fault, read_manifest
from tidemill.model_registry.mlflow.history import read_ledger_state, read_runs
from tidemill.model_registry.mlflow.runs import RunProjection, ShownVersion
from tidemill.model_registry.mlflow.target import MlflowTarget, call_server, find_target, open_client, refuse_unreachable
from tidemill.model_registry.mlflow.versions import VersionProjection, refuse_other_lake
from tidemill.quoting import is_local
from tidemill.runtime.locks import hold_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tidemill.lake import Lake
    from tidemill.spec.models.pipeline import Registry


_DESCRIPTION = "mlflow.note.content"
_KIND, _MODELS = "mlflow.experimentKind", "custom_model_development"  # else MLflow opens its pages of language models
_TURNS, _TURN_S = 100, 0.3


def project(lake: Lake, pipeline: str, registry: Registry | None = None, description: str = "") -> None:
    """Create what MLflow lacks of the pipeline's runs, trials and versions, and set what the ledger says of them now.

    Idempotent and incremental: what is there stays, a run or version that has not changed is not touched, and a store that was lost is made
    again. Without a registry the store is a SQLite file in the lake.

    Raises:
        SetupError: MLflow is not installed, does not answer, or shows another lake under these names; or without a registry the lake is
            not a local path, so that it has no store of its own.
    """
    state = read_ledger_state(lake, pipeline)
    if state is None:
        return
    absence = lacks_mlflow(lake, registry)
    if absence is not None:
        raise SetupError(absence)
    target = find_target(lake, pipeline, registry)
    refuse_unreachable(target)
    with _take_turn(lake.root):
        _remove_copied_store(target)
        with open_client(target) as client:
            champion = _Projection(lake, pipeline, target, client).repair(description)
        _write_mark(lake, pipeline, _Mark(_identify(target), state, champion))


def lacks_mlflow(lake: Lake, registry: Registry | None) -> str | None:
    """Return why there is no MLflow to show anything in, None where there is: it is not installed, or has no place."""
    if importlib.util.find_spec("mlflow") is None:
        return "MLflow is not installed, so the model is in the lake alone; install it with: pip install 'tidemill[mlflow]'"
    if registry is None and not is_local(lake.root):
        return (
            f"MLflow's embedded store needs a lake at a local path, found {lake.root}; the lake itself holds the model; "
            "name a tracking server with `registry:` to see it in MLflow"
        )
    return None


def is_projected(lake: Lake, pipeline: str, registry: Registry | None = None) -> bool:
    """Return True where MLflow shows the pipeline as the ledger has it; looks at little, and imports no MLflow.

    Raises:
        SetupError: MLflow's server or file does not answer.
    """
    state = read_ledger_state(lake, pipeline)
    if state is None:
        return True
    target, mark = find_target(lake, pipeline, registry), _read_mark(lake, pipeline)
    if mark is None or mark.target != _identify(target) or mark.state != state:
        return False
    if target.is_embedded:
        return target.store_file.exists() and bool(target.folder and target.folder.exists()) and _is_in_file(target, mark)
    return _is_on_server(target, mark) if target.is_server else True


@dataclass(frozen=True)
class _Mark:
    """What was projected last: where, the state of the ledger, and MLflow's number of the champion."""

    target: str
    state: str
    champion: str | None


def _mark_file(pipeline: str) -> str:
    return f"mlflow/{pipeline}.json"


def _write_mark(lake: Lake, pipeline: str, mark: _Mark) -> None:
    lake.write_text(_mark_file(pipeline), json.dumps(mark.__dict__) + "\n")


def _read_mark(lake: Lake, pipeline: str) -> _Mark | None:
    try:
        return _Mark(**json.loads(lake.read_text(_mark_file(pipeline))))
    except (OSError, ValueError, TypeError):
        return None


def _identify(target: MlflowTarget) -> str:
    """Return a hash of where the projection is: an address may come from a secret, and is not written."""
    names = [target.tracking_uri, target.registry_uri, target.experiment, target.model]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]


def _is_in_file(target: MlflowTarget, mark: _Mark) -> bool:
    """Return True where the SQLite file has the experiment, and the champion at its place; a file that was made anew has neither."""
    aliases = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = 'champion'"
    experiments = "SELECT 1 FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(target.store_file))}?mode=ro", uri=True, timeout=1)) as connection:
            version = connection.execute(aliases, (target.model,)).fetchone()
            is_there = connection.execute(experiments, (target.experiment,)).fetchone() is not None
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise SetupError(f"{target.place} cannot be read ({error})") from error
        return False
    except sqlite3.DatabaseError:
        return False
    return is_there and (str(version[0]) if version else None) == mark.champion


def _is_on_server(target: MlflowTarget, mark: _Mark) -> bool:
    """Return True where the server has the experiment, or the champion at its place."""
    api = "/api/2.0/mlflow"
    if mark.champion is None:
        return call_server(target, f"{api}/experiments/get-by-name?experiment_name={quote(target.experiment)}") is not None
    answer = call_server(target, f"{api}/registered-models/alias?name={quote(target.model)}&alias=champion")
    try:
        return str(json.loads(answer or b"{}")["model_version"]["version"]) == mark.champion
    except (ValueError, KeyError, TypeError):
        return False


@contextmanager
def _take_turn(root: str) -> Iterator[None]:
    """Keep other processes from projecting the same lake; one that hangs is not waited for."""
    for _ in range(_TURNS):
        with hold_lock(root, "mlflow", wait=False) as is_held:
            if is_held:
                yield
                return
        time.sleep(_TURN_S)
    raise SetupError("another process has been updating MLflow for long")


def _remove_copied_store(target: MlflowTarget) -> None:
    """Remove an embedded store that was copied with its lake: its models are in the folder of the other lake."""
    if target.folder is None or not target.store_file.exists():
        return
    locations = "SELECT artifact_location FROM experiments WHERE name = ?"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(target.store_file))}?mode=ro", uri=True)) as connection:
            row = connection.execute(locations, (target.experiment,)).fetchone()
    except sqlite3.OperationalError:  # a file without MLflow's tables
        return
    if row is not None and unquote(urlparse(str(row[0])).path) != str(target.folder):
        for suffix in ("", "-wal", "-shm", "-journal"):
            target.store_file.with_name(f"{target.store_file.name}{suffix}").unlink(missing_ok=True)
        shutil.rmtree(target.folder.parent, ignore_errors=True)


class _Projection:
    """One pass over a pipeline's runs and versions, comparing MLflow with the lake."""

    def __init__(self, lake: Lake, pipeline: str, target: MlflowTarget, client: MlflowClient) -> None:
        self._lake, self._pipeline, self._target, self._client = lake, pipeline, target, client

    def repair(self, description: str) -> str | None:
        """Update MLflow from the lake; return MLflow's number of the champion's version, None without a champion."""
        deployments = Deployments(self._lake.ledger, self._pipeline)
        changes, states = deployments.rows(), deployments.states()
        experiment = self._experiment(description)
        recorded = read_runs(self._lake, self._pipeline, changes)
        runs = RunProjection(self._client, experiment, recorded)
        versions = VersionProjection(self._lake, self._target, self._client, experiment)
        manifests = {version: manifest for version in sorted(states) if (manifest := self._manifest(version)) is not None}
        models = {version: versions.find_or_log(manifest, runs.find_or_create) for version, manifest in manifests.items()}
        for run in recorded.values():
            own = [ShownVersion(manifest, models[version]) for version, manifest in manifests.items() if manifest.run_id == run.run_id]
            runs.show(run, own, models)
        return versions.register(manifests, models, states, changes, description)

    def _experiment(self, description: str) -> str:
        """Return the id of the experiment, which is created, or restored if it was deleted."""
        target = self._target
        experiment = self._client.get_experiment_by_name(target.experiment)
        tags = {_KIND: _MODELS} if target.is_embedded else {_KIND: _MODELS, "lake": self._lake.root}
        if experiment is None:
            location = target.folder.as_uri() if target.folder else None
            identifier = str(self._client.create_experiment(target.experiment, artifact_location=location, tags=tags))
            present: dict[str, str] = tags
        else:
            identifier, present = str(experiment.experiment_id), dict(experiment.tags)
            if experiment.lifecycle_stage == "deleted":
                self._client.restore_experiment(identifier)
        refuse_other_lake("experiment", target.experiment, target, present, self._lake)
        wanted = {**tags, **({_DESCRIPTION: description} if description else {})}
        for name, value in wanted.items():
            if present.get(name) != value:
                self._client.set_experiment_tag(identifier, name, value)
        return identifier

    def _manifest(self, version: int) -> Manifest | None:
        """Return the manifest of a version, None if it is missing or damaged: such a version stays as it is in MLflow."""
        return None if model_fault(self._lake, self._pipeline, version) else read_manifest(self._lake, self._pipeline, version)
