"""Model versions: manifests with a digest, numbers that are never used twice, states made again from the folders."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from tidemill.errors import StepError
from tidemill.lake.ops import DeploymentRow
from tidemill.model_registry import Deployments, Manifest, versions
from tidemill.model_registry.manifest import list_model_files, model_fault, read_manifest, refuse_other_files
from tidemill.model_registry.versions import UNFINISHED, is_free, next_version, record_states, restore_states, saved_versions


def _save(lake, version: int, **more) -> Path:
    """Write a version as ``save_model`` leaves it."""
    folder = Path(lake.root) / "models" / "p" / str(version)
    (folder / "spark" / "metadata").mkdir(parents=True)
    (folder / "spark" / "metadata" / "part-0").write_text(f"model {version}")
    fields = {"params": {"regParam": 0.1}, "metric": "areaUnderPR", "cv_value": 0.5, "classes": [False, True], **more}
    manifest = Manifest("p", version, "binary", "lr", label_type="boolean", positive=True, feature_columns={"x": "int"}, run_id="r1",
                        dataset_version=0, **fields)  # fmt: skip
    lake.write_text(f"models/p/{version}/model.json", dataclasses.replace(manifest, files=list_model_files(lake, "p", version)).to_json())
    return folder


@pytest.fixture
def lake(lake):
    """Two versions: the first was champion, the second is."""
    deployments = Deployments(lake.ledger, "p")
    for version in (1, 2):
        _save(lake, version)
        for state in ("CANDIDATE", "CHALLENGER", "CHAMPION"):
            deployments.move(version, state, run_id=f"r{version}", reason=f"to {state}", evidence={"version": version})
    record_states(lake, "p")
    return lake


def _edit(file: Path) -> None:
    file.write_text(file.read_text().replace('"cv_value": 0.5', '"cv_value": 0.9'))


def _cut(file: Path) -> None:
    file.write_text(file.read_text()[:100])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_edit, "its digest does not match"),
        (_cut, "not a complete manifest of a model"),
        (Path.unlink, "cannot be read"),
        (lambda file: file.write_text("[]"), "not a"),
    ],
)
def test_manifest_that_is_not_as_it_was_written_is_refused_by_name(lake, damage, says):
    file = Path(lake.root) / "models" / "p" / "2" / "model.json"
    assert model_fault(lake, "p", 2) is None
    damage(file)
    with pytest.raises(StepError, match=says) as raised:
        read_manifest(lake, "p", 2)
    assert str(file) in str(raised.value)
    assert "model 2 of p" in str(model_fault(lake, "p", 2))


def test_states_are_recorded_under_a_replaced_clock(lake, monkeypatch):
    class Shifted(versions.datetime):
        """A clock that tests replace `datetime` by: the ledger's instants are none of its own."""

    file = Path(lake.root) / "models" / "p" / "1" / "states.json"
    before = file.read_text()
    file.unlink()
    monkeypatch.setattr(versions, "datetime", Shifted)
    record_states(lake, "p")
    assert file.read_text() == before


def test_swapped_manifests_are_refused(lake):
    one, two = (Path(lake.root) / "models" / "p" / version / "model.json" for version in ("1", "2"))
    texts = one.read_text(), two.read_text()
    one.write_text(texts[1])
    two.write_text(texts[0])
    assert "it is the manifest of model 2 of p" in str(model_fault(lake, "p", 1))
    assert "it is the manifest of model 1 of p" in str(model_fault(lake, "p", 2))


def test_files_are_those_of_the_manifest(lake):
    manifest, file = read_manifest(lake, "p", 2), Path(lake.root) / "models" / "p" / "2" / "spark" / "metadata" / "part-0"
    file.write_text("model 9")  # as long as before: only its content tells
    refuse_other_files(lake, manifest, by_content=False)
    with pytest.raises(StepError, match="is not the file that was written"):
        refuse_other_files(lake, manifest, by_content=True)
    file.write_text("model 22")
    assert "is not the file" in str(model_fault(lake, "p", 2))
    file.unlink()
    assert f"{file} is missing" in str(model_fault(lake, "p", 2))


def test_manifest_of_an_earlier_release_has_neither_digest_nor_files(lake):
    file = Path(lake.root) / "models" / "p" / "2" / "model.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in values.items() if name not in ("digest", "files")}))
    assert model_fault(lake, "p", 2) is None


