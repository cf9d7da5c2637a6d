"""The ledger of deployments: states, the champion, what may follow what."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.errors import StepError
from tidemill.lake import Ledger
from tidemill.lake import ledger as ledger_module
from tidemill.model_registry import Deployments, Manifest
from tidemill.model_registry.deployments import NEXT_STATES
from tidemill.model_registry.versions import next_version


def _move(deployments, version, *states, **more):
    for state in states:
        deployments.move(version, state, run_id="r1", reason="test", **more)


def test_versions_count_from_one_and_states_are_the_latest(lake):
    deployments = Deployments(lake.ledger, "p")
    assert (next_version(lake, "p"), deployments.champion(), deployments.state(1)) == (1, None, None)
    _move(deployments, 1, "CANDIDATE", "REJECTED")
    assert (next_version(lake, "p"), deployments.champion(), deployments.state(1)) == (2, None, "REJECTED")
    assert next_version(lake, "other") == 1


def test_a_new_champion_retires_the_old_one_and_rollback_brings_it_back(lake):
    deployments = Deployments(lake.ledger, "p")
    _move(deployments, 1, "CANDIDATE", "CHALLENGER", "CHAMPION")
    _move(deployments, 2, "CANDIDATE", "CHALLENGER", "CHAMPION")
    assert deployments.champion() == 2
    assert deployments.state(1) == "RETIRED"
    _move(deployments, 1, "CHAMPION")
    assert deployments.champion() == 1
    assert deployments.state(2) == "RETIRED"
    retired = [row for row in deployments.rows() if row.to_state == "RETIRED"]
    actual = [(row.model_version, row.from_state, row.actor) for row in retired]
    assert actual == [(1, "CHAMPION", "tidemill"), (2, "CHAMPION", "tidemill")]


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
    actual = json.loads(deployments.rows()[0].evidence, parse_constant=pytest.fail)
    assert actual == {"metrics": {"f1": None, "accuracy": 0.5, "rmse": None, "r2": None}, "gates": [{"passed": True}]}


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
    with pytest.raises(StepError, match="not a complete manifest of a model"):
        Manifest.from_json("{}")


def test_of_two_that_crown_at_once_the_second_retires_the_first(tmp_path, monkeypatch):
    ledger, crowned = Ledger(f"file://{tmp_path}/lake"), []  # a URL: nothing but the commits decides
    deployments = Deployments(ledger, "p")
    for version in (1, 2, 3):
        _move(deployments, version, "CANDIDATE", "CHALLENGER")
    _move(deployments, 1, "CHAMPION")

    def overtake(*rest, **options):
        if not crowned:
            crowned.append(3)
            _move(deployments, 3, "CHAMPION")
        return write_deltalake(*rest, **options)

    monkeypatch.setattr(ledger_module, "write_deltalake", overtake)
    _move(deployments, 2, "CHAMPION")
    assert deployments.states() == {1: "RETIRED", 2: "CHAMPION", 3: "RETIRED"}
    assert deployments.champion_before(2) == 3


STATES = sorted({state for states in NEXT_STATES.values() for state in states})
MOVES = st.lists(st.tuples(st.integers(-7200, 7200), st.integers(1, 2), st.sampled_from(STATES)), min_size=4, max_size=10)


class ShiftedClock(datetime):
    """A clock that is set by the test."""

    shift = 0

    @classmethod
    def now(cls, tz=None):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=cls.shift)


@settings(max_examples=10, deadline=None)
@given(MOVES)
def test_under_any_clock_states_follow_the_moves_and_one_reigns_at_most(tmp_path_factory, moves):
    deployments, states = Deployments(Ledger(str(tmp_path_factory.mktemp("lake"))), "p"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_module, "datetime", ShiftedClock)
        for seconds, version, state in [
            *((0, number, name) for number in (1, 2) for name in ("CANDIDATE", "CHALLENGER", "CHAMPION")),
            *moves,
        ]:
            ShiftedClock.shift = seconds
            before = states.get(version)
            if state != before and state not in NEXT_STATES[before]:
                with pytest.raises(StepError):
                    _move(deployments, version, state)
                continue
            _move(deployments, version, state)
            if state == "CHAMPION" and before != "CHAMPION":
                states = {other: "RETIRED" if was == "CHAMPION" else was for other, was in states.items()}
            states[version] = state
            assert deployments.states() == states
            assert deployments.champion() == next((number for number, was in states.items() if was == "CHAMPION"), None)
            assert list(states.values()).count("CHAMPION") <= 1
