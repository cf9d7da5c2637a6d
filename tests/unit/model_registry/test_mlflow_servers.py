"""MLflow on a server: reached within seconds, credentials left nowhere, Unity Catalog as MLflow documents it, other lakes refused."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from tidemill.errors import SetupError
from tidemill.lake.ops import DeploymentRow, StepRow
from tidemill.model_registry import is_projected, project
from tidemill.model_registry.manifest import Manifest
from tidemill.model_registry.mlflow import target as target_module
from tidemill.model_registry.mlflow import versions as versions_module
from tidemill.model_registry.mlflow.history import read_ledger_state
from tidemill.model_registry.mlflow.projection import _identify
from tidemill.model_registry.mlflow.target import call_server, find_target, open_client
from tidemill.model_registry.mlflow.versions import VersionProjection
from tidemill.spec.models.pipeline import Registry
from tidemill.workflow.mlflow_projection import show_in_mlflow

CANARY = "canary-3f9c"


def make_spec(registry):
    """What `show_in_mlflow` reads of a spec."""
    return SimpleNamespace(pipeline=SimpleNamespace(pipeline="late", registry=registry, description=""))


@pytest.fixture
def trained(lake):
    """A lake whose ledger has a run that trained."""
    lake.ledger.append([StepRow(pipeline="late", run_id="r1", node="train", state="SUCCEEDED")])
    return lake


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_server_that_is_down_or_hangs_costs_seconds_and_a_sentence(trained, monkeypatch):
    monkeypatch.setattr(target_module, "_PATIENCE_S", 0.3)
    down = f"http://127.0.0.1:{free_port()}"
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for uri in (down, f"http://127.0.0.1:{mute.getsockname()[1]}"):
            before = time.monotonic()
            sentence = show_in_mlflow(make_spec(Registry(uri=uri)), trained)
            assert time.monotonic() - before < 2.0
            assert sentence.startswith(f"MLflow does not show everything yet: {uri} does not answer (") and "\n" not in sentence
    assert not (trained.ledger.rows("ops.runs")) and len(trained.ledger.rows("ops.steps")) == 1


@pytest.fixture
def server():
    """A server that knows no MLflow, and the headers of its requests."""
    headers, answers = [], {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            headers.append(self.headers.get("Authorization"))
            body = answers.get(self.path.partition("?")[0])
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield SimpleNamespace(uri=f"http://127.0.0.1:{running.server_port}", headers=headers, answers=answers)
        running.shutdown()


def test_credentials_are_sent_and_left_nowhere(trained, server, monkeypatch):
    monkeypatch.setenv("TIDEMILL_SECRET_MLFLOW_USER", "mlflow-reader")
    monkeypatch.setenv("TIDEMILL_SECRET_MLFLOW_PASSWORD", CANARY)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "another's")
    registry = Registry(uri=server.uri, user="${secret:mlflow/user}", password="${secret:mlflow/password}")
    target = find_target(trained, "late", registry)
    call_server(target, "/health")
    assert server.headers == ["Basic " + base64.b64encode(f"mlflow-reader:{CANARY}".encode()).decode()]
    with open_client(target) as client:
        assert client.tracking_uri == server.uri
        inside = {name: os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD", "TOKEN")}
        assert inside == {"USERNAME": "mlflow-reader", "PASSWORD": CANARY, "TOKEN": None}
        assert int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) <= 10 and int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) <= 1
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ and os.environ["MLFLOW_TRACKING_TOKEN"] == "another's"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ
    assert CANARY not in repr(target) and CANARY not in str(show_in_mlflow(make_spec(registry), trained))

    own = find_target(trained, "late", Registry(uri=server.uri))
    call_server(own, "/health")
    assert server.headers[-1] == "Bearer another's"


def test_an_unknown_secret_and_an_address_that_is_none_are_told(trained, monkeypatch):
    assert "export it as TIDEMILL_SECRET_MLFLOW_URI" in show_in_mlflow(make_spec(Registry(uri="${secret:mlflow/uri}")), trained)
    monkeypatch.setenv("TIDEMILL_SECRET_MLFLOW_URI", f"ftp://{CANARY}")
    sentence = show_in_mlflow(make_spec(Registry(uri="${secret:mlflow/uri}")), trained)
    assert "is not an address of MLflow" in sentence and CANARY not in sentence


class UnityCatalog:
    """A substitute of MLflow's client for Unity Catalog: it lists versions without tags, and refuses what that service refuses."""

    def __init__(self):
        self.models, self.versions, self.logged, self.calls = {}, {}, {}, []

    def search_logged_models(self, _experiments, page_token=None):
        assert page_token is None
        return Page(self.logged.values())

    def create_logged_model(self, _experiment, name, source_run_id, tags):
        model_id = f"m-{len(self.logged)}"
        location = f"dbfs:/databricks/mlflow-tracking/1/logged_models/{model_id}"
        model = SimpleNamespace(
            model_id=model_id, source_run_id=source_run_id, tags=tags, status="PENDING", artifact_location=location, name=name
        )
        self.logged[model_id] = model
        return model

    def log_outputs(self, run_id, models):
        self.calls.append(("outputs", run_id, [model.model_id for model in models]))

    def log_model_artifacts(self, model_id, local_dir):
        self.calls.append(("upload", model_id, [file.name for file in Path(local_dir).iterdir()]))

    def finalize_logged_model(self, model_id, status):
        self.logged[model_id].status = status

    def get_registered_model(self, name):
        from mlflow.exceptions import RestException

        if name not in self.models:
            raise RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"Registered Model {name!r} does not exist"})
        return self.models[name]

    def create_registered_model(self, name, tags, description):
        assert name.count(".") == 2
        self.models[name] = SimpleNamespace(name=name, tags=tags, description=description, aliases={})
        return self.models[name]

    def search_registered_models(self, *_, **__):
        raise AssertionError("Unity Catalog takes no filter of registered models")

    def search_model_versions(self, condition, page_token=None):
        assert condition == "name = 'main.ml.late'" and page_token is None
        return Page(SimpleNamespace(version=version) for version in self.versions)

    def get_model_version(self, name, version):
        return self.versions[version]

    def create_model_version(self, name, source, run_id, tags, model_id):
        version = str(len(self.versions) + 1)
        self.versions[version] = SimpleNamespace(
            version=version, source=source, run_id=run_id, tags=dict(tags), model_id=model_id, description=""
        )
        self.calls.append(("version", source, model_id))
        return self.versions[version]

    def set_model_version_tag(self, _name, version, key, value):
        self.versions[version].tags[key] = value
        self.calls.append(("tag", version, key))

    def update_model_version(self, _name, version, description):
        self.versions[version].description = description

    def set_registered_model_alias(self, name, alias, version):
        self.models[name].aliases[alias] = version
        self.calls.append(("alias", alias, version))

    def delete_registered_model_alias(self, name, alias):
        del self.models[name].aliases[alias]


