"""What learners of trees make of losses and monotone slots, on arrays alone."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, mean_pinball_loss, mean_squared_error

from tidemill.evaluation.arrays import compute_array_metrics as metrics
from tidemill.families import FAMILIES, PATIENCE
from tidemill.learners.base import Rows, Setting
from tidemill.learners.linear_learners import compute_deviations
from tidemill.runtime.caching import limit_to_one_thread

PARAMS = {
    "hist_gradient_boosting": {"max_iter": 25, "min_samples_leaf": 5},
    "xgboost": {"n_estimators": 25, "max_depth": 4},
    "lightgbm": {"n_estimators": 25, "min_child_samples": 5},
    "gradient_boosted_trees": {"maxIter": 25, "minInstancesPerNode": 5},
}
GRID = np.column_stack([np.tile(np.linspace(0, 10, 101), 3), np.repeat([-1.0, 0.0, 1.0], 101)])


def examples(seed=3, rows=1000):
    """A price that grows with x but for a dent, as its noise does."""
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(0, 10, rows), rng.normal(size=rows)
    return np.column_stack([x, z]), np.exp(0.3 * x + 0.8 * np.sin(x) + 0.3 * rng.normal(size=rows))


def fitted(name, rows, task="regression", **given):
    with limit_to_one_thread():
        return FAMILIES.get(name).learner.fit(rows, Setting(PARAMS[name], task, 2 if task == "binary" else 0, 7, **given))


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize("task", ["regression", "binary"])
def test_predictions_never_fall_along_a_slot_that_is_held_and_do_without(name, task):
    features, price = examples()
    rows = Rows(features, price if task == "regression" else (price > np.median(price)).astype(float))
    falls = []
    for ways in ((), (1, 0)):
        found = fitted(name, rows, task, monotone=ways).predict(GRID)
        values = found if task == "regression" else found[:, 1]
        falls.append(min(np.diff(part).min() for part in np.split(values, 3)))
    assert falls[0] < -1e-3 and falls[1] >= -1e-12


@pytest.mark.parametrize("name", PARAMS)
def test_losses_find_their_own_best_predictions(name):
    rows, (unseen, truth) = Rows(*examples()), examples(seed=4)
    high, low, middle, mean = (
        fitted(name, rows, **given).predict(unseen)
        for given in ({"loss": "quantile", "quantile": 0.9}, {"loss": "quantile", "quantile": 0.1}, {"loss": "absolute"}, {})
    )
    assert (truth <= high).mean() == pytest.approx(0.9, abs=0.05)
    assert (truth <= low).mean() == pytest.approx(0.1, abs=0.05)
    assert mean_pinball_loss(truth, high, alpha=0.9) < mean_pinball_loss(truth, mean, alpha=0.9)
    wild = np.where(np.arange(len(rows.labels)) % 10 == 0, 5000.0, rows.labels)
    heeded, unheeded = (fitted(name, Rows(rows.features, wild), loss=loss).predict(unseen) for loss in ("squared", "absolute"))
    assert mean_absolute_error(truth, unheeded) < mean_absolute_error(truth, heeded) / 5
    assert mean_absolute_error(truth, middle) < mean_absolute_error(truth, np.full(len(truth), np.median(truth)))


@pytest.mark.parametrize("name", [*PARAMS, "random_forest", "isolation_forest"])
def test_numbers_beyond_32_bits_are_learned_from_and_scored(name):
    rng = np.random.default_rng(9)
    labels = rng.integers(0, 2, 300).astype(float)
    features = np.column_stack([np.where(labels == 1, 1e308, -1e300), rng.normal(size=300)])
    found = FAMILIES.get(name).learner.fit(Rows(features, labels), Setting(PARAMS.get(name, {}), "binary", 2, 7)).predict(features)
    assert np.isfinite(found).all()
    if name != "isolation_forest":  # labels are not looked at
        assert (found.argmax(axis=1) == labels).all()


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_weighted_metrics_are_scikit_learns(task):
    from sklearn import metrics as sk

    rng = np.random.default_rng(5)
    weights = rng.choice([0.0, 0.5, 3.0], 500)
    if task == "regression":
        truth, found = 1e6 + rng.normal(size=500), 1e6 + rng.normal(size=500)
        given = metrics(truth, found, task, weights, 0.3)
        assert given["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, found, sample_weight=weights))
        assert given["mae"] == pytest.approx(sk.mean_absolute_error(truth, found, sample_weight=weights))
        assert given["r2"] == pytest.approx(sk.r2_score(truth, found, sample_weight=weights))
        assert given["quantileLoss"] == pytest.approx(sk.mean_pinball_loss(truth, found, alpha=0.3, sample_weight=weights))
        assert "quantileLoss" not in metrics(truth, found, task)
        return
    p = rng.dirichlet(np.ones(2 if task == "binary" else 4), 500)
    truth = rng.integers(0, p.shape[1], 500)
    given = metrics(truth, p, task, weights)
    assert given["logLoss"] == pytest.approx(sk.log_loss(truth, p, sample_weight=weights))
    assert given["accuracy"] == pytest.approx(sk.accuracy_score(truth, p.argmax(axis=1), sample_weight=weights))
    f1 = sk.f1_score(truth, p.argmax(axis=1), sample_weight=weights, average="binary" if task == "binary" else "weighted")
    assert given["f1"] == pytest.approx(f1)
    if task == "binary":
        assert given["areaUnderROC"] == pytest.approx(sk.roc_auc_score(truth, p[:, 1], sample_weight=weights))
    with pytest.raises(ValueError, match="weights of all 500 rows to validate with are 0"):
        metrics(truth, p, task, np.zeros(500))


def test_a_class_that_no_row_has_is_never_predicted_however_long_the_rows():
    rng = np.random.default_rng(8)
    labels = rng.choice([0.0, 2.0], 60)
    words = rng.poisson(np.where(labels[:, None] == 0, [3.0, 1.0, 9.0, 7.0], [1.0, 3.0, 9.0, 7.0]) * 5)
    for kind in ("multinomial", "complement"):
        setting = Setting({"modelType": kind, "smoothing": 1.0}, "multiclass", 3, 7)
        found = FAMILIES.get("naive_bayes").learner.fit(Rows(words.astype(float), labels), setting).predict(words)
        assert set(found.argmax(axis=1)) == {0, 2}
        assert (found[:, 1] < 1e-20).all()


def test_the_r2_of_labels_of_one_value_is_no_number():
    labels = np.full(20, 0.1)
    found = metrics(labels, labels + 1e-3, "regression", np.random.default_rng(1).uniform(0.5, 2, 20))
    assert np.isnan(found["r2"]) and found["mae"] == pytest.approx(1e-3)


def test_weighted_deviations_are_by_hand_and_of_plain_rows_numpys():
    import scipy.sparse as sp

    rng = np.random.default_rng(6)
    x, w = rng.normal(size=(50, 3)) * (rng.random((50, 3)) < 0.4), rng.uniform(0, 3, 50)
    for features in (x, sp.csr_matrix(x)):
        assert np.allclose(compute_deviations(features), x.std(axis=0, ddof=1))
        assert np.allclose(compute_deviations(features, w) ** 2, np.cov(x.T, aweights=w).diagonal())
    alike = np.tile([0.1, np.cos(np.pi / 2), 1.0, 1e9, 0.0], (20_000, 1))
    for features in (alike, sp.csr_matrix(alike)):
        for counts in (None, rng.uniform(0.3, 3, 20_000)):
            assert (compute_deviations(features, counts) == 0).all()
    far = rng.normal([1e7, -1e5], size=(500, 2))
    for features in (far, sp.csr_matrix(far)):
        assert np.allclose(compute_deviations(features), far.std(axis=0, ddof=1), rtol=1e-6)


@pytest.mark.parametrize("name", ["hist_gradient_boosting", "xgboost", "lightgbm"])
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_fit_stops_where_unseen_rows_are_told_no_better_and_is_its_best_rounds(name, task):
    features, price = examples(rows=400)
    unseen, truth = examples(seed=5, rows=300)
    labels, expected = (price, truth) if task == "regression" else ((each > 4).astype(float) for each in (price, truth))
    learner, patience = FAMILIES.get(name).learner, 8
    lengths = [200, 12, 3]
    settings = [
        Setting({**PARAMS[name], learner.rounds: length, "learning_rate": 0.3}, task, 2 if task == "binary" else 0, 7) for length in lengths
    ]
    with limit_to_one_thread():
        whole = learner.fit(Rows(features, labels), settings[0])
        watchful = [replace(setting, params={**setting.params, PATIENCE: patience}) for setting in settings]
        found = list(learner.fit_each(Rows(features, labels), watchful, lambda: Rows(unseen, expected)))
    judge = mean_squared_error if task == "regression" else log_loss
    losses = []
    while len(losses) < 200 and (not losses or len(losses) - 1 - int(np.argmin(losses)) < patience):
        losses.append(judge(expected, whole.predict(unseen, len(losses) + 1)))
    assert len(losses) < 200, "the rows do stop it"
    assert [model.rounds for model in found] == [1 + int(np.argmin(losses[:length])) for length in lengths]
    for model in found:
        assert np.allclose(model.predict(unseen), whole.predict(unseen, model.rounds))


@pytest.mark.parametrize("name", ["hist_gradient_boosting", "xgboost", "lightgbm"])
def test_a_class_that_only_unseen_rows_have_does_not_keep_a_fit_from_stopping(name):
    features, price = examples(rows=300)
    labels = np.minimum(price // 4, 2)
    learner = FAMILIES.get(name).learner
    setting = Setting({**PARAMS[name], PATIENCE: 3}, "multiclass", 3, 7)
    is_seen = labels < 2
    with limit_to_one_thread():
        [found] = learner.fit_each(Rows(features[is_seen], labels[is_seen]), [setting], lambda: Rows(features, labels))
    assert found.predict(features).shape == (300, 3)


@pytest.mark.parametrize(("value", "is_right"), [(10, True), ([5, 20], True), (0, False), ([5, 2.5], False), ("ten", False), (True, False)])
def test_patience_is_a_number_of_rounds_and_of_these_libraries_alone(value, is_right):
    for name in ("hist_gradient_boosting", "xgboost", "lightgbm"):
        assert bool(FAMILIES.get(name).parameter_faults({PATIENCE: value}, "binary")) != is_right
    assert "has no parameter" in FAMILIES.get("gradient_boosted_trees").parameter_faults({PATIENCE: value}, "binary")[PATIENCE]


TREES = {**PARAMS, "random_forest": {"numTrees": 10, "featureSubsetStrategy": "all"}}


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_gains_are_of_the_slot_that_decides_wherever_it_stands_among_categories_and_numbers(name, task):
    rng = np.random.default_rng(12)
    nominal = {1: 4, 3: 3, 4: 5}
    features = rng.normal(size=(800, 6))
    for slot, count in nominal.items():
        features[:, slot] = rng.integers(0, count, 800)
    for signal in range(features.shape[1]):
        is_high = features[:, signal] == 2 if signal in nominal else features[:, signal] > 0.3
        rows = Rows(features, is_high.astype(float), nominal)
        learner = FAMILIES.get(name).learner
        with limit_to_one_thread():
            model = learner.fit(rows, Setting(TREES[name], task, 2 if task == "binary" else 0, 7))
        for scorer in (model, learner.load(model.dump(), task)):
            gains = scorer.gains()
            assert gains.argmax() == signal and gains[signal] > 0.9 * gains.sum()
