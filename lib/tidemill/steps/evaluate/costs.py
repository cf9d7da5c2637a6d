"""The costs that gates name: the time to score rows, and the size of a model's files."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from tidemill.evaluation.gates import COSTS, MetricReference
from tidemill.model_registry.predict import predict
from tidemill.runtime.caching import cache_frame

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

    from tidemill.model_registry import Manifest

    Model: TypeAlias = tuple[PipelineModel, Manifest]

_MOST_ROWS, _SEED = 100_000, 7


def measure_costs(references: Sequence[MetricReference], models: Mapping[str, Model], test: DataFrame) -> dict[str, dict[str, float]]:
    """Measure the costs that the references name, of the models by owner; ``test`` are the rows to score."""
    needed = {(reference.owner, reference.metric) for reference in references if reference.is_cost and reference.owner in models}
    costs: dict[str, dict[str, float]] = {owner: {} for owner in models}
    for owner, name in sorted(needed):
        costs[owner][name] = _MEASURES[name](models[owner], test)
    return costs


def measure_score_time(model: Model, test: DataFrame) -> float:
    """Return the milliseconds to score 1,000 rows; NaN without rows.

    About 100,000 cached rows at most are scored: once to warm up, then the faster of two passes counts. The start of a Spark job is part of
    it, so that few rows seem to cost more each.
    """
    rows = test.count()
    sample = test if rows <= _MOST_ROWS else test.sample(_MOST_ROWS / rows, seed=_SEED)
    with cache_frame(sample) as scored:
        count = scored.count()
        if not count:
            return math.nan
        _, *seconds = [_time_scoring(model, scored) for _ in range(3)]
        return min(seconds) * 1000 / (count / 1000)


def measure_model_size(model: Model, _: DataFrame) -> float:
    """Return the MB (10^6 bytes) of the model's files by its manifest; NaN for models of earlier releases, which list no files."""
    files = model[1].files
    return sum(int(size_and_digest.split()[0]) for size_and_digest in files.values()) / 1e6 if files else math.nan


def _time_scoring(model: Model, rows: DataFrame) -> float:
    started = time.perf_counter()
    predict(*model, rows).write.format("noop").mode("overwrite").save()
    return time.perf_counter() - started


_MEASURES: Mapping[str, Callable[[Model, DataFrame], float]] = dict(zip(COSTS, (measure_score_time, measure_model_size), strict=True))
