"""What the first tier keeps of a matrix, and what a sample draws from the slow tier."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from tests.tiers import draw_sample, find_cover, parametrize_cover, parametrize_product

AXES = (["a", "b", "c"], [1, 2, 3], [True, False])


def test_a_cover_has_every_pair_and_few_cases():
    cases = list(itertools.product(*AXES))
    cover = [cases[place] for place in find_cover(cases, 2)]
    for one, two in itertools.combinations(range(3), 2):
        assert {(case[one], case[two]) for case in cover} == set(itertools.product(AXES[one], AXES[two]))
    assert len(cover) <= 12 < len(cases)


def test_values_of_two_axes_are_each_in_the_first_tier_and_all_combinations_in_one_of_the_two():
    params = parametrize_product("x, y", AXES[0], AXES[1], but=[("a", 1)]).args[1]
    assert {param.values for param in params} == set(itertools.product(AXES[0], AXES[1])) - {("a", 1)}
    first = [param.values for param in params if not param.marks]
    assert ({x for x, _ in first}, {y for _, y in first}) == ({"a", "b", "c"}, {1, 2, 3})
    assert len(first) == 3


def test_cases_that_are_no_product_are_covered_too():
    params = parametrize_cover("task, name", [("binary", "lr"), ("binary", "gbt"), ("regression", "gbt")]).args[1]
    assert [param.values for param in params if not param.marks] == [("binary", "lr"), ("regression", "gbt")]


class _Item(SimpleNamespace):
    def get_closest_marker(self, name):
        return self.marks.get(name)


def test_a_sample_is_one_case_of_each_slow_function_and_group_and_the_same_for_a_seed():
    slow, kill = {"slow": pytest.mark.slow.mark}, pytest.mark.one_of("kill").mark
    items = [
        *(_Item(nodeid=f"t.py::test_matrix[{number}]", marks=slow) for number in range(9)),
        *(_Item(nodeid=f"t.py::test_kill_{number}", marks={**slow, "one_of": kill}) for number in range(4)),
        _Item(nodeid="t.py::test_quick", marks={}),
    ]
    samples = [tuple(item.nodeid for item in draw_sample(items, seed)) for seed in range(20)]
    for sample in samples:
        assert [name.partition("[")[0][:15] for name in sample] == ["t.py::test_matr", "t.py::test_kill", "t.py::test_quic"]
    assert len(set(samples)) > 5
    assert draw_sample(items, 3) == draw_sample(items, 3)
