"""Comparison of trials and of models: metrics fold by fold, predictions row by row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.families import IN_TASKS, ON_CLUSTER
from tidemill.lake.ops import TrialRow
from tidemill.model_registry.predict import predict

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import Column, DataFrame

    from tidemill.model_registry import Manifest

TOLERANCES = {IN_TASKS: 1e-12, ON_CLUSTER: 1e-8}
"""The greatest relative difference that counts as equal, by the place of a fit: in one Spark task it is deterministic; MLlib adds up the
sums of partitions in the order in which they arrive."""
_SAMPLES = 5


def tolerance_of(rows: Sequence[TrialRow]) -> float:
    """Return the tolerance for models and metrics that the engines of these trials fitted."""
    return max(TOLERANCES[row.engine or ON_CLUSTER] for row in rows)


@dataclass(frozen=True)
class TrialComparison:
    """How many fits were compared, the greatest difference of a metric, and a sentence on each fit that differs."""

    fits: int
    greatest: float
    differences: tuple[str, ...]


def compare_trials(before: Sequence[TrialRow], now: Sequence[TrialRow]) -> TrialComparison:
    """Compare the metric of each trial on each fold with the recorded one; both within the tolerance of the trial's engine."""
    new = {(row.trial, row.fold): row for row in now}
    greatest, differences = 0.0, []
    for row in before:
        other = new.get((row.trial, row.fold))
        what = f"trial {row.trial} ({row.family}), fold {row.fold}"
        if other is None:
            differences.append(f"{what}: not fitted again")
        elif (row.value is None) != (other.value is None) or row.state != other.state:
            differences.append(f"{what}: {row.state} with {_show(row.value)} then, {other.state} with {_show(other.value)} now")
        elif row.value is not None and other.value is not None:
            distance = abs(row.value - other.value)
            greatest = max(greatest, distance)
            if distance > tolerance_of([row]) * max(1.0, abs(row.value)):
                differences.append(f"{what}: {row.metric} {row.value:.12g} then, {other.value:.12g} now")
    return TrialComparison(len(before), greatest, tuple(differences))


def _show(value: float | None) -> str:
    return "no value" if value is None else f"{value:.12g}"


@dataclass(frozen=True)
class PredictionComparison:
    """The rows that both models scored, how many predictions differ, how many changed side, the greatest difference, and keys of a few.

    A row changed side where its predicted class differs; of numbers there are no sides. ``greatest`` is the greatest absolute difference of
    probabilities, or of predicted numbers relative to their size where that is above 1.
    """

    rows: int
    differing: int
    changed_side: int
    greatest: float
    sample: tuple[str, ...]


def compare_predictions(
    frame: DataFrame, key: Sequence[str], first: tuple[PipelineModel, Manifest], second: tuple[PipelineModel, Manifest], tolerance: float
) -> PredictionComparison:
    """Score the rows of ``frame`` with two models and compare the predictions; one pass, and only counts and a few keys are collected."""
    outputs = ["prediction", "probability", "score_error"]
    inputs = [name for name in frame.columns if name not in outputs]
    scored = predict(first[0], first[1], frame.select(*[column(name) for name in inputs]))
    renamed = scored.select(*[column(name) for name in inputs], *[F.col(name).alias(f"_first_{name}") for name in outputs])
    both = predict(second[0], second[1], renamed)
    distance, differs, moved = _distances(both, first[1], tolerance)
    compared = both.select(*[column(name) for name in key], distance.alias("_distance"), differs.alias("_differs"), moved.alias("_moved"))
    counts = compared.agg(F.count("*"), F.count_if("_differs"), F.count_if("_moved"), F.max("_distance")).first()
    rows, differing, changed_side, greatest = counts if counts is not None else (0, 0, 0, None)
    shown: tuple[str, ...] = ()
    if differing:
        order = [F.desc("_moved"), F.desc_nulls_last("_distance"), *[column(name) for name in key]]
        sample = compared.where("_differs").orderBy(*order).limit(_SAMPLES).collect()
        shown = tuple(json.dumps({name: row[name] for name in key}, default=str) for row in sample)
    return PredictionComparison(int(rows), int(differing), int(changed_side), float(greatest or 0.0), shown)


def _distances(both: DataFrame, manifest: Manifest, tolerance: float) -> tuple[Column, Column, Column]:
    """Return the distance of two predictions, whether they differ, and whether the row changed side."""
    types = dict(both.dtypes)
    is_scored_alike = F.col("_first_score_error").isNull().eqNullSafe(F.col("score_error").isNull())
    same_label = F.col("_first_prediction").cast("string").eqNullSafe(F.col("prediction").cast("string"))
    a, b = F.col("_first_prediction"), F.col("prediction")
    if manifest.kind.predicts_number:
        distance = F.abs(a.cast("double") - b.cast("double")) / F.greatest(F.lit(1.0), F.abs(a.cast("double")))
        moved: Column = F.lit(False)
    else:
        moved = ~same_label
        p, q = F.col("_first_probability"), F.col("probability")
        is_array = types["probability"].startswith("array")
        distance = F.array_max(F.zip_with(p, q, lambda x, y: F.abs(x - y))) if is_array else F.abs(p - q)
    differs = ~is_scored_alike | moved | F.coalesce(distance > tolerance, F.lit(False))
    return distance, differs, moved


def describe_params(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return each parameter that differs, with both values."""
    return [f"{name}: {before.get(name)} → {now.get(name)}" for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
