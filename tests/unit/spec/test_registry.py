"""`registry:`: which addresses of MLflow are taken, and that credentials are never written out."""

from __future__ import annotations

import pytest

from tidemill.errors import SpecError
from tidemill.spec import load_spec

SPEC = """\
pipeline: late
sources: {{flights: {{format: csv, path: flights.csv}}}}
dataset: {{from: bronze.flights, key: [id], label: late}}
training: {{task: binary}}
registry: {}
"""


@pytest.fixture
def load(tmp_path):
    def load_registry(text):
        (tmp_path / "pipeline.yml").write_text(SPEC.format(text))
        return load_spec(tmp_path, environ={"URI": "http://mlflow:5000", "WITH_PASSWORD": "http://me:hunter2@mlflow"}).pipeline.registry

    return load_registry


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://mlflow.example.com/base", "https://mlflow.example.com/base"),
        ("${URI}", "http://mlflow:5000"),
        ("databricks", "databricks"),
        ("databricks://prod", "databricks://prod"),
        ("{uri: databricks-uc, model: main.ml.late}", "databricks-uc"),
        ("{uri: 'http://h', user: '${secret:a/u}', password: '${secret:a/p}'}", "http://h"),
        ("{uri: 'http://h', token: '${secret:a/t}', model: mine, experiment: ours}", "http://h"),
        ("${secret:mlflow/uri}", "${secret:mlflow/uri}"),
    ],
)
def test_an_address_alone_or_a_block_is_taken(load, text, uri):
    assert load(text).uri == uri


def test_without_it_there_is_no_server(load):
    assert load("null") is None


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("sqlite:///x.db", "registry", "found sqlite:…; a database belongs behind `mlflow server --backend-store-uri`"),
        ("mlflow:5000", "registry", "expected the address of an MLflow server, such as https://mlflow.example.com"),
        ("./store", "registry", "leave the key out for the SQLite file in the lake"),
        ("http://h:99999", "registry", "not an address"),
        ("'http://'", "registry", "expected the address"),
        ("'http://h?x=1'", "registry", "expected an address without `?` and `#`"),
        ("http://me:hunter2@h", "registry", "holds credentials; write `registry: {uri: …, user: ${secret:scope/key}"),
        ("${WITH_PASSWORD}", "registry", "holds credentials"),
        ("databricks-uc", "registry", "Unity Catalog needs `model: catalog.schema.model`, such as main.ml.flight_delays, found none"),
        ("{uri: databricks-uc, model: late}", "registry.model", "found 'late'"),
        ("{uri: databricks, experiment: late}", "registry.experiment", "is a path such as /Shared/flight_delays, found 'late'"),
        ("{uri: databricks, token: '${secret:a/t}'}", "registry.token", "Databricks has its own ways to log in"),
        (
            "{uri: 'http://h', token: hunter2}",
            "registry.token",
            "write ${secret:scope/key}, or leave it out and export MLFLOW_TRACKING_TOKEN",
        ),
        ("{uri: 'http://h', user: '${secret:a/u}'}", "registry.user", "user and password belong together"),
        ("{uri: 'http://h', model: a/b}", "registry.model", "MLflow allows no `/` and no `:`"),
        ("{model: late}", "registry.uri", "missing"),
    ],
)
def test_others_are_refused_in_a_sentence_that_shows_no_secret(load, text, key, message):
    with pytest.raises(SpecError) as refused:
        load(text)
    [fault] = refused.value.faults
    assert (fault.key, fault.line) == (key, 5) and message in fault.message
    assert "hunter2" not in str(refused.value)
