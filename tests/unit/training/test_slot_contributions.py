"""Contributions of slots by the learners: they add up to the prediction, and equal Shapley values by their definition."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest

from tidemill.learners.base import Rows, Setting
from tidemill.learners.forest import FOREST
from tidemill.learners.histogram import BOOSTED_TREES, HISTOGRAM
from tidemill.learners.lightgbm import LIGHTGBM
from tidemill.learners.xgboost import XGBOOST

NOMINAL = {3: 5}


def _rows(task, seed=0, n=400):
    """Three numbers, the first of them with gaps, and a category; all of them matter."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=(n, 3)), rng.integers(0, 5, n)]).astype(float)
    score = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + (x[:, 3] == 2) - 0.5 * (x[:, 3] == 4) * x[:, 1]
    x[rng.random(n) < 0.1, 0] = np.nan
    noisy = score + 0.3 * rng.normal(size=n)
    labels = {"regression": noisy, "binary": noisy > 0, "multiclass": np.digitize(noisy, [-0.5, 0.7])}[task]
    return Rows(x, labels.astype(float), NOMINAL)


def _fit(learner, params, task):
    rows = _rows(task)
    n_classes = {"binary": 2, "multiclass": 3, "regression": 0}[task]
    return learner.fit(rows, Setting(params, task, n_classes, 7)), rows.features[:60]


def _margins(scorer, features, task):
    """What a model predicts on the scale of its contributions, from its own predictions."""
    predicted = scorer.predict(features)
    if scorer.scale == "value":
        return predicted[:, None]
    if scorer.scale == "probability":
        return predicted[:, 1:] if task == "binary" else predicted
    if task == "binary":
        return np.log(predicted[:, 1:] / predicted[:, :1])
    logs = np.log(predicted)
    return logs - logs.mean(axis=1, keepdims=True)


LEARNERS = {
    "random_forest": (FOREST, {"numTrees": 6, "maxDepth": 5}),
    "gradient_boosted_trees": (BOOSTED_TREES, {"maxIter": 8, "maxDepth": 4, "stepSize": 0.3}),
    "hist_gradient_boosting": (HISTOGRAM, {"max_iter": 8, "max_leaf_nodes": 9, "learning_rate": 0.3}),
    "xgboost": (XGBOOST, {"n_estimators": 8, "max_depth": 4, "learning_rate": 0.3}),
    "lightgbm": (LIGHTGBM, {"n_estimators": 8, "num_leaves": 9, "learning_rate": 0.3}),
}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("family", LEARNERS)
def test_contributions_add_up_to_the_prediction(family, task):
    scorer, features = _fit(*LEARNERS[family], task)
    contributions = scorer.contributions(features)
    assert contributions.shape == (60, 3 if task == "multiclass" else 1, 5)
    assert np.abs(contributions[:, :, :-1]).max(axis=(0, 1)).min() > 0.01  # every slot matters
    total = contributions.sum(axis=2)
    if scorer.scale == "margin":  # only differences of margins have a meaning
        total = total - total.mean(axis=1, keepdims=True)
    assert total == pytest.approx(_margins(scorer, features, task), abs=2e-5)
    assert contributions[:, :, -1].std(axis=0).max() < 1e-9  # one mean for all rows


def _expected_output(tree, row, known):
    """The mean output of a tree of scikit-learn where only the slots ``known`` are given: both branches, weighted by their rows."""

    def descend(node):
        left, right = tree.children_left[node], tree.children_right[node]
        if left < 0:
            return tree.value[node, 0, 0]
        slot = tree.feature[node]
        if slot in known:
            goes_left = tree.missing_go_to_left[node] if np.isnan(row[slot]) else np.float32(row[slot]) <= tree.threshold[node]
            return descend(left if goes_left else right)
        weights = tree.weighted_n_node_samples
        return (weights[left] * descend(left) + weights[right] * descend(right)) / weights[node]

    return descend(0)


def test_a_forests_contributions_are_shapley_values_by_their_definition():
    scorer, features = _fit(FOREST, {"numTrees": 3, "maxDepth": 6}, "regression")
    found = scorer.contributions(features[:5])[:, 0]
    d = features.shape[1]
    for row, values in zip(features[:5], found, strict=True):
        for slot in range(d):
            others, expected = [other for other in range(d) if other != slot], 0.0
            for size in range(d):
                for known in combinations(others, size):
                    gains = [
                        _expected_output(each.tree_, row, {*known, slot}) - _expected_output(each.tree_, row, set(known))
                        for each in scorer.model.estimators_
                    ]
                    expected += factorial(size) * factorial(d - size - 1) / factorial(d) * np.mean(gains)
            assert values[slot] == pytest.approx(expected, abs=1e-9)


def test_own_trees_give_what_lightgbm_gives_for_the_same_trees():
    from tidemill.learners.tree_shap import Tree, TreeEnsemble

    rows = _rows("regression")
    plain = Rows(np.nan_to_num(rows.features[:, :3]), rows.labels)
    scorer = LIGHTGBM.fit(plain, Setting({"n_estimators": 6, "num_leaves": 12, "learning_rate": 0.3}, "regression", 0, 7))
    trees = []
    for tree in scorer.model.dump_model()["tree_info"]:
        nodes = []

        def visit(node, nodes=nodes):
            place = len(nodes)
            nodes.append(None)
            if "leaf_value" in node:
                nodes[place] = (-1, -1, -1, node.get("leaf_count", 1), node["leaf_value"], np.nan)
            else:
                left, right = visit(node["left_child"]), visit(node["right_child"])
                nodes[place] = (node["split_feature"], left, right, node["internal_count"], 0.0, node["threshold"])
            return place

        visit(tree["tree_structure"])
        slots, left, right, cover, values, thresholds = map(np.array, zip(*nodes, strict=True))
        seen = np.maximum(slots, 0)
        goes_left = lambda vectors, seen=seen, thresholds=thresholds: vectors[:, seen] <= thresholds  # noqa: E731
        trees.append(Tree(slots, left, right, cover.astype(float), values[:, None], goes_left))
    own = TreeEnsemble(trees, [1.0] * len(trees), np.zeros(1), 3).contributions(plain.features)
    assert own[:, 0] == pytest.approx(scorer.model.predict(plain.features, pred_contrib=True), abs=1e-9)


@pytest.mark.parametrize("slot", [1, 3])
@pytest.mark.parametrize("family", LEARNERS)
def test_contributions_are_of_the_slot_that_matters(family, slot):
    rows = _rows("regression")
    labels = 3.0 * (rows.features[:, 3] == 2) if slot == 3 else rows.features[:, 1]
    learner, params = LEARNERS[family]
    scorer = learner.fit(Rows(rows.features, labels, NOMINAL), Setting(params, "regression", 0, 7))
    sizes = np.abs(scorer.contributions(rows.features[:60])[:, 0, :-1]).mean(axis=0)
    assert sizes.argmax() == slot
    assert sizes[slot] > 2 * np.delete(sizes, slot).max()
