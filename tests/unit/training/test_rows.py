"""Folds that lack a class."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tidemill.errors import StepError
from tidemill.training.rows import _check_classes

LABELS = SimpleNamespace(classes=(False, True), column="late", is_learned=True)
RULE = SimpleNamespace(is_expanding=False, remedy_for_missing_classes="add rows")
CLASSES = {0: {0, 1}, 1: {0}, 2: {0, 1}}


@pytest.mark.parametrize("metric", ["areaUnderPR", "areaUnderROC", "averagePrecision", "recall", "specificity"])
def test_a_fold_without_a_class_is_refused_for_a_metric_that_needs_both(metric: str) -> None:
    with pytest.raises(
        StepError, match=f"fold 1 has no row with late = True, expected both classes in every fold since {metric} needs them"
    ):
        _check_classes(CLASSES, LABELS, metric, RULE)  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["logLoss", "accuracy", "balancedAccuracy", "precision"])
def test_a_fold_without_a_class_has_the_other_metrics(metric: str) -> None:
    assert _check_classes(CLASSES, LABELS, metric, RULE) == ()  # type: ignore[arg-type]
