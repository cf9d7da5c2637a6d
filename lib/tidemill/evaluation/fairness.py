"""Fairness: how far selection, true positive and false positive rates differ between the groups of a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tidemill.evaluation.estimates import Estimate, Estimates

RATES: Mapping[str, str] = {"selectionRate": "selectionRate", "truePositiveRate": "recall", "falsePositiveRate": "falsePositiveRate"}
"""The rates that are compared → the metric of a slice."""


def compare_groups(groups: Sequence[Estimates]) -> dict[str, Estimate]:
    """Return the difference of the greatest and the smallest rate of the groups, and the ratio of the smallest to the greatest.

    A group in which a rate is undefined, such as the true positive rate without positive rows, is left out of that rate. The draws of all
    groups resample the same rows.

    Source: fairlearn's metrics ``demographic_parity_difference`` and ``equalized_odds_difference``, and their ratios.
    """
    estimates = {}
    for name, metric in RATES.items():
        rates = [group[metric] for group in groups if np.isfinite(group[metric].value)]
        if len(rates) < 2:
            continue
        values = np.array([rate.value for rate in rates])
        has_draws = all(rate.draws is not None for rate in rates)
        draws = np.array([rate.draws for rate in rates]) if has_draws else None
        estimates[f"{name}Difference"] = Estimate(float(np.ptp(values)), None if draws is None else _spread(draws))
        estimates[f"{name}Ratio"] = Estimate(_ratio(values), None if draws is None else _ratios(draws))
    both = [f"{name}Difference" for name in ("truePositiveRate", "falsePositiveRate")]
    if all(name in estimates for name in both):
        estimates["equalizedOddsDifference"] = _greatest([estimates[name] for name in both])
    return estimates


def _spread(draws: np.ndarray) -> np.ndarray:
    spread: np.ndarray = np.nanmax(draws, axis=0) - np.nanmin(draws, axis=0)
    return spread


def _ratio(values: np.ndarray) -> float:
    return float(values.min() / values.max()) if values.max() > 0 else 1.0


def _ratios(draws: np.ndarray) -> np.ndarray:
    highest = np.nanmax(draws, axis=0)
    return np.where(highest > 0, np.nanmin(draws, axis=0) / np.where(highest > 0, highest, 1.0), 1.0)


def _greatest(estimates: Sequence[Estimate]) -> Estimate:
    draws = [each.draws for each in estimates if each.draws is not None]
    return Estimate(max(each.value for each in estimates), np.max(draws, axis=0) if len(draws) == len(estimates) else None)
