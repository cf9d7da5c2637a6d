"""Search spaces: what a draw and a grid may hold, and what may not move them."""

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.spec.models import FloatRange, IntRange, LogRange
from tidemill.training.tuning.space import count_points, draw_point, draw_uniform, list_grid

numbers = st.floats(-1e6, 1e6, allow_nan=False)
positive = st.floats(1e-9, 1e6)


def bounds(values):
    return st.tuples(values, values).map(sorted)


spaces = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.one_of(
        bounds(st.integers(-1000, 1000)).map(lambda pair: IntRange(int=pair)),
        bounds(numbers).map(lambda pair: FloatRange(float=pair)),
        bounds(positive).map(lambda pair: LogRange(log=pair)),
        st.lists(st.integers(0, 5), min_size=1, max_size=4),
        st.sampled_from(["gini", True, 3, 0.5]),
    ),
)


def is_within(value, values):
    if isinstance(values, IntRange):
        return isinstance(value, int) and values.int[0] <= value <= values.int[1]
    if isinstance(values, FloatRange):
        return values.float[0] <= value <= values.float[1]
    if isinstance(values, LogRange):
        return values.log[0] <= value <= values.log[1]
    return value in values if isinstance(values, list) else value == values


@given(spaces, st.integers(0, 99), st.integers(0, 99))
def test_a_draw_lies_in_its_space_can_be_written_as_json_and_is_the_same_again(space, seed, index):
    params = draw_point(space, seed, "family", index)
    assert list(params) == list(space)
    assert all(is_within(params[name], space[name]) for name in space)
    assert json.loads(json.dumps(params)) == params == draw_point(space, seed, "family", index)


@given(spaces, st.integers(0, 99))
def test_another_parameter_does_not_move_a_draw(space, index):
    wider = {"zz": FloatRange(float=[0.0, 1.0]), **space}
    assert {name: value for name, value in draw_point(wider, index).items() if name != "zz"} == draw_point(space, index)


@given(spaces)
def test_a_grid_lies_in_its_space_without_repeats_and_holds_the_bounds(space):
    points = list_grid(space)
    assert all(is_within(point[name], space[name]) for point in points for name in space)
    keys = [json.dumps(point) for point in points]
    assert len(set(keys)) == len(keys)
    for name, values in space.items():
        seen = {point[name] for point in points}
        if isinstance(values, IntRange):
            assert set(values.int) <= seen
        assert len(seen) <= (len(values) if isinstance(values, list) else 3)
    assert len(points) <= count_points(space)


def test_a_grid_by_hand():
    space = {"regParam": LogRange(log=[1e-4, 1e-2]), "maxIter": IntRange(int=[10, 20]), "elasticNetParam": [0.0, 1.0], "tol": 0.5}
    points = list_grid(space)
    assert len(points) == 3 * 3 * 2
    assert [point["maxIter"] for point in points[:6]] == [10, 10, 15, 15, 20, 20]
    assert sorted({point["regParam"] for point in points}) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert points[0] == {"regParam": 1e-4, "maxIter": 10, "elasticNetParam": 0.0, "tol": 0.5}
    assert points[1] == {**points[0], "elasticNetParam": 1.0}


def test_a_grid_of_a_short_range_names_each_whole_number_once():
    assert [point["a"] for point in list_grid({"a": IntRange(int=[4, 5])})] == [4, 5]
    assert list_grid({}) == [{}]


def test_sizes():
    assert count_points({"a": IntRange(int=[2, 4]), "b": [1, 1, 2], "c": "x"}) == 6
    assert math.isinf(count_points({"a": FloatRange(float=[0, 1])}))
    assert count_points({"a": LogRange(log=[0.1, 0.1])}) == 1


def test_uniform_numbers_are_even_and_the_same_in_another_process():
    values = [draw_uniform(7, "family", index, "a") for index in range(4000)]
    counts = [sum(step / 10 <= value < (step + 1) / 10 for value in values) for step in range(10)]
    # Each tenth holds 400 of 4000 with a standard deviation of 19.
    assert all(abs(count - 400) < 5 * 19 for count in counts)
    code = "from tidemill.training.tuning.space import draw_uniform; print(repr(draw_uniform(7, 'family', 3, 'a')))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"})
    assert float(other.stdout) == values[3]
    # sha256("7\x1ffamily\x1f3\x1fa"), first seven bytes, as `printf '7\037family\0373\037a' | sha256sum` says.
    assert values[3] == int("0a5532f5c23858", 16) / 2**56


def test_a_log_range_is_even_over_the_logarithms():
    space = {"a": LogRange(log=[1e-4, 1.0])}
    exponents = [math.log10(draw_point(space, index)["a"]) for index in range(2000)]
    below = sum(exponent < -2 for exponent in exponents)
    assert abs(below - 1000) < 5 * 22.4
