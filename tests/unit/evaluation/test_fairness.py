"""Differences and ratios of rates between groups, by their definition on the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tidemill.evaluation.estimates import Estimate
from tidemill.evaluation.fairness import compare_groups
from tidemill.evaluation.measurement import Pass, estimate_arrays
from tidemill.evaluation.row_kinds import ScoredRows
from tidemill.tasks import TaskKind

N = 4000


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(6)
    group = rng.choice(["a", "b", "c"], N, p=[0.5, 0.3, 0.2])
    p = np.clip(rng.beta(2, 3, N) + (group == "b") * 0.1, 0, 1)
    return pd.DataFrame({"group": group, "y": rng.random(N) < 0.4, "p": p, "yhat": p > 0.45})


def _estimates(part: pd.DataFrame, draws: int) -> dict[str, Estimate]:
    p = part.p.to_numpy()
    plan = Pass(TaskKind.BINARY, ScoredRows(), 2, draws)
    return estimate_arrays(part.y.to_numpy(), part.yhat.to_numpy(), np.column_stack([1 - p, p]), plan, units=part.index.to_numpy())


def test_rates_are_compared_as_fairlearn_defines_them(rows):
    compared = compare_groups([_estimates(part, 0) for _, part in rows.groupby("group")])
    selection = rows.groupby("group").yhat.mean()
    true_positive, false_positive = (rows[rows.y == label].groupby("group").yhat.mean() for label in (True, False))
    expected = {
        "selectionRateDifference": np.ptp(selection),
        "selectionRateRatio": selection.min() / selection.max(),
        "truePositiveRateDifference": np.ptp(true_positive),
        "truePositiveRateRatio": true_positive.min() / true_positive.max(),
        "falsePositiveRateDifference": np.ptp(false_positive),
        "falsePositiveRateRatio": false_positive.min() / false_positive.max(),
        "equalizedOddsDifference": max(np.ptp(true_positive), np.ptp(false_positive)),
    }
    assert {name: estimate.value for name, estimate in compared.items()} == pytest.approx(expected)


def test_the_interval_of_a_difference_is_about_as_wide_as_theory_says(rows):
    pair = rows[rows.group != "c"]
    difference = compare_groups([_estimates(part, 500) for _, part in pair.groupby("group")])["selectionRateDifference"]
    rates, sizes = pair.groupby("group").yhat.mean(), pair.groupby("group").size()
    assert difference.draws.std() == pytest.approx(np.sqrt((rates * (1 - rates) / sizes).sum()), rel=0.25)
    assert difference.lower < difference.value < difference.upper


def test_a_group_without_positive_rows_has_no_part_in_the_true_positive_rate(rows):
    changed = rows.assign(y=rows.y & (rows.group != "c"))
    of_all, of_two = (
        compare_groups([_estimates(part, 0) for _, part in chosen.groupby("group")]) for chosen in (changed, changed[changed.group != "c"])
    )
    assert of_all["truePositiveRateDifference"].value == of_two["truePositiveRateDifference"].value
    assert 0 < of_all["truePositiveRateDifference"].value < 1  # a rate of 0 would make it the greatest rate
