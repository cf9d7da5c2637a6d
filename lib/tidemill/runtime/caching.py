"""Caches that are freed: DataFrames for a ``with`` block, and results that a Python worker needs again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@contextmanager
def cached(df: DataFrame) -> Iterator[DataFrame]:
    """Persist ``df`` (memory, then disk) inside the block and free it behind it, also when the block raises."""
    df.persist()
    try:
        yield df
    finally:
        df.unpersist()


@contextmanager
def one_core() -> Iterator[None]:
    """Keep libraries to the one core that a task has: their own threads would take those of other tasks."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


Made = TypeVar("Made")

_MOST = 4
_KEPT: OrderedDict[str, Any] = OrderedDict()


def kept(key: str, make: Callable[[], Made]) -> Made:
    """Return what ``make`` gave for ``key``, making it where it is not among the last few; an empty key keeps nothing."""
    if not key:
        return make()
    if key not in _KEPT:
        while len(_KEPT) >= _MOST:
            _KEPT.popitem(last=False)
        _KEPT[key] = make()
    _KEPT.move_to_end(key)
    made: Made = _KEPT[key]
    return made
