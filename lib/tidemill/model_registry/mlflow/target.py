"""Where MLflow is: the lake's own store or a server, reached quietly, within seconds, and without leaving credentials behind."""

from __future__ import annotations

import logging
import os
import sqlite3
import ssl
import urllib.error
import urllib.request
import warnings
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.errors import SetupError
from tidemill.runtime.secrets import reveal
from tidemill.spec.models.registry import find_address_fault

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tidemill.lake import Lake
    from tidemill.spec.models.pipeline import Registry

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_PRINT_MODEL_URLS_ON_CREATION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
_HASTY = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "DATABRICKS_SDK_RETRY_TIMEOUT_SECONDS": "20",
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",  # a pooled connection would go on writing to a file that was deleted
}
_CREDENTIALS = {"user": "MLFLOW_TRACKING_USERNAME", "password": "MLFLOW_TRACKING_PASSWORD", "token": "MLFLOW_TRACKING_TOKEN"}
_PATIENCE_S = 3.0


@dataclass(frozen=True)
class MlflowTarget:
    """A tracking store with a model registry, and the names that a pipeline has there.

    ``folder`` is the folder of the artifacts of an embedded store, None for a server; ``place`` is how a message names it.
    """

    tracking_uri: str
    registry_uri: str
    experiment: str
    model: str
    place: str
    folder: Path | None = None
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_embedded(self) -> bool:
        """True for the SQLite file in the lake."""
        return self.folder is not None

    @property
    def is_server(self) -> bool:
        """True for a tracking server that is reached by HTTP."""
        return self.tracking_uri.startswith("http")

    @property
    def store_file(self) -> Path:
        """The SQLite file of an embedded store."""
        return Path(self.tracking_uri.removeprefix("sqlite:///"))


def store_uri(lake: Lake) -> str:
    """Return the tracking and registry URI of the lake's embedded MLflow store."""
    return f"sqlite:///{lake.engine_root}/mlflow.db"


def find_target(lake: Lake, pipeline: str, registry: Registry | None) -> MlflowTarget:
    """Return where the pipeline is to be shown; secrets of the registry are looked up.

    Raises:
        SetupError: a secret is no address.
        UsageError: a secret is not known.
    """
    if registry is None:
        uri = store_uri(lake)
        return MlflowTarget(uri, uri, pipeline, pipeline, f"{lake.root}/mlflow.db", Path(lake.root) / "mlflow" / pipeline)
    uri = reveal(registry.uri)
    fault = find_address_fault(uri)
    if fault is not None:
        raise SetupError(f"registry: the secret {registry.uri} is not an address of MLflow ({fault})")
    given = {variable: getattr(registry, name) for name, variable in _CREDENTIALS.items()}
    credentials = {variable: reveal(value) for variable, value in given.items() if value is not None}
    tracking = uri.replace("databricks-uc", "databricks", 1) if registry.is_databricks else uri.rstrip("/")
    experiment = registry.experiment or (f"/Shared/{pipeline}" if registry.is_databricks else pipeline)
    place = registry.uri if registry.uri == uri else "the server that `registry:` names"
    return MlflowTarget(
        tracking, uri if registry.is_databricks else tracking, experiment, registry.model or pipeline, place, None, credentials
    )


def refuse_unreachable(target: MlflowTarget) -> None:
    """Refuse a store that does not answer within seconds: a server that is down, a SQLite file that is locked or damaged.

    Raises:
        SetupError: it does not answer; the sentence says how.
    """
    if target.is_server:
        call_server(target, "/health")
    elif target.is_embedded and target.store_file.exists():
        try:
            with closing(sqlite3.connect(target.store_file, timeout=_PATIENCE_S, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except sqlite3.DatabaseError as error:
            raise SetupError(f"{target.place} cannot be written ({error})") from error


def call_server(target: MlflowTarget, path: str) -> bytes | None:
    """Return what a tracking server answers to a GET; None where it answers with an error, such as that there is no such thing.

    Raises:
        SetupError: nothing answers within seconds.
    """
    request = urllib.request.Request(f"{target.tracking_uri}{path}", headers=_authorization(target))
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError:
        return None
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):  # MLflow has its own settings of certificates
            return None
        raise SetupError(f"{target.place} does not answer ({reason})") from error


def _authorization(target: MlflowTarget) -> dict[str, str]:
    """Return the header with the credentials of the spec, else of MLflow's own variables; empty without any."""
    settings = target.credentials or os.environ
    token, user, password = (settings.get(_CREDENTIALS[name]) for name in ("token", "user", "password"))
    if token:
        return {"Authorization": f"Bearer {token}"}
    if user and password:
        return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}
    return {}


@contextmanager
def open_client(target: MlflowTarget) -> Iterator[MlflowClient]:
    """Yield a client of the target, without telemetry and output, that gives up soon; credentials leave the environment afterwards."""
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    with warnings.catch_warnings(), _environment({**{k: v for k, v in _HASTY.items() if k not in os.environ}, **_cleared(target)}):
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient  # slow, optional, and must see the environment above

        for name in ("mlflow", "alembic", "urllib3"):
            logging.getLogger(name).setLevel(logging.ERROR)
        is_new = target.is_embedded and not target.store_file.exists()
        if is_new:
            target.store_file.parent.mkdir(parents=True, exist_ok=True)
            _forget_store(target.tracking_uri)
        with _skip_disk_sync() if is_new else nullcontext():
            yield MlflowClient(target.tracking_uri, target.registry_uri)


def _cleared(target: MlflowTarget) -> dict[str, str | None]:
    """Return MLflow's variables of the credentials: those of the spec in place of all that the environment has."""
    return {**dict.fromkeys(_CREDENTIALS.values()), **target.credentials} if target.credentials else {}


@contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables (None: unset) inside the block."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _forget_store(uri: str) -> None:
    """Let MLflow create the tables of a store that this process had open before its file was deleted."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore
    from mlflow.tracking._model_registry.registry import ModelRegistryStoreRegistry
    from mlflow.tracking._tracking_service.registry import TrackingStoreRegistry

    for store in (TrackingStore, RegistryStore):
        store._engine_map.pop(uri, None)
    for registry in (TrackingStoreRegistry, ModelRegistryStoreRegistry):
        registry._get_store_with_resolved_uri.cache_clear()


@contextmanager
def _skip_disk_sync() -> Iterator[None]:
    """Create a new store without waiting for the disk after each of its many commits; it can be rebuilt from the lake."""
    from sqlalchemy import Engine, event  # comes with MLflow

    def relax(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)
