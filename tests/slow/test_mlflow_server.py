"""A real MLflow server on loopback: it is killed, its store is lost, and the models that it serves predict what the lake holds."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tests.e2e.mlflow_models import compare_predictions
from tests.e2e.place import SPEC, Place

pytestmark = [pytest.mark.e2e, pytest.mark.one_of("example"), pytest.mark.usefixtures("spark")]
START_S = 90


@dataclass
class Server:
    """``mlflow server`` in a process of its own, with its store in a folder."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def uri(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.folder.mkdir(exist_ok=True)
        words = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        stores = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "log").open("ab") as log:
            environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
            command = [sys.executable, "-m", "mlflow", *words, *stores]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environ, start_new_session=True, cwd=self.folder)
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.5)
        pytest.fail(f"the server did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it and its workers at once."""
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    server = Server(tmp_path / "server", port)
    server.start()
    yield server
    server.kill()


def run(place: Place, server: Server, *words: str) -> str:
    """Run the pipeline with its registry on the server; return what it wrote to standard error."""
    return place.tidemill("run", str(SPEC), "--env", "sample", "--set", f"registry={server.uri}", *words).stderr


def shown_runs(client: MlflowClient) -> dict[str, int]:
    """Return for each run that the server shows how many trials it has."""
    experiment = client.get_experiment_by_name("flight_delays")
    runs = client.search_runs([experiment.experiment_id])
    parents = {each.info.run_id: each.data.tags["run_id"] for each in runs if each.data.tags["kind"] == "run"}
    children = [each.data.tags["mlflow.parentRunId"] for each in runs if each.data.tags["kind"] == "trial"]
    return {name: children.count(identifier) for identifier, name in parents.items()}


def test_a_server_may_die_and_lose_all_and_shows_all_again(whole_run, sample_data, tmp_path, server):
    place = Place(sample_data, tmp_path / "lake")
    shutil.copytree(whole_run[0].lake, place.lake)
    before = set(place.table("ops.runs")["run_id"])
    assert "MLflow" not in run(place, server), "a run with nothing to do shows what was there before"
    client = MlflowClient(server.uri, server.uri)
    [first] = shown_runs(client)
    assert first in before and shown_runs(client)[first] == 3
    champion = client.get_model_version_by_alias("flight_delays", "champion")
    assert (champion.tags["model_version"], champion.tags["run_id"]) == ("1", first)

    server.kill()
    began = time.monotonic()
    told = run(place, server, "--only", "evaluate", "--force")
    assert time.monotonic() - began < 120
    assert told.count("MLflow") == 2 and f"MLflow does not show everything yet: {server.uri} does not answer" in told
    states = place.table("ops.runs").sort_values("seq").groupby("run_id")["state"].last()
    assert set(states) == {"SUCCEEDED"}
    second = states.index.max()

    server.start()
    assert "MLflow" not in run(place, server)
    assert shown_runs(client) == {first: 3, second: 0}

    server.kill()
    shutil.rmtree(server.folder)
    server.start()
    assert "MLflow" not in run(place, server)
    assert shown_runs(client) == {first: 3, second: 0}
    compare_predictions(place, server.uri)
