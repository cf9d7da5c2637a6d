"""How often the 95 % intervals of the metrics hold the true value, over simulated samples."""

from __future__ import annotations

import numpy as np
import pytest

from tidemill.evaluation.measurement import Pass, estimate_arrays
from tidemill.evaluation.row_kinds import ClassifiedRows, RegressionRows, ScoredRows
from tidemill.tasks import TaskKind

ROWS, SAMPLES, TRUTH_ROWS = 2000, 500, 2_000_000


def draw_binary(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z = rng.normal(-1.5, 1, n)
    p = 1 / (1 + np.exp(-1.3 * z - 0.2))
    return (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float), (p > 0.3).astype(float), np.column_stack([1 - p, p])


def draw_multiclass(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    logits = rng.normal(0, 1.2, (n, 3))
    p, q = (np.exp(each) / np.exp(each).sum(axis=1, keepdims=True) for each in (logits, 1.2 * logits))
    return (p.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1).astype(float), q.argmax(axis=1).astype(float), q


def draw_regression(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, None]:
    x = rng.normal(20, 2, n)
    return x + rng.standard_t(5, n), 0.9 * x + 2, None


@pytest.mark.one_of("interval coverage")
@pytest.mark.parametrize(
    ("draw", "plan"),
    [
        (draw_binary, Pass(TaskKind.BINARY, ScoredRows(), 2, 200)),
        (draw_multiclass, Pass(TaskKind.MULTICLASS, ClassifiedRows(3), 3, 200)),
        (draw_regression, Pass(TaskKind.REGRESSION, RegressionRows(None, 20.0), 0, 200)),
    ],
)
def test_intervals_hold_the_true_value_as_often_as_they_say(draw, plan):
    rng = np.random.default_rng(17)
    without_draws = Pass(plan.task, plan.kind, plan.n_classes, 0)
    truth = estimate_arrays(*draw(rng, TRUTH_ROWS), without_draws, units=np.arange(TRUTH_ROWS))
    hits = dict.fromkeys(truth, 0)
    for _ in range(SAMPLES):
        for name, estimate in estimate_arrays(*draw(rng, ROWS), plan, units=rng.integers(0, 2**40, ROWS)).items():
            hits[name] += estimate.lower <= truth[name].value <= estimate.upper
    shares = {name: count / SAMPLES for name, count in hits.items()}
    calibration = shares.pop("expectedCalibrationError", 0.95)
    assert {name: share for name, share in shares.items() if not 0.92 <= share <= 0.98} == {}
    assert calibration >= 0.85  # noise biases it: docs/evaluation.md says how many rows it needs