class Page(list):
    """A page of MLflow's answers: the last one."""

    token = None


def make_manifest(version):
    return Manifest(
        pipeline="late", version=version, task="binary", family="forest", params={}, metric="f1", cv_value=0.5, classes=[False, True],
        label_type="boolean", positive=True, feature_columns={"x": "double"}, run_id=f"r{version}", dataset_version=3,
    )  # fmt: skip


def test_unity_catalog_has_a_version_each_and_aliases(lake, monkeypatch):
    monkeypatch.setattr(versions_module, "write_mlflow_model", lambda folder, *_, **__: (folder.mkdir(), (folder / "MLmodel").touch()))
    target = find_target(lake, "late", Registry(uri="databricks-uc://prod", model="main.ml.late"))
    assert (target.tracking_uri, target.registry_uri) == ("databricks://prod", "databricks-uc://prod")
    assert (target.experiment, target.is_embedded, target.is_server) == ("/Shared/late", False, False)
    client = UnityCatalog()
    changes = [DeploymentRow(model_version=1, to_state="CHAMPION", actor="ada", reason="gates")]

    def show(states):
        projection = VersionProjection(lake, target, client, "1")
        manifests = {version: make_manifest(version) for version in states}
        models = {version: projection.find_or_log(manifest, lambda run_id: f"mlflow-{run_id}") for version, manifest in manifests.items()}
        return projection.register(manifests, models, states, changes, "Late?")

    assert show({1: "CHAMPION", 2: "CHALLENGER", 3: "REJECTED"}) == "1"
    assert client.models["main.ml.late"].aliases == {"champion": "1", "challenger": "2"}
    assert client.models["main.ml.late"].tags == {"lake": lake.root}
    assert {entry.source for entry in client.versions.values()} == {"models:/m-0", "models:/m-1", "models:/m-2"}
    assert client.versions["1"].tags["state"] == "CHAMPION" and "CHAMPION, by ada: gates" in client.versions["1"].description
    assert [call for call in client.calls if call[0] == "upload"] == [("upload", f"m-{number}", ["MLmodel"]) for number in range(3)]
    assert ("outputs", "mlflow-r2", ["m-1"]) in client.calls
    before = len(client.calls)
    show({1: "CHAMPION", 2: "CHALLENGER", 3: "REJECTED"})
    assert len(client.calls) == before
    show({1: "RETIRED", 2: "CHAMPION", 3: "REJECTED"})
    assert client.models["main.ml.late"].aliases == {"champion": "2"} and client.calls[before:] == [
        ("tag", "1", "state"),
        ("tag", "2", "state"),
        ("alias", "champion", "2"),
    ]


