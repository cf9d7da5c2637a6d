"""The tuner: how many trials each family gets, and which."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.spec.models import FloatRange, IntRange, LogRange, Tuner
from tidemill.training.tuning.tuner import allocate_trials, plan_trials

WIDE = {"regParam": LogRange(log=[1e-5, 1.0])}


def params(trials, family):
    return [trial.params for trial in trials if trial.family == family]


@pytest.mark.parametrize(
    ("total", "capacities", "shares"),
    [
        (12, [9e9] * 3, [4, 4, 4]),
        (8, [9e9] * 3, [3, 3, 2]),
        (2, [9e9] * 3, [1, 1, 0]),
        (10, [1, 9e9, 9e9], [1, 5, 4]),
        (10, [2, 3, 1], [2, 3, 1]),
        (7, [9e9, 1, 2], [4, 1, 2]),
    ],
)
def test_trials_are_spread_by_hand(total, capacities, shares):
    assert allocate_trials(total, capacities) == shares


@given(st.integers(0, 60), st.lists(st.integers(0, 30), min_size=1, max_size=6))
def test_no_trial_is_lost_and_nobody_gets_more_than_it_can_take(total, capacities):
    shares = allocate_trials(total, capacities)
    assert sum(shares) == min(total, sum(capacities))
    assert all(0 <= share <= capacity for share, capacity in zip(shares, capacities, strict=True))
    # Even: whoever has room left has at most one less than anybody else, and only if it stands behind.
    for share, capacity in zip(shares, capacities, strict=True):
        assert share == capacity or share >= max(shares) - 1


def test_random_search_has_twelve_trials_by_default_numbered_over_the_run():
    trials = plan_trials({"a": WIDE, "b": WIDE, "c": WIDE}, Tuner())
    assert [trial.number for trial in trials] == list(range(12))
    assert [trial.family for trial in trials] == ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    assert len({trial.params_json for trial in trials}) == 12


def test_neither_another_family_nor_more_trials_move_a_familys_samples():
    alone = plan_trials({"b": WIDE}, Tuner(trials=3))
    among = plan_trials({"a": WIDE, "b": WIDE, "c": {"x": FloatRange(float=[0, 1])}}, Tuner(trials=30))
    assert params(among, "b")[:3] == params(alone, "b")
    assert params(plan_trials({"b": WIDE}, Tuner(trials=3, seed=8)), "b") != params(alone, "b")


def test_a_small_space_is_tried_whole_once_and_leaves_the_rest_to_the_others():
    trials = plan_trials({"a": {"maxDepth": [3, 4, 4], "maxIter": IntRange(int=[1, 2])}, "b": WIDE}, Tuner(trials=20))
    assert sorted(map(json.dumps, params(trials, "a"))) == [
        '{"maxDepth": 3, "maxIter": 1}', '{"maxDepth": 3, "maxIter": 2}', '{"maxDepth": 4, "maxIter": 1}', '{"maxDepth": 4, "maxIter": 2}',
    ]  # fmt: skip
    assert len(params(trials, "b")) == 16


def test_a_grid_is_whole_or_a_seeded_part_of_it_in_order():
    space = {"maxDepth": [1, 2, 3], "maxIter": [10, 20]}
    whole = plan_trials({"a": space, "b": {}}, Tuner(strategy="grid"))
    assert params(whole, "a") == [{"maxDepth": depth, "maxIter": rounds} for depth in (1, 2, 3) for rounds in (10, 20)]
    assert params(whole, "b") == [{}]
    part = params(plan_trials({"a": space}, Tuner(strategy="grid", trials=3)), "a")
    assert part == params(plan_trials({"a": space}, Tuner(strategy="grid", trials=3)), "a")
    assert len(part) == 3
    assert part == [point for point in params(whole, "a") if point in part]
    parts = {json.dumps(params(plan_trials({"a": space}, Tuner(strategy="grid", trials=3, seed=seed)), "a")) for seed in range(6)}
    assert len(parts) > 1
