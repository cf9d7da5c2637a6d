"""Classes of a label: how many there are, and one fit for each against the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pyspark import inheritable_thread_target
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.ml import Estimator
    from pyspark.sql import DataFrame


_SIDE_BY_SIDE = 2

Fitted = TypeVar("Fitted")


def class_metadata(n_classes: int) -> dict[str, object]:
    """Return the metadata of a label column that tells MLlib the number of classes, which saves it a job and finds absent ones."""
    return {"ml_attr": {"type": "nominal", "num_vals": n_classes}}


def class_count(dataset: DataFrame, label: str) -> int:
    """Return how many classes the metadata of the label tell of."""
    return int(dataset.schema[label].metadata["ml_attr"]["num_vals"])


def set_parameters(estimator: Estimator) -> dict[str, object]:
    """Return the parameters that were set, by name."""
    return {param.name: value for param, value in estimator._paramMap.items()}


def against_the_rest(
    dataset: DataFrame, label: str, features: str, classes: Sequence[int], fit: Callable[[int, DataFrame], Fitted], also: Sequence[str] = ()
) -> list[Fitted]:
    """Return what ``fit`` makes of each class, given it and the rows whose label is 1 for it and 0 for the rest; two at a time.

    ``also`` names further columns that the rows keep.
    """

    def fit_one(index: int) -> Fitted:
        is_class = (F.col(label) == index).cast("double").alias(label, metadata=class_metadata(2))
        return fit(index, dataset.select(features, is_class, *also))

    # Wrapped one by one: each thread needs properties of its own, or their SQL executions mix.
    tasks = [inheritable_thread_target(dataset.sparkSession)(partial(fit_one, index)) for index in classes]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        return list(pool.map(lambda task: task(), tasks))
