"""Paths of penalties: the same minima as scikit-learn's, alone and along the way, for dense and sparse rows, with and without weights."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge

from tidemill.learners import newton
from tidemill.learners.base import Rows, Setting
from tidemill.learners.newton import LogLoss, Path, Penalty, SquaredLoss, minimise_path
from tidemill.learners.penalised import LeastSquares, Logistic

STEPS, TOLERANCE = 100, 1e-8


@pytest.fixture(scope="module")
def rows():
    """4,000 rows of six numbers and a category of nine rare and common values, as one-hot slots; labels and weights."""
    draw = np.random.default_rng(5)
    category = draw.choice(9, 4000, p=[0.4, 0.3, 0.2, 0.05, 0.02, 0.01, 0.01, 0.005, 0.005])
    features = np.hstack([draw.normal(size=(4000, 6)), np.eye(9)[category]])
    margins = features @ draw.normal(size=15) - 0.5
    labels = (draw.random(4000) < 1 / (1 + np.exp(-margins))).astype(float)
    return features, labels, margins + draw.normal(size=4000), draw.uniform(0.5, 3.0, 4000)


def found(features, labels, weights, loss, penalties, steps=STEPS):
    path = Path(features, labels, weights, loss)
    return {place: (w, b) for place, w, b in minimise_path(path, penalties, steps=steps, tolerance=TOLERANCE)}


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_a_path_of_logistic_regressions_has_scikit_learns_minima(rows, ratio, is_weighted):
    features, labels, _, weights = rows
    weights = weights if is_weighted else None
    strengths = [1e-4, 1e-2, 1e-3, 0.1]
    path = found(sp.csr_matrix(features), labels, weights, LogLoss(), [Penalty(strength, ratio) for strength in strengths])
    total = len(labels) if weights is None else weights.sum()
    for place, strength in enumerate(strengths):
        solver = "saga" if ratio else "newton-cholesky"
        model = LogisticRegression(C=1 / (strength * total), l1_ratio=ratio, solver=solver, tol=1e-7, max_iter=5000, random_state=1)
        model.fit(features, labels, sample_weight=weights)
        np.testing.assert_allclose(path[place][0], model.coef_[0], atol=2e-4)
        assert path[place][1] == pytest.approx(model.intercept_[0], abs=2e-4)
        assert (path[place][0] == 0).sum() == (model.coef_ == 0).sum()


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_a_path_of_least_squares_has_scikit_learns_minima(rows, ratio):
    features, _, values, _ = rows
    path = found(features, values, None, SquaredLoss(), [Penalty(strength, ratio) for strength in (1e-3, 0.05, 0.5)])
    for place, strength in enumerate((1e-3, 0.05, 0.5)):
        model = ElasticNet(alpha=strength, l1_ratio=ratio, tol=1e-10, max_iter=100_000) if ratio else Ridge(alpha=strength * len(values))
        model.fit(features, values)
        np.testing.assert_allclose(path[place][0], model.coef_, atol=1e-5)
        assert path[place][1] == pytest.approx(model.intercept_, abs=1e-5)


def test_the_curvature_of_few_rows_leads_to_the_minimum_of_all(rows, monkeypatch):
    features, labels, _, _ = rows
    whole = found(features, labels, None, LogLoss(), [Penalty(1e-3)])
    monkeypatch.setattr(newton, "_MIN_SAMPLE", 300)
    monkeypatch.setattr(newton, "_ROWS_PER_SLOT", 1)
    few = found(features, labels, None, LogLoss(), [Penalty(1e-3)])
    np.testing.assert_allclose(few[0][0], whole[0][0], atol=1e-6)


def test_a_minimum_out_of_reach_is_what_it_is_alone(rows):
    features, labels, _, _ = rows
    penalties = [Penalty(0.1), Penalty(1e-6)]
    together, alone = (
        found(features, labels, None, LogLoss(), penalties, steps=2),
        found(features, labels, None, LogLoss(), penalties[1:], 2),
    )
    np.testing.assert_array_equal(together[1][0], alone[0][0])


def test_classes_that_a_line_parts_have_an_end(rows):
    features = rows[0]
    [(weights, bias)] = found(features, (features[:, 0] > 0).astype(float), None, LogLoss(), [Penalty(0.0)], steps=50).values()
    assert np.isfinite(weights).all()
    assert np.isfinite(bias)
    assert ((features @ weights + bias > 0) == (features[:, 0] > 0)).mean() > 0.99


@pytest.mark.parametrize(("learner", "task", "labels"), [(Logistic(), "binary", 1), (LeastSquares(), "regression", 2)])
def test_a_setting_has_the_same_model_alone_and_among_others(rows, learner, task, labels):
    given = Rows(rows[0], rows[labels], weights=rows[3])
    settings = [
        Setting({"regParam": strength, "elasticNetParam": ratio, "standardization": True}, task, 2 if task == "binary" else 0, 1)
        for strength, ratio in ((0.001, 0.0), (0.1, 1.0), (0.01, 0.5), (0.1, 0.0))
    ]
    assert learner.sharing(task, 15).parameters == ("regParam", "elasticNetParam")
    assert learner.sharing("multiclass", 15) is None
    assert learner.sharing(task, newton.MAX_NEWTON_SLOTS + 1) is None
    for setting, model in zip(settings, learner.fit_each(given, settings), strict=True):
        np.testing.assert_allclose(model.weights, learner.fit(given, setting).weights, atol=1e-4)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize(("learner", "task", "labels"), [(Logistic(), "binary", 1), (LeastSquares(), "regression", 2)])
def test_slots_of_one_value_and_slots_far_from_zero_change_nothing_for_the_others(rows, form, is_weighted, learner, task, labels):
    features, weights = rows[0][:, :6], rows[3] if is_weighted else None
    ones = np.ones((4000, 1))
    month = np.sin(2 * np.pi * 6 / 12)  # as good as 0
    wide = np.hstack([features, 0.1 * ones, month * ones, 1e6 * ones, ones])
    setting = Setting({"regParam": 1e-3}, task, 2 if task == "binary" else 0, 1)
    plain = learner.fit(Rows(features, rows[labels], weights=weights), setting)
    found = learner.fit(Rows(form(wide), rows[labels], weights=weights), setting)
    np.testing.assert_allclose(found.weights[0, :6], plain.weights[0], atol=1e-5)
    np.testing.assert_allclose(found.predict(wide), plain.predict(features), atol=1e-5)
    for distance in (1e3, 1e6):
        for is_scaled in (True, False):
            asked = Setting({**setting.params, "standardization": is_scaled}, task, setting.n_classes, 1)
            near = learner.fit(Rows(features, rows[labels], weights=weights), asked)
            far = learner.fit(Rows(form(features + distance), rows[labels], weights=weights), asked)
            np.testing.assert_allclose(far.weights, near.weights, atol=1e-4)


def test_second_derivatives_of_sparse_rows_are_those_of_all_their_values():
    draw = np.random.default_rng(8)
    count = 3000
    hot = np.zeros((count, 60))
    for first, last in ((0, 20), (20, 60)):  # two categories; of the second one row in ten has none
        hot[np.arange(count), draw.integers(first, last, count)] = draw.uniform(0.5, 2.0, count)
    hot[::10, 20:] = 0.0
    whole = np.hstack([draw.normal(size=(count, 2)), hot, np.where(draw.random((count, 1)) < 0.4, 3.0, 0.0)])
    sparse, heights = sp.csr_matrix(whole), draw.uniform(0.1, 1.0, 2000)
    means = whole.mean(axis=0)
    assert isinstance(newton.choose_products(sparse, means), newton._SplitProducts)
    centred = whole[:2000] - means
    for products in (newton.choose_products(sparse, means), newton._DenseProducts(sparse, means), newton._DenseProducts(whole, means)):
        inner, edge = products.weight_products(heights)
        np.testing.assert_allclose(inner, centred.T @ np.diag(heights) @ centred, atol=1e-9)
        np.testing.assert_allclose(edge, centred.T @ heights, atol=1e-9)


def test_rows_are_taken_whole_where_products_of_their_values_are_more_work():
    draw = np.random.default_rng(9)
    hot = np.eye(40)[draw.integers(0, 40, 2000)]
    one_long = np.vstack([hot, np.ones((1, 40))])
    for features, kind in (
        (hot, newton._SplitProducts),
        (one_long, newton._DenseProducts),
        (draw.normal(size=(2000, 40)), newton._DenseProducts),
    ):
        assert isinstance(newton.choose_products(sp.csr_matrix(features), features.mean(axis=0)), kind)


@pytest.mark.parametrize("penalty", [Penalty(0.0), Penalty(1e-3), Penalty(1e-3, 0.5), Penalty(1e-3, 1.0)])
def test_slots_of_one_value_beside_a_category_do_not_spoil_the_curvature(penalty):
    draw = np.random.default_rng(10)
    category = draw.integers(0, 60, 3000)
    varied = np.hstack([draw.normal(size=(3000, 2)), np.eye(60)[category]])
    constant = np.tile([np.sin(0.5), np.cos(0.5), np.sin(1.5), np.cos(1.5), 1.0, 2013.0], (3000, 1))
    labels = (draw.random(3000) < 1 / (1 + np.exp(-varied[:, 0] - 0.05 * (category - 30)))).astype(float)
    [alone, beside] = [
        found(sp.csr_matrix(features), labels, None, LogLoss(), [penalty])[0][0] for features in (varied, np.hstack([varied, constant]))
    ]
    assert np.isfinite(beside).all()
    if penalty.strength:
        np.testing.assert_allclose(beside[:62], alone, atol=1e-6)
        np.testing.assert_allclose(beside[62:], 0.0, atol=1e-6)
