"""Out-of-fold scores counted, thresholds and calibrations, against scikit-learn on the rows themselves, however the scores lie."""

import json

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve

from tidemill.spec.models import Threshold
from tidemill.training.calibration import (
    IsotonicCalibration,
    SigmoidCalibration,
    calibrate_scores,
    dump_calibrations,
    fit_calibrations,
    load_calibrations,
)
from tidemill.training.out_of_fold import ScoreHistogram, build_histogram, choose_threshold, count_scores, merge_histograms


def expit(margins):
    return 1 / (1 + np.exp(-margins))


def _rows(kind, n=4000):
    """LabelEncoding, and the probabilities of class 1 of a model that pulls scores together, saturates, repeats them or is next to 0."""
    rng = np.random.default_rng(5)
    margins = rng.normal(-1.0, 1.5, n)
    labels = (rng.random(n) < expit(margins)).astype(float)
    scores = {
        "plain": expit(2.0 * margins + 0.5),
        "shrunk": 0.3 + 1e-5 * margins,  # as a penalty of 1000 leaves them: within 1e-4 of each other
        "saturated": expit(25.0 * margins),  # many are 1.0 itself
        "tied": np.round(expit(margins) * 0.8 + 0.1, 1),
        "tiny": 10.0 ** (-300 + 5 * margins),
    }
    return labels, scores[kind]


KINDS = ["plain", "shrunk", "saturated", "tied", "tiny"]


def _histogram(labels, p, weights=None, **limits):
    return count_scores(labels, np.column_stack([1 - p, p]), weights, **limits)[0]


def _ranks(p):
    """Return the order of the scores as numbers; scikit-learn's isotonic regression takes scores within 1e-15 for equal."""
    return np.unique(p, return_inverse=True)[1].astype(float)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_counted_by_their_exact_score(kind):
    labels, p = _rows(kind)
    weights = np.random.default_rng(1).integers(0, 3, len(p)).astype(float)
    histogram = _histogram(labels, p, weights)
    assert histogram.scores.tolist() == sorted(set(p[weights > 0]))
    place = len(histogram.scores) // 2
    of_score = p == histogram.scores[place]
    assert histogram.rows[place] == weights[of_score].sum()
    assert histogram.positives[place] == weights[of_score & (labels == 1)].sum()
    halves = [[_histogram(labels[part], p[part], weights[part])] for part in (slice(0, 1500), slice(1500, None))]
    merged = merge_histograms(halves)[0]
    assert all(np.array_equal(getattr(merged, name), getattr(histogram, name)) for name in ("scores", "rows", "positives"))


@pytest.mark.parametrize("kind", KINDS)
def test_isotonic_calibration_is_scikit_learns_on_the_same_rows(kind):
    labels, p = _rows(kind)
    calibration = IsotonicCalibration.fit(_histogram(labels, p))
    least = 0.5 / len(p)
    expected = IsotonicRegression().fit(_ranks(p), labels).predict(_ranks(p)).clip(least, 1 - least)
    assert np.abs(calibration.apply(p) - expected).max() < 1e-12
    assert len(calibration.scores) < 300
    between = np.linspace(p.min(), p.max(), 1001)
    assert (np.diff(calibration.apply(between)) >= 0).all()


def test_isotonic_calibration_is_scikit_learns_between_the_rows_and_beyond_them_and_heeds_weights():
    labels, p = _rows("plain")
    weights = np.random.default_rng(2).random(len(p)) * 3
    calibration = IsotonicCalibration.fit(_histogram(labels, p, weights))
    unseen = np.r_[0.0, np.random.default_rng(3).random(500), 1.0]
    model = IsotonicRegression(out_of_bounds="clip").fit(p, labels, weights)
    least = 0.5 / weights.sum()
    assert (
        np.abs(calibration.apply(unseen) - np.interp(unseen, model.X_thresholds_, model.y_thresholds_.clip(least, 1 - least))).max() < 1e-9
    )


@pytest.mark.parametrize("kind", ["plain", "shrunk", "tied"])
def test_each_of_several_classes_is_calibrated_against_the_rest(kind):
    labels, p = _rows(kind)
    classes = np.where(labels == 1, 1, np.arange(len(p)) % 2 * 2)
    probabilities = np.column_stack([0.6 * (1 - p), p, 0.4 * (1 - p)])
    calibrations = fit_calibrations("isotonic", count_scores(classes, probabilities))
    least = 0.5 / len(p)
    for place, calibration in enumerate(calibrations):
        ranks = _ranks(probabilities[:, place])
        expected = IsotonicRegression().fit(ranks, classes == place).predict(ranks).clip(least, 1 - least)
        assert np.abs(calibration.apply(probabilities[:, place]) - expected).max() < 1e-12


@pytest.mark.parametrize("kind", ["plain", "shrunk", "tied"])
def test_sigmoid_calibration_is_a_logistic_regression_on_the_logit(kind):
    labels, p = _rows(kind)
    margins = np.log(p) - np.log1p(-p)
    standardised = ((margins - margins.mean()) / margins.std())[:, None]
    expected = LogisticRegression(C=np.inf, tol=1e-8).fit(standardised, labels).predict_proba(standardised)[:, 1]
    assert np.abs(SigmoidCalibration.fit(_histogram(labels, p)).apply(p) - expected).max() < 1e-3


@pytest.mark.parametrize("kind", ["saturated", "tiny"])
def test_sigmoid_calibration_keeps_the_order_of_extreme_scores_and_the_share_of_the_class(kind):
    labels, p = _rows(kind)
    calibrated = SigmoidCalibration.fit(_histogram(labels, p)).apply(p)
    order = np.argsort(p, kind="stable")
    assert (np.diff(calibrated[order]) >= 0).all() and len(np.unique(calibrated)) > 0.5 * len(np.unique(p))
    assert calibrated.mean() == pytest.approx(labels.mean(), abs=2e-3)
    ends = SigmoidCalibration(1.0, 0.0).apply(np.array([0.0, 1.0]))
    assert ends[0] < 1e-300 and ends[1] == pytest.approx(1.0)


