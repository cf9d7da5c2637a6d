"""Areas under curves against scikit-learn's, for scores that a grid would take for ties or leave out."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from tidemill.evaluation.arrays import compute_array_metrics as metrics
from tidemill.evaluation.curves import areas_under_curves, count_by_score, partial_areas, whole_areas

RNG = np.random.default_rng(21)
X = RNG.normal(size=3000)
Y = (X + 1.5 * RNG.normal(size=3000) > 1).astype(float)
SIGMOID = 1 / (1 + np.exp(-X))
SCORES = {
    "informative": SIGMOID,
    "shrunk by a penalty": 0.27 + 1e-6 * X,
    "shrunk to neighbouring doubles": 0.27 + np.spacing(0.27) * np.round(20 * X),
    "of two scales": np.where(X > 0, 0.9 + 1e-12 * X, 1e-9 * SIGMOID),
    "saturated": 1 / (1 + np.exp(-40 * X)),
    "near 0": 10.0 ** (40 * SIGMOID - 320),  # 1e-300 and less, down to numbers that have lost digits
    "near 1": 1 - 10.0 ** (5 * SIGMOID - 17),
    "tied": np.round(SIGMOID, 1),
    "two values": (X > 0.4).astype(float),
    "constant": np.full(3000, 0.3),
    "infinite": np.select([X > 1, X < -1], [np.inf, -np.inf], X),
}


def expected_areas(y, scores, weights=None):
    """By scikit-learn, whose curve starts with a precision of 1 where MLlib's has the first one; it takes ranks for infinite scores."""
    ranks = np.unique(scores, return_inverse=True)[1]
    precision, recall, _ = sk.precision_recall_curve(y, ranks, sample_weight=weights)
    precision[-1] = precision[-2]
    return sk.roc_auc_score(y, ranks, sample_weight=weights), sk.auc(recall, precision)


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("is_weighted", [False, True])
def test_areas_are_scikit_learns(kind, is_weighted):
    p = SCORES[kind]
    weights = RNG.choice([0.0, 0.5, 3.0, 1e-6], len(p)) if is_weighted else None
    roc, pr = expected_areas(Y, p, weights)
    actual = metrics(Y, np.column_stack([1 - p, p]), "binary", weights)
    assert actual["areaUnderROC"] == pytest.approx(roc, abs=1e-9)
    assert actual["areaUnderPR"] == pytest.approx(pr, abs=1e-9)
    judged = metrics(Y, np.column_stack([1 - p, p]), "anomaly", weights)
    assert judged == {name: actual[name] for name in ("areaUnderPR", "areaUnderROC", "averagePrecision")}


@pytest.mark.parametrize("kind", SCORES)
def test_stretches_of_a_curve_add_up_to_the_whole(kind):
    positives, negatives = count_by_score(SCORES[kind], Y, np.ones(len(Y)))
    ends = np.sort(RNG.integers(0, len(positives) + 1, 6))
    roc = pr = tp = fp = 0.0
    for ones, zeros in zip(np.split(positives, ends), np.split(negatives, ends), strict=True):
        added = partial_areas(ones, zeros, tp, fp)
        roc, pr, tp, fp = roc + added[0], pr + added[1], tp + ones.sum(), fp + zeros.sum()
    assert whole_areas(roc, pr, tp, fp) == pytest.approx(areas_under_curves(positives, negatives), abs=1e-12)


def test_by_hand():
    # Falling scores: 1, 0, and a tie of 1 and 0. Of the 4 pairs 1 + 1 are in order, 1 is a tie: 2.5 / 4 with the reversed one.
    positives, negatives = count_by_score(np.array([0.2, 0.9, 0.2, 0.5]), np.array([1.0, 1.0, 0.0, 0.0]), np.ones(4))
    assert (list(positives), list(negatives)) == ([1, 0, 1], [0, 1, 1])
    roc, pr = areas_under_curves(positives, negatives)
    assert roc == (1 + 1 + 0.5 + 0) / 4
    # Recall 0 to 1/2 at precision 1; then from (1/2, 1/2) to (1, 1/2).
    assert pr == 0.5 * 1 + 0.5 * 0.5


def test_a_class_that_is_absent_has_no_area():
    assert all(math.isnan(area) for area in areas_under_curves(np.zeros(2), np.ones(2)))
    roc, pr = areas_under_curves(np.ones(2), np.zeros(2))
    assert math.isnan(roc) and pr == 1
    assert all(math.isnan(area) for area in areas_under_curves(np.array([]), np.array([])))


def test_scores_that_are_no_numbers_are_refused_and_infinite_values_of_a_regression():
    p = np.array([[0.5, 0.5], [math.nan, math.nan]])
    with pytest.raises(ValueError, match="1 of 2 predictions are no numbers"):
        metrics(np.array([0.0, 1.0]), p, "binary")
    with pytest.raises(ValueError, match="1 of 2 predictions are no numbers"):
        metrics(np.array([0.0, 1.0]), np.array([0.0, math.inf]), "regression")
