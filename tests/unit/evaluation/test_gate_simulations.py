"""How often the default gate against the champion is wrong, over simulated pairs of models on fresh rows.

The first tier draws with a plain Poisson bootstrap of rows; the slow one with the estimates of the step evaluate, which take longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import pytest

from tidemill.evaluation.estimates import Estimate, Measurement
from tidemill.evaluation.gates import Measured, default_gates, parse_gate
from tidemill.evaluation.measurement import Pass, estimate_arrays
from tidemill.evaluation.row_kinds import ScoredRows
from tidemill.tasks import TaskKind

ROWS = 600
DRAWS = 200
METRICS = ("areaUnderROC", "brier")
WORSE = {"areaUnderROC": 4.5, "brier": 2.05}
"""The noise of a candidate that is worse by five paired standard errors of the metric."""
Estimator: TypeAlias = Callable[[np.random.Generator, float], dict[str, Measurement]]


def simulate_rows(rng: np.random.Generator, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, and probabilities of a champion and of a candidate; with ``noise`` 1 both are equally good."""
    truth = rng.normal(size=ROWS)
    label = rng.random(ROWS) < _sigmoid(1.5 * truth - 1)
    champion, candidate = (_sigmoid(1.5 * (truth + sd * rng.normal(size=ROWS)) - 1) for sd in (1.0, noise))
    return label, champion, candidate


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def measure(label: np.ndarray, p: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return the metrics under each row of ``weights`` (draws, rows)."""
    order = np.argsort(p)
    w, positive = weights[:, order], label[order]
    negatives_below = np.cumsum(w * ~positive, axis=1)
    area = (w * positive * negatives_below).sum(axis=1) / ((w * positive).sum(axis=1) * negatives_below[:, -1])
    return {"areaUnderROC": area, "brier": weights @ (p - label) ** 2 / weights.sum(axis=1)}


def estimate(label: np.ndarray, p: np.ndarray, weights: np.ndarray) -> Measurement:
    point, draws = measure(label, p, np.ones((1, ROWS))), measure(label, p, weights)
    return Measurement(ROWS, {name: Estimate(float(point[name][0]), draws[name]) for name in METRICS})


def estimate_pair(rng: np.random.Generator, noise: float) -> dict[str, Measurement]:
    label, champion, candidate = simulate_rows(rng, noise)
    weights = rng.poisson(1.0, (DRAWS, ROWS)).astype(float)
    return {"champion": estimate(label, champion, weights), "candidate": estimate(label, candidate, weights)}


def estimate_pair_as_evaluate_does(rng: np.random.Generator, noise: float) -> dict[str, Measurement]:
    label, *probabilities = simulate_rows(rng, noise)
    units, plan = rng.integers(0, 2**40, ROWS), Pass(TaskKind.BINARY, ScoredRows(), 2, DRAWS)
    champion, candidate = (
        estimate_arrays(label.astype(float), (p > 0.5).astype(float), np.column_stack([1 - p, p]), plan, units=units) for p in probabilities
    )
    return {"champion": Measurement(ROWS, champion), "candidate": Measurement(ROWS, candidate)}


def count_accepted(pairs: int, noise: float, seed: int, metrics: Sequence[str] = METRICS, by: Estimator = estimate_pair) -> dict[str, int]:
    """Return for each metric how many candidates the gate accepts."""
    accepted = dict.fromkeys(metrics, 0)
    gates = {name: parse_gate(default_gates(name, has_intervals=True)[1]) for name in metrics}
    for rng in _generators(pairs, seed):
        models = by(rng, noise)
        for name, gate in gates.items():
            accepted[name] += gate.evaluate(Measured(models)).passed
    return accepted


def _generators(n: int, seed: int) -> Iterator[np.random.Generator]:
    yield from (np.random.default_rng([seed, number]) for number in range(n))


def measure_distance(metric: str, noise: float) -> float:
    """Return how many paired standard errors the candidate is worse, from simulated rows without any bootstrap."""
    differences = []
    for rng in _generators(300, seed=99):
        label, champion, candidate = simulate_rows(rng, noise)
        one = np.ones((1, ROWS))
        differences.append(float(measure(label, candidate, one)[metric][0] - measure(label, champion, one)[metric][0]))
    return float(abs(np.mean(differences)) / np.std(differences, ddof=1))


def test_equally_good_candidates_are_seldom_refused() -> None:
    accepted = count_accepted(200, noise=1.0, seed=1)
    assert all(200 - each <= 10 for each in accepted.values()), accepted


@pytest.mark.parametrize(("metric", "noise"), WORSE.items())
def test_candidates_worse_by_five_standard_errors_are_hardly_ever_accepted(metric: str, noise: float) -> None:
    assert measure_distance(metric, noise) == pytest.approx(5, abs=0.4)
    assert count_accepted(200, noise, seed=2)[metric] <= 2


def test_the_step_evaluate_draws_the_same_rows_for_both_models() -> None:
    """The spread of the paired difference is that of a plain bootstrap of rows, and 0 for a model and itself."""
    pairs = [by(np.random.default_rng(5), 2.0) for by in (estimate_pair, estimate_pair_as_evaluate_does)]
    for metric in METRICS:
        differences = [pair["candidate"].estimates[metric] - pair["champion"].estimates[metric] for pair in pairs]
        assert differences[1].value == pytest.approx(differences[0].value)
        assert np.std(differences[1].draws) == pytest.approx(np.std(differences[0].draws), rel=0.2)
    again = estimate_pair_as_evaluate_does(np.random.default_rng(5), 2.0)
    for metric, each in again["candidate"].estimates.items():
        same = each - pairs[1]["candidate"].estimates[metric]
        assert same.draws is not None
        assert not np.nanmax(np.abs(same.draws)), metric


@pytest.mark.slow
def test_the_gate_with_the_draws_of_the_step_evaluate() -> None:
    metrics = ("areaUnderPR", "areaUnderROC", "averagePrecision", "accuracy", "f1", "mcc", "logLoss", "brier")
    accepted = count_accepted(200, 1.0, 1, metrics, estimate_pair_as_evaluate_does)
    assert all(200 - each <= 10 for each in accepted.values()), accepted
    for metric, noise in WORSE.items():
        assert count_accepted(200, noise, 2, [metric], estimate_pair_as_evaluate_does)[metric] <= 2


@pytest.mark.slow
def test_the_share_refused_is_the_nominal_one() -> None:
    """2.5 %: within three standard errors of 3,000 pairs, for a metric of ranks and one of sums."""
    accepted = count_accepted(3000, noise=1.0, seed=3)
    assert {metric: 1 - each / 3000 for metric, each in accepted.items()} == pytest.approx(dict.fromkeys(METRICS, 0.025), abs=0.009)
