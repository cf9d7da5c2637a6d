"""The block `evaluation`: custom metrics, slices and fairness that cannot be measured are named with their line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidemill.spec import load_spec


def evaluation(key: str, value: str) -> tuple[str, str]:
    """Return a replacement of the good spec."""
    return "monitoring:\n", f"evaluation:\n  {key}: {value}\nmonitoring:\n"


@pytest.mark.parametrize(
    ("key", "value", "path", "message"),
    [
        ("metrics", '{profit: "sum(distance) + distance"}', "metrics.profit", "the column distance is outside of sum"),
        ("metrics", '{profit: "sum("}', "metrics.profit", "does not parse"),
        ("metrics", '{f1: "sum(distance)"}', "metrics.f1", "f1 is a metric of tidemill; choose another name"),
        ("metrics", "{cost: {python: nowhere.Cost}}", "metrics.cost.python", "nowhere"),
        ("slices", "[carrier, [carrier, is_late]]", "slices.1", "is_late is the label"),
        ("slices", "[{distance: [500, 100]}]", "slices.0", "edges of bins must increase"),
        ("slices", "[[carrier, origin, dest]]", "slices.0", "at most 2 items"),
        ("bootstrap", "-1", "bootstrap", "at least 0"),
    ],
)
def test_what_cannot_be_measured_is_named(faults: Callable, changed: Callable, key: str, value: str, path: str, message: str) -> None:
    text = changed(*evaluation(key, value))
    [(line, actual, told)] = faults(text)
    assert actual == f"evaluation.{path}"
    assert message in told
    assert key in text.splitlines()[line - 1]


def test_slices_pairs_bins_and_metrics_are_accepted(write: Callable, changed: Callable) -> None:
    lines = [
        "evaluation:",
        "  slices: [carrier, [carrier, origin], {distance: [0, 500]}]",
        '  metrics: {profit: "sum(CASE WHEN prediction AND label THEN 5 ELSE -1 END)"}',
        "  fairness: {by: [origin]}",
        "monitoring:\n",
    ]
    spec = load_spec(write(changed("monitoring:\n", "\n".join(lines)))).pipeline
    assert spec.evaluation.slice_columns == ["carrier", "origin", "distance"]