def test_all_scores_alike_are_calibrated_to_the_share_of_the_class():
    labels = np.array([1.0] * 300 + [0.0] * 700)
    for kind in ("sigmoid", "isotonic"):
        for p in (0.9, 0.0, 1.0):
            (calibration,) = fit_calibrations(kind, [_histogram(labels, np.full(1000, p))])
            assert calibration.apply(np.array([p]))[0] == pytest.approx(0.3, abs=1e-3)


@pytest.mark.parametrize("calibrate", ["none", "isotonic", "sigmoid"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_threshold_is_the_best_of_all_scores(kind, calibrate):
    labels, p = _rows(kind)
    histogram = _histogram(labels, p)
    if calibrate != "none":
        (calibration,) = fit_calibrations(calibrate, [histogram])
        histogram, p = calibrate_scores(histogram, calibration), calibration.apply(p)
    precision, recall, scores = precision_recall_curve(labels, p)
    precision, recall = precision[:-1], recall[:-1]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    found = choose_threshold(Threshold(maximise="f1"), histogram)
    assert found in p
    assert f1[scores == found][0] == pytest.approx(f1.max(), rel=1e-12)
    # The rows that are called, of which so many are right, and the others: hits and rightly left out.
    hits = recall * labels.sum()
    accuracies = (hits + (labels == 0).sum() - (hits / np.maximum(precision, 1e-300) - hits) * (hits > 0)) / len(p)
    accuracies = np.where(hits > 0, accuracies, 0.0)
    found = choose_threshold(Threshold(maximise="accuracy"), histogram)
    assert accuracies[scores == found][0] == pytest.approx(accuracies.max(), rel=1e-12)
    for least in (0.4, 0.6):
        if (precision >= least).any():
            assert choose_threshold(Threshold(at_precision=least), histogram) == scores[precision >= least].min()
        assert choose_threshold(Threshold(at_recall=least), histogram) == scores[recall >= least].max()


@pytest.mark.parametrize("kind", KINDS)
def test_more_scores_than_are_kept_are_put_into_bins_within_the_bound(kind):
    labels, p = _rows(kind, 50_000)
    exact, max_scores = _histogram(labels, p), 2000
    bins = _histogram(labels, p, max_scores=max_scores)
    assert len(bins.scores) <= max_scores
    assert (bins.rows.sum(), bins.positives.sum()) == (exact.rows.sum(), exact.positives.sum())
    at_least = {score: (p >= score).sum() for score in bins.scores[:: max(len(bins.scores) // 50, 1)]}
    above = dict(zip(bins.scores, np.cumsum(bins.rows[::-1])[::-1], strict=True))
    assert all(above[score] == count for score, count in at_least.items())
    if len(exact.scores) > max_scores:
        rows_above = np.r_[np.cumsum(bins.rows[::-1])[::-1][1:], 0.0]
        rows_below = np.r_[0.0, np.cumsum(bins.rows)[:-1]] + bins.rows
        take_first_rows = exact.rows[np.searchsorted(exact.scores, bins.scores)]
        others = bins.rows - take_first_rows
        # At 2,000 bins the share is 4 %: the bound of its logarithm, e^x - 1.
        bound = np.expm1(83 / (max_scores - 4)) * (np.minimum(rows_above, rows_below) + 1e-9 * len(p)) + 1e-6
        assert (others <= bound).all()
        first_positives = exact.positives[np.searchsorted(exact.scores, bins.scores)]
        assert (bins.positives - first_positives).max() <= 4 / max_scores * labels.sum() + 1e-6
    exact_f1, f1 = (
        2 * labels[called].sum() / (called.sum() + labels.sum())
        for called in (p >= choose_threshold(Threshold(maximise="f1"), each) for each in (exact, bins))
    )
    assert f1 > exact_f1 - 1e-3
    difference = IsotonicCalibration.fit(bins).apply(p) - IsotonicCalibration.fit(exact).apply(p)
    assert np.abs(difference).mean() < 2e-3


def test_an_isotonic_calibration_of_many_blocks_is_kept_within_its_bound():
    rng = np.random.default_rng(9)
    shares = np.sort(expit(rng.normal(-3, 3, 20_000)))
    rows = np.full(20_000, 1e6)
    histogram = ScoreHistogram(np.linspace(0.1, 0.2, 20_000), rows, shares * rows)
    calibration = IsotonicCalibration.fit(histogram, max_points=1000)
    exact = IsotonicCalibration.fit(histogram, max_points=10**6)
    assert len(exact.scores) == 20_000 and len(calibration.scores) <= 1000
    odds = [np.log(each.apply(histogram.scores) / (1 - each.apply(histogram.scores))) for each in (calibration, exact)]
    assert np.abs(odds[0] - odds[1]).max() <= 2 / 998 * (odds[1][-1] - odds[1][0]) + 1e-9


def test_calibrations_are_written_with_every_digit():
    labels, p = _rows("tiny")
    calibrations = [*fit_calibrations("isotonic", [_histogram(labels, p)]), *fit_calibrations("sigmoid", [_histogram(labels, p)])]
    written = dump_calibrations(calibrations)
    assert json.loads(written)[1]["kind"] == "sigmoid"
    assert [each.apply(p).tolist() for each in load_calibrations(written)] == [each.apply(p).tolist() for each in calibrations]


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="1 of 2 predictions of unseen rows are no numbers"):
        build_histogram(np.array([0.5, np.nan]), np.ones(2), np.ones(2))
