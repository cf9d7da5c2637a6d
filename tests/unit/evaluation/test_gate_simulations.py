"""How often the default gate against the champion is wrong, over simulated pairs of models on fresh rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tidemill.evaluation.estimates import Estimate, Measurement
from tidemill.evaluation.gates import Measured, default_gates, parse_gate

ROWS = 600
DRAWS = 200
METRICS = ("areaUnderROC", "brier")


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


def count_accepted(pairs: int, noise: float, seed: int) -> dict[str, int]:
    """Return for each metric how many candidates the gate accepts."""
    accepted = dict.fromkeys(METRICS, 0)
    gates = {name: parse_gate(default_gates(name, has_intervals=True)[1]) for name in METRICS}
    for rng in _generators(pairs, seed):
        label, champion, candidate = simulate_rows(rng, noise)
        weights = rng.poisson(1.0, (DRAWS, ROWS)).astype(float)
        models = {"champion": estimate(label, champion, weights), "candidate": estimate(label, candidate, weights)}
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


@pytest.mark.parametrize(("metric", "noise"), [("areaUnderROC", 4.5), ("brier", 2.05)])
def test_candidates_worse_by_five_standard_errors_are_hardly_ever_accepted(metric: str, noise: float) -> None:
    assert measure_distance(metric, noise) == pytest.approx(5, abs=0.4)
    assert count_accepted(200, noise, seed=2)[metric] <= 2


@pytest.mark.slow
def test_the_share_refused_is_the_nominal_one() -> None:
    """2.5 %: within three standard errors of 3,000 pairs, for a metric of ranks and one of sums."""
    accepted = count_accepted(3000, noise=1.0, seed=3)
    assert {metric: 1 - each / 3000 for metric, each in accepted.items()} == pytest.approx(dict.fromkeys(METRICS, 0.025), abs=0.009)