def test_a_model_card_becomes_the_description(lake):
    target = find_target(lake, "late", Registry(uri="databricks-uc", model="main.ml.late"))
    projection = VersionProjection(lake, target, UnityCatalog(), "1")
    lake.write_text("models/late/1/model_card.md", "# Late, version 1\n" + "x" * 9000)
    described = projection._describe(make_manifest(1), [])
    assert (
        described.startswith("# Late, version 1")
        and len(described) <= 5000
        and described.endswith("(the whole card lies with the model in the lake)")
    )


def test_another_lake_of_the_same_name_is_refused(trained):
    target = find_target(trained, "late", Registry(uri="http://mlflow"))
    with pytest.raises(SetupError, match=r"the model late of http://mlflow shows the lake /other; give this one another name"):
        versions_module.refuse_other_lake("model", "late", target, {"lake": "/other"}, trained)
    versions_module.refuse_other_lake("model", "late", target, {"lake": trained.root}, trained)


def test_the_check_at_the_start_asks_the_server_once(trained, server):
    registry = Registry(uri=server.uri)
    assert not is_projected(trained, "late", registry) and server.headers == []
    target = find_target(trained, "late", registry)
    mark = {"target": _identify(target), "state": read_ledger_state(trained, "late"), "champion": "3"}
    trained.write_text("mlflow/late.json", json.dumps(mark))
    alias = "/api/2.0/mlflow/registered-models/alias"
    for answer, is_current in ((None, False), ({"model_version": {"version": "3"}}, True), ({"model_version": {"version": "2"}}, False)):
        server.answers[alias] = answer and json.dumps(answer).encode()
        assert is_projected(trained, "late", registry) is is_current
    assert len(server.headers) == 3
    trained.ledger.append([StepRow(pipeline="late", run_id="r2", node="train", state="SUCCEEDED")])
    assert not is_projected(trained, "late", registry)
    with pytest.raises(SetupError, match="does not answer"):
        project(trained, "late", Registry(uri=f"http://127.0.0.1:{free_port()}"))
