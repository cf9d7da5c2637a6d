"""What a comparison of two versions needs Spark for: both measured on the same test rows, and the predictions that changed side."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.errors import TidemillError
from tidemill.extensions import search_beside
from tidemill.lake import Lake
from tidemill.model_registry import load_model
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.session import child_session
from tidemill.spec import Spec
from tidemill.steps.result import StepContext
from tidemill.workflow.error_messages import format_error
from tidemill.workflow.reproduction.comparison import MetricChange, VersionComparison
from tidemill.workflow.reproduction.models import compare_predictions

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from tidemill.evaluation import Measurement
    from tidemill.evaluation.estimates import Estimates
    from tidemill.model_registry import Manifest

_TOLERANCE = 1e-9


def add_common_rows(comparison: VersionComparison, spec: Spec, lake: Lake, spark: SparkSession) -> VersionComparison:
    """Return the comparison with metrics and predictions of both versions on their common test rows.

    These are the rows of the later dataset whose key is a test row in both datasets. Differences of metrics are b - a, paired: the draws of
    both resample the same rows. Where the two cannot score the same rows, a note says why, and the stored metrics stay.
    """
    try:
        with search_beside(spec.folder):
            return _measure(comparison, spec, lake, child_session(spark))
    except TidemillError as error:
        return dataclasses.replace(comparison, notes=(*comparison.notes, f"not compared on the same rows: {format_error(error)}"))


def _measure(comparison: VersionComparison, spec: Spec, lake: Lake, spark: SparkSession) -> VersionComparison:
    pipeline = spec.pipeline
    models = [load_model(lake, pipeline.pipeline, side.model_version) for side in (comparison.a, comparison.b)]
    rows, version, notes = _select_common_rows(spec, lake, spark, models[0][1], models[1][1])
    inputs = {pipeline.dataset_table: version}
    context = StepContext(spark, spec, lake, inputs, "compare", "evaluate")
    with cache_frame(rows) as cached:
        evaluator = pipeline.task.load("evaluator")(context, cached, list(pipeline.own_metrics))
        count = evaluator.count_rows(models[1][1])
        a, b = (evaluator.measure(model, manifest) for model, manifest in models)
        test = cached.where(F.col("split") == "test")
        predictions = compare_predictions(test, pipeline.dataset.key, models[0], models[1], _TOLERANCE)
    metrics = tuple(_pair(None, a.estimates, b.estimates))
    slices = tuple(_pair_slices(a, b, comparison.b.metric)) or comparison.slices
    notes = [*comparison.notes, *notes]
    return dataclasses.replace(comparison, metrics=metrics, slices=slices, rows=count, predictions=predictions, notes=tuple(notes))


def _select_common_rows(spec: Spec, lake: Lake, spark: SparkSession, first: Manifest, second: Manifest) -> tuple[DataFrame, int, list[str]]:
    """Return the later dataset without the test rows that are not test rows of the earlier one, its version, and notes."""
    table, key = spec.pipeline.dataset_table, spec.pipeline.dataset.key
    earlier, later = sorted((first.dataset_version, second.dataset_version))
    rows = lake.read(spark, table, later)
    if earlier == later:
        return rows, later, []
    try:
        other = lake.read(spark, table, earlier)
    except TidemillError:
        return rows, later, [f"{table} version {earlier} is gone: some of the test rows may be training rows of one of the models"]
    keys = [column(name) for name in key]
    tests = other.where(F.col("split") == "test").select(*keys)
    train, test = (rows.where(F.col("split") == split) for split in ("train", "test"))
    return train.unionByName(test.join(tests, list(key), "left_semi").select(*map(column, rows.columns))), later, []


def _pair(part: str | None, a: Estimates, b: Estimates) -> Iterator[MetricChange]:
    """Yield each metric that both have, with the paired difference and its interval where there are draws."""
    for metric in (name for name in a if name in b):
        difference = b[metric] - a[metric]
        lower, upper = difference.ends
        values = [each.number for each in (a[metric], b[metric], difference)]
        yield MetricChange(metric, part, values[0], values[1], values[2], lower, upper)


def _pair_slices(a: Measurement, b: Measurement, metric: str) -> Iterator[MetricChange]:
    for name in sorted(a.slices.keys() & b.slices.keys()):
        sides = [{metric: each.slices[name].estimates[metric]} for each in (a, b) if metric in each.slices[name].estimates]
        if len(sides) == 2:
            yield from _pair(name, *sides)
