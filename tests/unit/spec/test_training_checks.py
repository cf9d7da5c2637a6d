"""What stands around a fit: weights, monotone columns, target and loss, and what of it does not go together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.spec import load_spec

FOREST = "random_forest: {numTrees: {int: [20, 100]}, maxDepth: [4, 8]}"
HELD = "  monotone: {distance: increasing}\n"
MODELS = "  models:\n    random_forest: {numTrees: {int: [20, 100]}, maxDepth: [4, 8]}\n"
REGRESSION = ("task: binary\n  metric: areaUnderPR\n", "task: regression\n")
TREES = "gradient_boosted_trees, hist_gradient_boosting, xgboost, lightgbm"


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        (("exclude: [arr_time]", "exclude: [arr_time]\n  weight: arr_time"), "dataset.weight",
         "'arr_time' is also in `exclude`; the weight is never a feature, so leave it out there"),
        (("exclude: [arr_time]", "weight: is_late"), "dataset.weight",
         "'is_late' is also the `label`; name a column that says what a row counts for"),
        (("exclude: [arr_time]", "weight: distance"), "features.numeric.columns.0",
         "'distance' is `dataset.weight`, which no new row has; leave it out"),
        (("exclude: [arr_time]", "weight: w", FOREST, "factorization_machines: {}"),
         "training.models.factorization_machines",
         "factorization_machines does not support sample weights (`dataset.weight`); choose another family, or leave `dataset.weight` out"),
        (("exclude: [arr_time]", "weight: w", FOREST, "linear_svm: {}",
          "  metric:", "  engine: spark\n  metric:"), "training.models.linear_svm",
         "linear_svm does not support sample weights (`dataset.weight`); `engine: auto` knows them"),
        (("  metric: areaUnderPR\n", "  target: log\n"), "training.target",
         "is for `task: regression` alone, found `task: binary`; leave it out"),
        (("  metric: areaUnderPR\n", "  loss: absolute\n"), "training.loss",
         "is for `task: regression` alone, found `task: binary`; leave it out"),
        ((*REGRESSION, MODELS, "  metric: quantileLoss\n"), "training.metric",
         "quantileLoss is measured at a quantile; declare it: `loss: {quantile: 0.9}`"),
        ((*REGRESSION, MODELS, "evaluation: {gates: [quantileLoss < 3]}\n"), "evaluation.gates.0",
         "quantileLoss is measured at a quantile; declare it: `training.loss: {quantile: 0.9}`"),
        ((*REGRESSION, MODELS, MODELS + "  loss: {quantile: 0.9}\n"), "training.models.random_forest",
         "random_forest cannot minimise `training.loss: {quantile: …}`; name " + TREES),
        ((MODELS, MODELS + HELD), "training.models.random_forest",
         "random_forest cannot keep `training.monotone`; name " + TREES),
        ((MODELS, "  monotone: {distance: increasing}\n  engine: spark\n"), "training.models",
         "no default family meets the requirements: logistic_regression cannot keep `training.monotone` by `engine: spark`; "
         "name xgboost"),
        ((MODELS, "  monotone: {temp: increasing}\n"), "training.monotone.temp",
         "'temp' must be one number of the features, and no group has it; name it in `features.numeric`, or leave it out here"),
        ((*REGRESSION, MODELS, HELD + "  loss: {quantile: 0.9}\n"), "training.monotone",
         "is kept with `loss: squared` alone: for other losses the libraries set the leaves of a tree anew when it has grown, and "
         "predictions may go the other way all the same; leave one of the two out"),
        (("task: binary\n  metric: areaUnderPR\n", "task: anomaly\n", MODELS, HELD), "training.monotone",
         "is for `task: binary`, `multiclass` and `regression` alone, found `task: anomaly`; leave it out"),
        ((MODELS, HELD + "  models: {hist_gradient_boosting: {loss: absolute_error}}\n"), "training.models.hist_gradient_boosting.loss",
         "is not held to `training.monotone` by the libraries; leave one of the two out"),
        ((MODELS, HELD, "columns: [distance]}", "columns: [distance]}\n  buckets: {columns: [distance], quantiles: 4}"),
         "training.monotone.distance",
         "'distance' is also in `features.buckets`, which makes other slots of it that are not held; take it out of one of them"),
        ((MODELS, HELD, "numeric: {columns: [distance]}", "categorical: {columns: [distance]}"),
         "training.monotone.distance",
         "'distance' must be one number of the features, and it is in `features.categorical`; name it in `features.numeric`, "
         "or leave it out here"),
        (("task: binary\n  metric: areaUnderPR\n", "task: multiclass\n", MODELS, HELD), "training.monotone",
         "constrains how one number changes with a column, and `task: multiclass` predicts several; leave it out"),
        ((MODELS, "  monotone: {distance: increasing}\n  models:\n    mine: {python: functions.Mine}\n"), "training.models.mine",
         "mine is a custom family, which does not support `training.monotone`; choose another, or leave that out"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_named(faults: Callable, changed: Callable[..., str], changes, key: str, message: str) -> None:
    actual = [(found_key, found_message) for _, found_key, found_message in faults(changed(*changes))]
    assert (key, message) in actual
    assert all(name == key or "functions" in text for name, text in actual)


def test_a_quantile_has_its_metric_and_the_families_that_know_it(write: Callable[..., Path], changed: Callable[..., str]) -> None:
    text = changed(*REGRESSION, MODELS, "  loss: {quantile: 0.9}\nevaluation: {gates: [quantileLoss < baseline.quantileLoss]}\n")
    pipeline = load_spec(write(text), environ={}).pipeline
    assert (pipeline.selection_metric, pipeline.training.quantile, pipeline.training.loss_kind) == (
        "quantileLoss",
        0.9,
        "quantile",
    )
    assert list(pipeline.families) == ["gradient_boosted_trees"]
    assert list(pipeline.left_out) == ["linear_regression", "random_forest"]
    absolute = load_spec(write(changed(*REGRESSION, MODELS, "  loss: absolute\n")), environ={}).pipeline
    assert (absolute.selection_metric, absolute.training.quantile) == ("mae", None)
    plain = load_spec(write(changed()), environ={}).pipeline
    assert plain.left_out == {} and plain.selection_metric == "areaUnderPR"