@pytest.mark.parametrize("gone", ["ops", "models", "ops/deployments"])
def test_number_of_the_next_version_is_beyond_all_that_the_lake_knows(lake, gone):
    assert next_version(lake, "p") == 3
    shutil.rmtree(Path(lake.root) / gone)
    assert next_version(lake, "p") == 3
    assert next_version(lake, "q") == 1


def test_predictions_keep_the_number_of_their_model(lake):
    shutil.rmtree(Path(lake.root) / "ops")
    shutil.rmtree(Path(lake.root) / "models")
    write_deltalake(lake.path("gold.p_predictions"), pa.table({"model_version": pa.array([1, 7], pa.int32())}))
    assert next_version(lake, "p") == 8


def test_folder_of_a_killed_attempt_is_free_and_any_other_is_not(lake):
    folder = Path(lake.root) / "models" / "p" / "3"
    (folder / "spark").mkdir(parents=True)
    (folder / "spark" / "part-0").write_text("half")
    assert not is_free(lake, "p", 3)
    (folder / UNFINISHED).write_text("r3")
    assert (is_free(lake, "p", 3), saved_versions(lake, "p"), next_version(lake, "p")) == (True, [1, 2], 3)
    assert (is_free(lake, "p", 1), is_free(lake, "p", 4)) == (False, True)
    (Path(lake.root) / "models" / "p" / "1" / "model.json").unlink()
    assert not is_free(lake, "p", 1), "a model that lost its manifest is still a model"


@pytest.mark.parametrize("gone", ["ops", "ops/deployments"])
def test_lost_deployments_are_made_again_from_the_folders(lake, gone):
    before = Deployments(lake.ledger, "p").rows()
    shutil.rmtree(Path(lake.root) / gone)
    assert restore_states(lake, "p") == [
        "model 1 of p is RETIRED again, as its folder records",
        "model 2 of p is CHAMPION again, as its folder records",
    ]
    deployments = Deployments(lake.ledger, "p")
    assert deployments.rows() == before
    assert (deployments.champion(), deployments.champion_before(2)) == (2, 1)
    assert restore_states(lake, "p") == []
    assert len(deployments.rows()) == len(before)


def test_only_the_changes_that_are_lost_come_back(lake):
    rows = Deployments(lake.ledger, "p").rows()
    lake.ledger.put(DeploymentRow, [], where={"model_version": 2, "to_state": "CHAMPION"})
    lake.ledger.put(DeploymentRow, [], where={"model_version": 1, "to_state": "RETIRED"})
    assert Deployments(lake.ledger, "p").states() == {1: "CHAMPION", 2: "CHALLENGER"}
    restore_states(lake, "p")
    assert Deployments(lake.ledger, "p").states() == {1: "RETIRED", 2: "CHAMPION"}
    assert len(Deployments(lake.ledger, "p").rows()) == len(rows)


def test_ledger_that_knows_more_is_written_into_the_folder(lake):
    Deployments(lake.ledger, "p").move(2, "RETIRED", run_id="r3", reason="by hand")
    assert restore_states(lake, "p") == []
    assert Deployments(lake.ledger, "p").state(2) == "RETIRED"
    recorded = json.loads((Path(lake.root) / "models" / "p" / "2" / "states.json").read_text())
    assert [row["to_state"] for row in recorded] == ["CANDIDATE", "CHALLENGER", "CHAMPION", "RETIRED"]


def test_version_whose_folder_records_no_states_becomes_candidate(lake):
    for version in ("1", "2"):
        (Path(lake.root) / "models" / "p" / version / "states.json").unlink()
    shutil.rmtree(Path(lake.root) / "ops")
    restore_states(lake, "p")
    [first, _] = Deployments(lake.ledger, "p").rows()
    assert (first.to_state, first.run_id, json.loads(first.evidence)["cv_value"]) == ("CANDIDATE", "r1", 0.5)


def test_same_model_is_one_whichever_run_made_it(lake):
    one = read_manifest(lake, "p", 1)
    kept = {"files": {}, "sample": "9 aa", "author": "ada", "evidence": {"spec.json": "2 bb"}}
    assert one.is_same_model(dataclasses.replace(one, version=2, run_id="r9", created_at="later", **kept))
    assert not one.is_same_model(dataclasses.replace(one, cv_value=0.6))
    assert not one.is_same_model(dataclasses.replace(one, dataset_version=1))
