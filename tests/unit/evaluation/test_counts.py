"""Metrics of arrays, compared with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk

from tidemill.evaluation.arrays import compute_array_metrics
from tidemill.evaluation.estimates import Measurement
from tidemill.evaluation.gates import Measured, default_gates, parse_gate


@pytest.mark.parametrize("seed", range(20))
def test_metrics_of_two_classes_equal_those_of_scikit_learn(seed: int) -> None:
    """With ties, rows of weight 0 and, for each fourth seed, no row that is called positive."""
    rng = np.random.default_rng(seed)
    y, w = np.r_[0, 1, rng.integers(0, 2, 30)], np.r_[1.0, 1.0, rng.integers(0, 3, 30)]
    p = rng.integers(1, 5 if seed % 4 == 0 else 10, 32) / 10
    options, called = {"sample_weight": w}, p > 0.5
    expected = {
        "areaUnderROC": sk.roc_auc_score(y, p, **options),
        "averagePrecision": sk.average_precision_score(y, p, **options),
        "accuracy": sk.accuracy_score(y, called, **options),
        "balancedAccuracy": sk.balanced_accuracy_score(y, called, **options),
        "f1": sk.f1_score(y, called, **options),
        "precision": sk.precision_score(y, called, zero_division=0, **options),
        "recall": sk.recall_score(y, called, **options),
        "specificity": sk.recall_score(y, called, pos_label=0, **options),
        "mcc": sk.matthews_corrcoef(y, called, **options),
        "logLoss": sk.log_loss(y, p, **options),
        "brier": sk.brier_score_loss(y, p, **options),
    }
    actual = compute_array_metrics(y.astype(float), np.column_stack([1 - p, p]), "binary", w)
    assert {name: actual[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_balanced_accuracy_of_one_class_is_the_share_of_its_rows_that_are_right(label: float) -> None:
    """Of four rows, one is called positive; the same rows as two of several classes have the same value."""
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.8]])
    for task in ("binary", "multiclass"):
        assert compute_array_metrics(np.full(4, label), scores, task)["balancedAccuracy"] == (0.25 if label else 0.75)


def test_a_model_can_beat_the_precision_of_a_constant_that_calls_no_row_positive() -> None:
    labels = np.array([0.0, 0.0, 1.0])
    constant = compute_array_metrics(labels, np.tile([2 / 3, 1 / 3], (3, 1)), "binary")
    model = compute_array_metrics(labels, np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]), "binary")
    measured = Measured({"candidate": Measurement.of_values(model), "baseline": Measurement.of_values(constant)})
    assert parse_gate(default_gates("precision", has_intervals=False)[0]).evaluate(measured).passed
