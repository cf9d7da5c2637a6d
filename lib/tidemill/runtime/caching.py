"""Caches that are freed: DataFrames for a ``with`` block, and results that a Python worker needs again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@contextmanager
def cache_frame(df: DataFrame) -> Iterator[DataFrame]:
    """Cache a DataFrame (memory, then disk) for the duration of a ``with`` block; it is freed also when the block raises."""
    df.persist()
    try:
        yield df
    finally:
        df.unpersist()


@contextmanager
def limit_to_one_thread() -> Iterator[None]:
    """Limit numeric libraries to one thread in the block: a Spark task has one core, and more threads would slow other tasks."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


Result = TypeVar("Result")


class ResultCache:
    """Keeps the last few results that took long to compute."""

    def __init__(self, capacity: int) -> None:
        """Start empty; ``capacity`` results are kept."""
        self._capacity = capacity
        self._results: OrderedDict[str, Any] = OrderedDict()

    def get(self, key: str, compute: Callable[[], Result]) -> Result:
        """Return the result of ``key``, computing it where it is not among the last ones; with an empty key nothing is kept."""
        if not key:
            return compute()
        if key not in self._results:
            while len(self._results) >= self._capacity:
                self._results.popitem(last=False)
            self._results[key] = compute()
        self._results.move_to_end(key)
        result: Result = self._results[key]
        return result


WORKER_CACHE = ResultCache(capacity=4)
"""The cache of this Python worker of Spark: tasks that run in it one after the other share what they loaded."""
