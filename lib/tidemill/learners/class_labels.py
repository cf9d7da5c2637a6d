"""Classes of a label: their number in the metadata of the column, and one-vs-rest fits."""

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


_PARALLEL_FITS = 2

Result = TypeVar("Result")


def class_metadata(n_classes: int) -> dict[str, object]:
    """Return the metadata of a label column with its number of classes: MLlib needs no job to count them, and absent ones count too."""
    return {"ml_attr": {"type": "nominal", "num_vals": n_classes}}


def count_classes(dataset: DataFrame, label: str) -> int:
    """Return the number of classes in the metadata of the label."""
    return int(dataset.schema[label].metadata["ml_attr"]["num_vals"])


def list_set_params(estimator: Estimator) -> dict[str, object]:
    """Return the parameters that were set, by name."""
    return {param.name: value for param, value in estimator._paramMap.items()}


def fit_one_vs_rest(
    dataset: DataFrame, label: str, features: str, classes: Sequence[int], fit: Callable[[int, DataFrame], Result], also: Sequence[str] = ()
) -> list[Result]:
    """Call ``fit`` for each class with rows whose label is 1 for that class and 0 for the rest, two at a time; return the results.

    ``also`` names further columns of these rows.
    """

    def fit_one(index: int) -> Result:
        is_class = (F.col(label) == index).cast("double").alias(label, metadata=class_metadata(2))
        return fit(index, dataset.select(features, is_class, *also))

    # Each thread needs its own local properties, or their SQL executions mix.
    tasks = [inheritable_thread_target(dataset.sparkSession)(partial(fit_one, index)) for index in classes]
    with ThreadPoolExecutor(_PARALLEL_FITS) as pool:
        return list(pool.map(lambda task: task(), tasks))
