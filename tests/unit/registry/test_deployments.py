"""The ledger of deployments: states, the champion, what may follow what."""

import json

import pytest

from tidemill.errors import StepError
from tidemill.registry import Deployments, Manifest


def _move(deployments, version, *states, **more):
    for state in states:
        deployments.move(version, state, run_id="r1", reason="test", **more)


def test_versions_count_from_one_and_states_are_the_latest(lake):
    deployments = Deployments(lake.ledger, "p")
    assert (deployments.next_version(), deployments.champion(), deployments.state(1)) == (1, None, None)
    _move(deployments, 1, "CANDIDATE", "REJECTED")
    assert (deployments.next_version(), deployments.champion(), deployments.state(1)) == (2, None, "REJECTED")
    assert Deployments(lake.ledger, "other").next_version() == 1


def test_a_new_champion_retires_the_old_one_and_rollback_brings_it_back(lake):
    deployments = Deployments(lake.ledger, "p")
    _move(deployments, 1, "CANDIDATE", "CHALLENGER", "CHAMPION")
    _move(deployments, 2, "CANDIDATE", "CHALLENGER", "CHAMPION")
    assert deployments.champion() == 2
    assert deployments.state(1) == "RETIRED"
    _move(deployments, 1, "CHAMPION")
    assert deployments.champion() == 1
    assert deployments.state(2) == "RETIRED"
    retired = [row for row in deployments.rows() if row["to_state"] == "RETIRED"]
    found = [(row["model_version"], row["from_state"], row["actor"]) for row in retired]
    assert found == [(1, "CHAMPION", "tidemill"), (2, "CHAMPION", "tidemill")]


def test_a_repeated_move_leaves_no_row_and_an_impossible_one_is_named(lake):
    deployments = Deployments(lake.ledger, "p")
    _move(deployments, 1, "CANDIDATE", "CANDIDATE")
    assert len(deployments.rows()) == 1
    with pytest.raises(StepError, match="model 1 of p is CANDIDATE and cannot become CHAMPION; expected one of CHALLENGER, REJECTED"):
        _move(deployments, 1, "CHAMPION")
    with pytest.raises(StepError, match="unknown"):
        _move(deployments, 7, "CHALLENGER")


def test_evidence_is_json_without_nan_and_infinity(lake):
    deployments = Deployments(lake.ledger, "p")
    metrics = {"f1": float("nan"), "accuracy": 0.5, "rmse": float("inf"), "r2": -float("inf")}
    _move(deployments, 1, "CANDIDATE", evidence={"metrics": metrics, "gates": [{"passed": True}]})
    found = json.loads(deployments.rows()[0]["evidence"], parse_constant=pytest.fail)
    assert found == {"metrics": {"f1": None, "accuracy": 0.5, "rmse": None, "r2": None}, "gates": [{"passed": True}]}


def test_the_champion_before_another_is_the_one_that_it_took_over_from(lake):
    deployments = Deployments(lake.ledger, "p")
    assert deployments.champion_before(1) is None
    for version in (1, 2, 3):
        _move(deployments, version, "CANDIDATE", "CHALLENGER", "CHAMPION")
    assert [deployments.champion_before(version) for version in (1, 2, 3)] == [None, 1, 2]
    _move(deployments, 1, "CHAMPION")  # back again
    assert (deployments.champion(), deployments.champion_before(1)) == (1, 3)


def test_a_manifest_survives_json_and_keeps_the_types_of_its_classes():
    from datetime import date

    manifest = Manifest(
        pipeline="p",
        version=3,
        task="multiclass",
        family="random_forest",
        params={"numTrees": 20, "maxDepth": 4},
        metric="f1",
        cv_value=0.5,
        classes=[date(2013, 1, 1), date(2013, 1, 2)],
        label_type="date",
        positive=None,
        feature_columns={"b": "string", "a": "double"},
        run_id="r1",
        dataset_version=2,
    )
    back = Manifest.from_json(manifest.to_json())
    assert back.classes == ["2013-01-01", "2013-01-02"]  # Spark casts them back by label_type
    assert list(back.feature_columns.items()) == [("b", "string"), ("a", "double")]
    assert (back.params, back.version, back.created_at) == ({"numTrees": 20, "maxDepth": 4}, 3, manifest.created_at)
    with pytest.raises(StepError, match="not a model's manifest"):
        Manifest.from_json("{}")
