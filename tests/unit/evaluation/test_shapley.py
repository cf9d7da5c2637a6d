"""Shapley values of columns, against their definition and closed forms."""

from itertools import permutations

import numpy as np
import pytest

from tidemill.evaluation.shapley import MAX_HYBRIDS, ShapleyDesign


def _explain(design, predict, row, background):
    hybrids = np.where(design.own, row, background[design.background])
    return design.weigh(predict(hybrids)[None, :, None])[0, 0]


def _by_definition(predict, row, background):
    """The mean gain of a column over all orders of the columns and all background rows."""
    gains = np.zeros(len(row))
    orders = list(permutations(range(len(row))))
    for other in background:
        for order in orders:
            hybrid = other.copy()
            before = predict(hybrid[None])[0]
            for column in order:
                hybrid[column] = row[column]
                after = predict(hybrid[None])[0]
                gains[column] += after - before
                before = after
    return gains / (len(orders) * len(background))


def _predict(rows):
    return rows[:, 0] * rows[:, 1] + np.maximum(rows[:, 2], 0) * rows[:, 1] - rows[:, 0] ** 2


def test_few_columns_have_the_values_of_the_definition():
    rng = np.random.default_rng(0)
    background, row = rng.normal(size=(12, 4)), rng.normal(size=4)
    found = _explain(ShapleyDesign.of(4, 12), _predict, row, background)
    assert found[:-1] == pytest.approx(_by_definition(_predict, row, background))
    assert found[-1] == pytest.approx(_predict(background).mean())


@pytest.mark.parametrize("columns", [1, 3, 7, 24, 200])
def test_contributions_add_up_and_are_those_of_the_closed_form_for_a_sum(columns):
    rng = np.random.default_rng(1)
    design = ShapleyDesign.of(columns, 100)
    assert len(design.own) <= max(MAX_HYBRIDS, 2 * columns) + 20
    used = np.unique(design.background)
    background, row, weights = rng.normal(size=(100, columns)), rng.normal(size=columns), rng.normal(size=columns)
    found = _explain(design, lambda rows: rows @ weights, row, background)
    assert found[:-1] == pytest.approx(weights * (row - background[used].mean(axis=0)))
    curved = _explain(design, lambda rows: np.exp(rows @ weights / 20) + rows[:, 0] * rows[:, -1], row, background)
    assert curved.sum() == pytest.approx(np.exp(row @ weights / 20) + row[0] * row[-1])


def test_sampled_values_are_near_the_exact_ones():
    rng = np.random.default_rng(2)
    background, row = rng.normal(size=(16, 9)), rng.normal(size=9)
    found = _explain(ShapleyDesign.of(9, 16), _predict, row, background)
    exact = _explain(ShapleyDesign._enumerate(9, 16), _predict, row, background)
    assert len(ShapleyDesign.of(9, 16).own) < 2**9
    assert found[3:-1] == pytest.approx(np.zeros(6))  # columns that the function does not read
    assert np.abs(found[:3] - exact[:3]).max() < 0.2 * np.abs(exact[:3]).max()
