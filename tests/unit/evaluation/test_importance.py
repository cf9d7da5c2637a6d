"""Permutation importance of arrays, against scikit-learn."""

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from tidemill.evaluation.importance import Judge, Permutations, estimate_importances

COLUMNS = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def fitted():
    """A model of four columns, of which two carry the label, and 400 rows."""
    x, y = make_classification(400, 4, n_informative=2, n_redundant=0, random_state=3, shuffle=False)
    return LogisticRegression().fit(x, y), x, y.astype(float)


def _importances(fitted, metric, *, is_minimised, repeats=5, draws=60, units=None, threshold=0.5):
    model, x, y = fitted
    plan = Permutations(COLUMNS, repeats, len(x))
    judge = Judge(metric, "binary", y, np.ones(len(y)), np.arange(len(y)) if units is None else units, draws)
    blocks = {}
    for block in range(plan.n_blocks):
        rows, name = x.copy(), plan.column(block)
        if name is not None:
            place = COLUMNS.index(name)
            rows[:, place] = x[plan.places(block), place]
        p = model.predict_proba(rows)
        blocks[block] = judge.measure(np.column_stack([p[:, 1] >= threshold, p]))
    return estimate_importances(blocks, plan, is_minimised=is_minimised), plan


def _expect(fitted, plan, column, score):
    """The mean loss of a score of scikit-learn over the same permutations."""
    model, x, y = fitted
    losses = []
    for block in plan.blocks(column):
        rows, place = x.copy(), COLUMNS.index(column)
        rows[:, place] = x[plan.places(block), place]
        losses.append(score(y, model.predict_proba(x)[:, 1]) - score(y, model.predict_proba(rows)[:, 1]))
    return np.mean(losses)


def test_the_loss_of_a_metric_equals_scikit_learns_of_the_same_permutations(fitted):
    found, plan = _importances(fitted, "areaUnderROC", is_minimised=False)
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(
        {name: _expect(fitted, plan, name, roc_auc_score) for name in COLUMNS}
    )
    assert list(found)[:2] == ["b", "a"] or list(found)[:2] == ["a", "b"]
    values = [estimate.value for estimate in found.values()]
    assert values == sorted(values, reverse=True)


def test_a_column_that_a_model_needs_is_above_0_where_less_is_better(fitted):
    found, plan = _importances(fitted, "logLoss", is_minimised=True)
    assert found["a"].value == pytest.approx(-_expect(fitted, plan, "a", log_loss))
    assert found["a"].lower > 0
    assert found["a"].lower < found["a"].value < found["a"].upper


def test_metrics_of_the_called_class_are_those_at_the_threshold_of_the_model(fitted):
    found, plan = _importances(fitted, "f1", is_minimised=False, draws=0, threshold=0.2)
    assert found["a"].value == pytest.approx(_expect(fitted, plan, "a", lambda y, p: f1_score(y, p >= 0.2)))


def test_intervals_hold_what_many_permutations_of_scikit_learn_give(fitted):
    model, x, y = fitted
    found, _ = _importances(fitted, "areaUnderROC", is_minimised=False, draws=50)
    expected = permutation_importance(model, x, y, scoring="roc_auc", n_repeats=30, random_state=0)
    for name, value in zip(COLUMNS, expected.importances_mean, strict=True):
        assert found[name].lower <= value <= found[name].upper
    # The width is that of the rows: about 2 × 1.96 standard errors of a bootstrap of scikit-learn's own scores.
    rng = np.random.default_rng(0)
    draws = []
    permuted = x.copy()
    permuted[:, 0] = rng.permutation(permuted[:, 0])
    for _ in range(200):
        rows = rng.integers(0, len(y), len(y))
        scores = [roc_auc_score(y[rows], model.predict_proba(each[rows])[:, 1]) for each in (x, permuted)]
        draws.append(scores[0] - scores[1])
    assert found["a"].upper - found["a"].lower == pytest.approx(2 * 1.96 * np.std(draws), rel=0.35)


def test_rows_of_a_unit_are_drawn_together(fitted):
    alone, _ = _importances(fitted, "areaUnderROC", is_minimised=False, draws=50)
    x, y = fitted[1], fitted[2]
    doubled = fitted[0], np.vstack([x, x]), np.concatenate([y, y])
    units = np.tile(np.arange(len(y)), 2)
    together, _ = _importances(doubled, "areaUnderROC", is_minimised=False, draws=50, units=units)
    apart, _ = _importances(doubled, "areaUnderROC", is_minimised=False, draws=50)

    def width(found):
        return found["a"].upper - found["a"].lower

    assert width(together) == pytest.approx(width(alone), rel=0.25)
    assert width(apart) < 0.85 * width(alone)


def test_without_draws_there_is_no_interval_and_an_undefined_metric_gives_no_number(fitted):
    found, _ = _importances(fitted, "areaUnderROC", is_minimised=False, draws=0)
    assert all(estimate.interval is None for estimate in found.values())
    model, x, y = fitted
    one_class = model, x, np.zeros(len(y))
    undefined, _ = _importances(one_class, "areaUnderROC", is_minimised=False, draws=20)
    assert all(np.isnan(estimate.value) and estimate.interval is None for estimate in undefined.values())
