"""The weights of a blend, against a solver of another kind."""

import numpy as np
import pytest
from scipy.optimize import minimize

from tidemill.training.ensembles.combiners import solve_simplex_weights


def solved(products):
    size = len(products)
    scaled = products / np.trace(products)
    bounds = {"bounds": [(0, 1)] * size, "constraints": {"type": "eq", "fun": lambda w: w.sum() - 1}}
    starts = [np.full(size, 1 / size), *np.eye(size)]
    found = [
        minimize(lambda w: w @ scaled @ w, start, method="SLSQP", options={"ftol": 1e-15, "maxiter": 500}, **bounds) for start in starts
    ]
    return min(found, key=lambda each: each.fun).x


@pytest.mark.parametrize("seed", range(20))
def test_the_weights_are_those_of_the_constrained_least_squares(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 6))
    truth = rng.normal(size=200) * 10.0 ** rng.integers(-4, 5)
    said = truth[:, None] * rng.normal(1.0, 0.3, size) + truth.std() * rng.normal(size=(200, size)) * rng.random(size)
    errors = said - truth[:, None]
    weights = solve_simplex_weights(errors.T @ errors)
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1.0)
    assert np.allclose(weights, solved(errors.T @ errors), atol=1e-5)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([[1.0, 1.0], [2.0, 2.0]], [1, 0]),  # the same twice: the first alone
        ([[1.0, -1.0], [2.0, -2.0]], [0.5, 0.5]),  # the opposite: together without an error
        ([[1.0, 3.0], [1.0, 3.0]], [1, 0]),  # always worse, the same way
        ([[0.0, 1.0], [0.0, 1.0]], [1, 0]),  # without an error
        ([[0.0, 0.0], [0.0, 0.0]], [1, 0]),
    ],
)
def test_members_that_hang_together(errors, expected):
    errors = np.array(errors)
    assert np.allclose(solve_simplex_weights(errors.T @ errors), expected, atol=1e-6)
