"""A rollback and a promotion killed with SIGKILL, at each phase and at random moments: there is exactly one champion afterwards."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.e2e.place import ROOT
from tests.slow.killed_decision import PHASES

from tidemill.lake import Lake
from tidemill.model_registry import Deployments, Manifest
from tidemill.model_registry.manifest import describe_content, list_model_files
from tidemill.model_registry.model_card import repair_cards
from tidemill.model_registry.reigns import list_reigns
from tidemill.model_registry.versions import record_states, restore_states
from tidemill.runtime.session import LazySpark
from tidemill.spec import load_spec
from tidemill.workflow import lifecycle

pytestmark = [pytest.mark.e2e, pytest.mark.one_of("kill")]
AFTER_THE_COMMIT = list(PHASES)[list(PHASES).index("after the commit") :]


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Lake]:
    """A spec and its lake: version 1 was champion, 2 is, 3 is a challenger."""
    file, lake = tmp_path / "pipeline.yml", Lake(str(tmp_path / "lake"))
    (tmp_path / "x.csv").write_text("id,late\n1,1\n")
    source = {"format": "csv", "path": str(tmp_path / "x.csv"), "schema": "id INT, late INT", "options": {"header": True}}
    dataset = {"from": "bronze.x", "key": ["id"], "label": "late"}
    spec = {"pipeline": "p", "lake": lake.root, "sources": {"x": source}, "dataset": dataset, "training": {"task": "binary"}}
    file.write_text(json.dumps(spec))
    deployments = Deployments(lake.ledger, "p")
    for version, states in ((1, ["CHAMPION"]), (2, ["CHAMPION"]), (3, [])):
        lake.write_text(f"models/p/{version}/spark/part-0", f"model {version}")
        lake.write_bytes(f"models/p/{version}/sample.parquet", b"rows")
        manifest = Manifest("p", version, "binary", "lr", {}, "f1", 0.5, [0, 1], "int", 1, {"x": "int"}, f"r{version}", 0)
        whole = replace(manifest, files=list_model_files(lake, "p", version), sample=describe_content(b"rows"))
        lake.write_text(f"models/p/{version}/model.json", whole.to_json())
        for state in ("CANDIDATE", "CHALLENGER", *states):
            deployments.move(version, state, run_id=f"r{version}", reason="made")
    record_states(lake, "p")
    return file, lake


def _kill(file: Path, command: str, phase: str) -> int:
    words = [sys.executable, "-m", "tests.slow.killed_decision", str(file), command, phase]
    ended = subprocess.run(words, cwd=ROOT, start_new_session=True, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr[-2000:]
    return ended.returncode


def _check(lake: Lake, champions: set[int]) -> int:
    """Check that there is one champion, of those that may be, and that folders and cards are as the ledger after the next start."""
    deployments = Deployments(lake.ledger, "p")
    states = deployments.states()
    [champion] = [version for version, state in states.items() if state == "CHAMPION"]
    assert champion == deployments.champion()
    assert champion in champions
    reigns = list_reigns(deployments.rows())
    assert [reign.model_version for reign in reigns if reign.valid_to is None] == [champion]
    assert restore_states(lake, "p") == [], "the folders must not know more than the ledger"
    repair_cards(lake, "p")
    for version, state in states.items():
        folder = Path(lake.root) / "models" / "p" / str(version)
        assert json.loads((folder / "states.json").read_text())[-1]["to_state"] == state
        assert json.loads((folder / "model_card.json").read_text())["state"] == state
    return champion


@pytest.mark.parametrize("phase", PHASES)
def test_killed_at(place, monkeypatch, phase: str) -> None:
    file, lake = place
    for command, new in (("rollback", 1), ("promote", 3)):
        old = Deployments(lake.ledger, "p").champion()
        assert _kill(file, command, phase) == -signal.SIGKILL
        assert _check(lake, {new if phase in AFTER_THE_COMMIT else old}) > 0
    monkeypatch.setattr(lifecycle, "_reproduce_sample", lambda *_: 100)
    monkeypatch.setattr(lifecycle, "show_in_mlflow", lambda *_, **__: None)
    change = lifecycle.rollback(load_spec(file), lake, LazySpark(lambda: pytest.fail("Spark")), lifecycle.Wish(None, "again"))
    assert _check(lake, {change.champion}) == change.model_version


def test_killed_at_random_moments(place) -> None:
    file, lake = place
    rng, ends = random.Random(4), []
    for _ in range(8):
        before = Deployments(lake.ledger, "p").champion()
        ends.append(_kill(file, "rollback", f"{rng.uniform(0, 0.4):.3f}"))
        assert _check(lake, {1, 2}) in (({1, 2} - {before}) if ends[-1] == 0 else {1, 2})
    assert -signal.SIGKILL in ends
