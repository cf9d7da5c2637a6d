"""Custom metrics: what is accepted, and what is said of those that do not fit or fail."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from tidemill.errors import StepError
from tidemill.evaluation.arrays import compute_array_metrics
from tidemill.tasks import METRICS, Metric
from tidemill.tasks.metrics import _accept

LABELS = np.array([0.0, 1.0, 1.0])
SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])


def compute(metric: Metric) -> dict[str, float]:
    return compute_array_metrics(LABELS, SCORES, "binary", own=[metric])


def test_a_metric_is_called_by_the_name_in_the_spec() -> None:
    declared = Metric(name="accuracy", tasks=frozenset({"binary"}), value=lambda counts: -1.0, is_built_in=True)
    metric = _accept("functions.MINE", declared)
    assert (metric.name, metric.is_built_in) == ("functions.MINE", False)
    values = compute(metric)
    assert values["functions.MINE"] == -1.0
    assert values["accuracy"] == pytest.approx(2 / 3)


def test_a_built_in_metric_stays_as_it_is() -> None:
    assert METRICS.get("silhouette").is_built_in
    assert not METRICS.get("silhouette").needs_label


class Base:
    tasks: Any = ("binary",)

    def value(self, counts: Any) -> Any:
        return 1.0


class OfClusters(Base):
    tasks = ("clustering",)


class UncallableTerms(Base):
    terms = "cost"


class WithoutValue(Base):
    value = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (OfClusters, "its `tasks` name clustering, expected some of binary, multiclass, regression, anomaly"),
        (UncallableTerms, r"its `terms` must be a method `terms\(rows\)`, found an object of str"),
        (WithoutValue, r"expected `tasks`, a tuple of names such as 'binary', and a method `value\(counts\)`"),
        (Metric(name="m", tasks=frozenset({"binary"})), r"and a method `value\(counts\)`, found an object of Metric"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(declared: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        _accept("functions.Mine", declared)


class ValueFails(Base):
    def value(self, counts: Any) -> Any:
        return counts.sums["cost"]


class ValueIsText(Base):
    def value(self, counts: Any) -> Any:
        return "high"


class TermsFail(Base):
    def terms(self, rows: Any) -> Any:
        return {"cost": rows.labels}


class TermsAreShort(Base):
    def terms(self, rows: Any) -> Any:
        return {"cost": rows.label[1:]}


class TermIsOneNumber(Base):
    def terms(self, rows: Any) -> Any:
        return {"cost": 1.0}


class TermsAreNoMapping(Base):
    terms: ClassVar = staticmethod(lambda rows: rows.label)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (ValueFails, "the metric 'functions.Mine' failed: KeyError: 'cost'"),
        (ValueIsText, "the metric 'functions.Mine' failed: ValueError: could not convert string to float"),
        (TermsFail, "the terms of the metric 'functions.Mine' failed: AttributeError: .* has no attribute 'labels'"),
        (
            TermsAreShort,
            r"the term 'cost' of the metric 'functions.Mine' must be a number for each of 3 rows, found an array of shape \(2,\)",
        ),
        (TermIsOneNumber, r"must be a number for each of 3 rows, found an array of shape \(\)"),
        (TermsAreNoMapping, "the terms of the metric 'functions.Mine' failed: AttributeError"),
    ],
)
def test_a_failure_names_the_metric(declared: Any, message: str) -> None:
    with pytest.raises(StepError, match=message):
        compute(_accept("functions.Mine", declared))
