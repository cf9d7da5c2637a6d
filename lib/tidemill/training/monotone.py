"""Monotone constraints: from raw columns to the slots of the trees' vectors."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.ml import PipelineModel

from tidemill.errors import Fault, SpecError, did_you_mean
from tidemill.features import FeaturePlan, slot_names

_SIGNS = {"increasing": 1, "decreasing": -1}


def list_directions(features: PipelineModel, declared: Mapping[str, str]) -> tuple[int, ...]:
    """Return 1, -1 or 0 (unconstrained) for each slot of ``features_tree``; nothing where no column is declared.

    A column whose slot was not selected has no constraint.
    """
    if not declared:
        return ()
    return tuple(_SIGNS[declared[name]] if name in declared else 0 for name in slot_names(features, "tree"))


def check_monotone(plan: FeaturePlan, declared: Mapping[str, str], file: str) -> None:
    """Refuse columns that are not a single numeric feature, or that other slots are made of too.

    Raises:
        SpecError: there are such columns; all of them are named.
    """
    faults = [Fault(file, None, f"training.monotone.{column}", why) for column in declared if (why := _reason(plan, column))]
    if faults:
        raise SpecError(faults)


def _reason(plan: FeaturePlan, column: str) -> str | None:
    groups = plan.groups_of(column)
    if groups == ["numeric"]:
        return None
    if not groups:
        return f"{column!r} is no feature{did_you_mean(column, plan.columns)}; name a numeric column, or leave it out"
    return f"{column!r} is in `features.{groups[-1]}`, expected one number of `features.numeric` and of no other group"
