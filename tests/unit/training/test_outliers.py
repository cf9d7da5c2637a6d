"""Figures of strangeness as shares, and how tightly an order closes around rows."""

import numpy as np
import pytest
import scipy.sparse as sp

from tidemill.evaluation.mass_volume import MAX_VARIED_SLOTS, draw_points, mass_volume
from tidemill.learners.base import Rows, Setting
from tidemill.learners.outliers import ISOLATION, MIXTURE, Quantiles


def test_a_share_is_that_of_the_training_rows_that_are_less_strange():
    figures = np.array([3.0, 1.0, 2.0, 2.0])
    quantiles = Quantiles.of(figures)
    assert quantiles.share(np.array([1.0, 2.0, 3.0])).tolist() == [0.0, 0.25, 0.75]
    assert quantiles.share(np.array([2.5]))[0] == pytest.approx(0.5)
    behind = quantiles.share(np.array([0.0, 3.1, 10.0, 1e6]))
    assert behind[0] == 0.0 and (np.diff(behind) > 0).all() and behind[-1] < 1
    assert Quantiles.of(np.zeros(5)).share(np.array([0.0, 1.0])).tolist() == [0.0, 0.5]
    with pytest.raises(ValueError, match="no number"):
        Quantiles.of(np.array([1.0, np.nan]))


def test_shares_of_many_rows_are_those_of_all_of_them():
    figures = np.random.default_rng(0).lognormal(size=50_000)
    quantiles = Quantiles.of(figures)
    assert len(quantiles.scores) <= 4_001
    asked = np.quantile(figures, [0.01, 0.5, 0.9, 0.99, 0.9999])
    exact = np.searchsorted(np.sort(figures), asked) / len(figures)
    assert np.allclose(quantiles.share(asked), exact, atol=1e-3) and np.allclose(quantiles.share(asked)[3:], exact[3:], atol=2e-5)


def test_mass_volume_is_the_room_that_a_disc_takes_in_its_square():
    # Rows even over a disc of radius 1: the region of mass a is the disc of radius sqrt(a), of volume a pi / 4 in the square around it.
    rng = np.random.default_rng(1)
    angle, radius = rng.uniform(0, 2 * np.pi, 10_000), np.sqrt(rng.uniform(0, 1, 10_000))
    rows = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    found = mass_volume(lambda points: (points**2).sum(axis=1), rows, seed=3)
    assert found == pytest.approx((0.9 + 0.999) / 2 * np.pi / 4, abs=0.01)
    # The scale of the figures does not matter, a constant takes the whole square, and the order the other way round nearly so.
    assert mass_volume(lambda points: np.exp((points**2).sum(axis=1)), rows, seed=3) == found
    assert mass_volume(lambda points: np.zeros(len(points)), rows, seed=3) == 1.0
    assert mass_volume(lambda points: -(points**2).sum(axis=1), rows, seed=3) > 0.9


def test_points_of_many_slots_are_rows_with_a_few_slots_drawn_anew():
    rows = np.random.default_rng(2).normal(size=(100, 12))
    rows[:, 4] = 1.0
    points = draw_points(rows, seed=5)
    assert np.array_equal(points, draw_points(rows, seed=5))
    same = np.array([(points[:50] == row).sum(axis=1) for row in rows]).max(axis=0)
    assert (same == 12 - MAX_VARIED_SLOTS).all() and (points[:, 4] == 1.0).all()
    assert (points >= rows.min(axis=0)).all() and (points <= rows.max(axis=0)).all()


def test_a_better_order_closes_more_tightly():
    from sklearn.ensemble import IsolationForest
    from sklearn.mixture import GaussianMixture

    rng = np.random.default_rng(4)
    rows = np.vstack([rng.normal([0, 0], 0.3, (900, 2)), rng.normal([5, 5], 0.3, (900, 2)), rng.uniform(-2, 7, (20, 2))])
    two, one = (GaussianMixture(k, random_state=0).fit(rows) for k in (2, 1))
    forest = IsolationForest(random_state=0).fit(rows)
    found = [mass_volume(lambda points, model=model: -model.score_samples(points), rows, seed=7) for model in (two, forest, one)]
    assert found == sorted(found) and found[0] < 0.2 < found[2]


@pytest.mark.parametrize(("learner", "params"), [(ISOLATION, {"n_estimators": 10, "max_samples": 64}), (MIXTURE, {"k": 2})])
def test_what_finds_anomalies_takes_sparse_vectors_and_comes_back_from_its_dump(learner, params):
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(200, 20)) * (rng.random((200, 20)) < 0.2)
    setting = Setting(params, "anomaly", 2, 7)
    dense, sparse = (learner.fit(Rows(features, np.full(200, np.nan)), setting) for features in (vectors, sp.csr_matrix(vectors)))
    found = dense.predict(vectors)
    assert np.array_equal(found, sparse.predict(sp.csr_matrix(vectors))) and np.allclose(found.sum(axis=1), 1)
    assert np.array_equal(found, learner.load(dense.dump(), "anomaly").predict(vectors))
    assert (found[:, 1] >= 0.9).sum() == 20  # the strangest tenth of the training rows
    assert learner.sharing("anomaly", 20) is None and len(list(learner.fit_each(Rows(vectors, np.zeros(200)), [setting] * 2))) == 2
