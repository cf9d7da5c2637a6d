"""deploy: a challenger proves itself before it reigns."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from tidemill.errors import GateRefused, StepError
from tidemill.model_registry import read_manifest
from tidemill.steps.deploy import deploy


def test_the_challenger_becomes_champion_and_retires_the_old_one(trained):
    trained.train("bad", "CHALLENGER", "CHAMPION")
    version = trained.train("good", "CHALLENGER")
    result = deploy(trained.context("deploy", version))
    assert (dict(result.outputs), result.rows_in, result.notes) == ({"models.late": 2}, 60, ())
    assert trained.states() == {1: "RETIRED", 2: "CHAMPION"}
    before = len(trained.deployments.rows())
    deploy(trained.context("deploy", version))
    assert len(trained.deployments.rows()) == before


def test_a_model_that_does_not_load_or_score_does_not_become_champion(trained):
    champion = trained.train("good", "CHALLENGER", "CHAMPION")
    torn = trained.train("good", "CHALLENGER")
    files = Path(trained.lake.root) / "models/late" / str(torn) / "spark"
    whole = files.resolve()
    files.unlink()
    shutil.copytree(whole, files, ignore=shutil.ignore_patterns("stages"))
    with pytest.raises(StepError, match=r"model 2 of late: .*/spark/stages/.* is missing; restore it from a backup"):
        deploy(trained.context("deploy", torn))
    manifest = read_manifest(trained.lake, "late", torn)
    # Manifests of earlier releases name no files.
    trained.lake.write_text(f"models/late/{torn}/model.json", dataclasses.replace(manifest, files={}).to_json())
    with pytest.raises(StepError, match=r"model 2 of late: its files at .* do not load"):
        deploy(trained.context("deploy", torn))
    lame = trained.train("good", "CHALLENGER")
    manifest = read_manifest(trained.lake, "late", lame)
    columns = {**manifest.feature_columns, "carrier": "double"}
    trained.lake.write_text(f"models/late/{lame}/model.json", dataclasses.replace(manifest, feature_columns=columns).to_json())
    with pytest.raises(StepError, match=r"prediction of the row id .* was .* at training time and is null now"):
        deploy(trained.context("deploy", lame))
    assert trained.deployments.champion() == champion


def test_states_that_cannot_be_deployed_are_named(trained):
    with pytest.raises(StepError, match="is CANDIDATE, expected CHALLENGER; run evaluate first"):
        deploy(trained.context("deploy", trained.train("good")))
    with pytest.raises(GateRefused, match="REJECTED by its gates"):
        deploy(trained.context("deploy", trained.train("bad", "REJECTED")))
